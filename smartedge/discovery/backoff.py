"""How long to wait before something that failed is tried again: longer each time, and never all at the same moment."""

from __future__ import annotations

from random import Random
from typing import Final

FIRST_S: Final = 0.5
MOST_S: Final = 30.0


class Backoff:
    """Waits that double from `first_s` up to `most_s`, each with equal jitter: between half of it and all.

    Owned by whoever tries again. rng: where chance comes from.
    """

    def __init__(self, rng: Random, first_s: float = FIRST_S, most_s: float = MOST_S) -> None:
        self._rng = rng
        self._first_s = first_s
        self._most_s = most_s
        self._wait_s = first_s

    def __repr__(self) -> str:
        return f"<Backoff up to {self._wait_s:g} s>"

    def next_wait_s(self) -> float:
        """Return how long to wait this time, in seconds."""
        wait_s = self._wait_s
        self._wait_s = min(self._most_s, wait_s * 2)
        return wait_s * self._rng.uniform(0.5, 1.0)

    def reset(self) -> None:
        """Begin again with the shortest wait: it has gone well."""
        self._wait_s = self._first_s
