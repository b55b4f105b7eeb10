"""What the workers of a node know of their cluster: the one that leads writes it down in the state directory, all read it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from smartedge.cluster.errors import Unavailable
from smartedge.workers.replaced_file import replace_text, version_of

LIVE_S: Final = 2.0
"""How long a write waits for etcd to be followed again."""

_POLL_S: Final = 0.01


@dataclass(frozen=True, slots=True)
class News:
    """What is known; replaced as a whole.

    state: whether it is what etcd says now. heard_at: when etcd was last heard of, by the machine's monotonic clock, None for
    never. problem: why it is not live, or why this node is not among the nodes. cluster_id, generation, by, at: of the
    configuration in the key, 0 for none; refused: why this node does not use that one. cards: of the nodes that live, by
    name. sticky: the secrets of sticky cookies, newest first, in hexadecimal digits.
    """

    state: Literal["live", "stale"] = "stale"
    heard_at: float | None = None
    problem: str | None = None
    cluster_id: str = ""
    generation: int = 0
    by: str = ""
    at: float = 0.0
    refused: str | None = None
    cards: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    sticky: tuple[str, ...] = ()

    @property
    def nodes(self) -> int:
        """How many nodes live; 1 before this one knows of any."""
        return max(1, len(self.cards))

    @property
    def sticky_secrets(self) -> tuple[bytes, ...]:
        """The secrets as they are used."""
        return tuple(bytes.fromhex(one) for one in self.sticky)


class ClusterNews:
    """The news of one worker; owned by its ClusterNode, which looks many times a second.

    directory: where the workers of this node meet, None for a process alone.
    """

    def __init__(self, directory: Path | None) -> None:
        self.newest = News()
        self._path = None if directory is None else directory / "cluster.json"
        self._read: object = None

    def look(self) -> bool:
        """Read what the leader has written since; say whether there was something."""
        if self._path is None or (version := version_of(self._path)) == self._read:
            return False
        try:
            said = json.loads(self._path.read_text())
            self.newest = News(**{**said, "sticky": tuple(said["sticky"])})
        except (OSError, ValueError, TypeError, KeyError):
            return False  # it is being removed; or another version has written it
        self._read = version
        return True

    def publish(self, news: News) -> None:
        """Have all workers know it; called by the one that leads. Raises OSError."""
        if news == self.newest:
            return
        if self._path is not None:
            replace_text(self._path, json.dumps(asdict(news)))
            self._read = version_of(self._path)
        self.newest = news

    def require_live(self, wait_s: float = LIVE_S) -> None:
        """Wait a moment for the cluster to be followed; raises Unavailable where it is not."""
        if not self.wait_for(lambda: self.newest.state == "live", wait_s):
            raise Unavailable(self.newest.problem or "the cluster has not been reached yet")

    def wait_for(self, condition: Callable[[], object], wait_s: float) -> bool:
        """Wait, for so long at most, until something is so by what the leader has written; return whether it is."""
        deadline = time.monotonic() + wait_s
        while not condition():
            if time.monotonic() >= deadline:
                return False
            time.sleep(_POLL_S)
            self.look()
        return True
