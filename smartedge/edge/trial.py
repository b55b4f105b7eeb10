"""A configuration that is in use until somebody confirms it; else the edge goes back to the one before, by itself.

Where it is written down all workers find it, and in a cluster all nodes, so that whoever is left when one dies goes back.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from smartedge.config.private_file import write_private
from smartedge.edge.verdict import Measured, TrialLimits

WILL_KEY = "trial"


@dataclass(frozen=True, slots=True)
class Trial:
    """One of those; made by the Rollouts of the worker that reloaded.

    etag: of the configuration on trial, as If-Match has it. meaning: of the configuration itself, the same on all nodes.
    text: as it was sent, to be persisted when it is confirmed, None where it is kept already. before: the text to go back to.
    began, until: Unix time. limits: when to go back earlier. measured: what the one before did.
    """

    generation: int
    etag: str
    meaning: str
    text: str | None
    before: str
    began: float
    until: float
    limits: TrialLimits
    measured: Measured
    by: str | None
    author: str | None

    def to_json(self) -> dict[str, Any]:
        """All of it, to be written down."""
        return asdict(self)


def trial_of(document: object) -> Trial | None:
    """Read what `to_json` wrote; None where it is none of ours."""
    if not isinstance(document, Mapping):
        return None
    try:
        limits, measured = TrialLimits(**document["limits"]), Measured(**document["measured"])
        return Trial(**{**document, "limits": limits, "measured": measured})
    except (KeyError, TypeError):
        return None


class TrialPlace(Protocol):
    """Where the trial is written down: a file of the edge's state, or the cluster's will."""

    def read(self) -> Trial | None:
        """Return the one that is on."""

    def write(self, trial: Trial | None) -> None:
        """Begin one, or end it. Raises OSError or EdgeError."""

    def follow(self) -> None:
        """Keep up with what others have said; called once a second by the worker that leads. Raises OSError."""


class TrialFile:
    """In the state directory; in memory for a worker without one. Owned by the Rollouts; asked once a second."""

    def __init__(self, directory: Path | None) -> None:
        self._path = None if directory is None else directory / "trial.json"
        self._own: Trial | None = None
        self._known: tuple[object, Trial | None] = (None, None)

    def read(self) -> Trial | None:
        """Return the one that is on."""
        if self._path is None:
            return self._own
        try:
            status = self._path.stat()
            mark = status.st_ino, status.st_mtime_ns
            if mark != self._known[0]:
                self._known = mark, trial_of(json.loads(self._path.read_text(encoding="utf-8")))
        except (OSError, ValueError):
            self._known = None, None
        return self._known[1]

    def write(self, trial: Trial | None) -> None:
        """Begin one, or end it."""
        if self._path is None:
            self._own = trial
        elif trial is None:
            self._path.unlink(missing_ok=True)
        else:
            write_private(self._path, json.dumps(trial.to_json()).encode("utf-8", "surrogatepass"), sync=False)

    def follow(self) -> None:
        """There is nobody else: all read the same file."""


class TrialInCluster:
    """In the will of a cluster, which all nodes follow; owned by the Rollouts.

    mirror: what of it the workers of this node read. wishes: the will as the worker that leads knows it, None in others and
    before it is known. say: says something of it to all nodes.
    """

    def __init__(
        self,
        mirror: TrialFile,
        wishes: Callable[[], Mapping[str, Any] | None],
        say: Callable[[Mapping[str, Any]], None],
    ) -> None:
        self._mirror = mirror
        self._wishes = wishes
        self._say = say

    def read(self) -> Trial | None:
        """Return the one that is on."""
        return self._mirror.read()

    def write(self, trial: Trial | None) -> None:
        """Begin one, or end it. Raises ClusterTrouble."""
        self._say({WILL_KEY: None if trial is None else trial.to_json()})
        self._mirror.write(trial)

    def follow(self) -> None:
        """Keep up with what other nodes have said; called by the worker that leads."""
        wishes = self._wishes()
        if wishes is not None and (trial := trial_of(wishes.get(WILL_KEY))) != self._mirror.read():
            self._mirror.write(trial)
