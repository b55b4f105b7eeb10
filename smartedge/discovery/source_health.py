"""How each source is, as one worker, which asks them, tells the others: a file in the state directory, replaced whole."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from smartedge.config.private_file import write_private

State = Literal["fresh", "stale", "never"]


@dataclass(frozen=True, slots=True)
class SourceHealth:
    """One source of one service. state: "fresh" while what is in use is what the source says, "never" if nothing was ever known.

    answered_at: time of its last good answer, on the monotonic clock that all processes of a machine have; None for never.
    errors: answers, and entries in answers, that could not be used. problem: what is wrong now, None if nothing is. backends: how
    many are in use.
    """

    service: str
    source: str
    state: State
    answered_at: float | None
    errors: int
    problem: str | None
    backends: int

    def age_s(self, now: float) -> float | None:
        """Return how old what it has found is; None if it never has."""
        return None if self.answered_at is None else max(now - self.answered_at, 0.0)


class HealthFile:
    """What the worker that leads writes, and the others read; owned by a `Discovery`. path: None for a worker that is alone."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._text = ""

    def write(self, healths: Sequence[SourceHealth]) -> None:
        """Replace it, if it says something else; a full disk leaves the others with what they know."""
        text = json.dumps([asdict(one) for one in healths])
        if self._path is None or text == self._text:
            return
        with contextlib.suppress(OSError):
            write_private(self._path, text.encode(), sync=False)
            self._text = text

    def read(self) -> list[SourceHealth]:
        """Return what it says; nothing where it cannot be read."""
        if self._path is None:
            return []
        try:
            return [SourceHealth(**one) for one in json.loads(self._path.read_bytes())]
        except (OSError, ValueError, TypeError):
            return []
