"""How much of what is not work a peer may have us do on one HTTP/2 connection, before it is told to calm down.

Pings, settings, priorities, empty frames, window updates and requests that are taken back cost the peer next to nothing, and us
time (CVE-2019-9511 to 9518, CVE-2023-44487, CVE-2025-8671). Each takes from a bucket that time and work fill again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from smartedge.http2.frames import ENHANCE_YOUR_CALM, LinkError

MOST: Final = 2000.0
PER_S: Final = 100.0
"""A bucket's size, and how much of it fills again in a second."""

WORK: Final = 2.0
"""What an answer, or a frame of a body either way, fills again: a client that takes a large body opens its window for each."""

TAKEN_BACK: Final = 4.0
"""The cost of a stream that ends before its answer, whoever has ended it: 500 at once, 25 a second for ever."""


class Calm:
    """The bucket of one connection; owned by its Link. on_excess: told which kind of frame it was that emptied it."""

    __slots__ = ("_at", "_left", "_on_excess")

    def __init__(self, now: float, on_excess: Callable[[str], None]) -> None:
        self._at = now
        self._left = MOST
        self._on_excess = on_excess

    def take(self, kind: str, now: float, cost: float = 1.0) -> None:
        """Take for something that is no work; raises LinkError (ENHANCE_YOUR_CALM) where the bucket is empty."""
        self._left = min(MOST, self._left + (now - self._at) * PER_S) - cost
        self._at = now
        if self._left < 0:
            self._on_excess(kind)
            raise LinkError(ENHANCE_YOUR_CALM, f"too many frames of a kind that is no work: {kind}")

    def worked(self) -> None:
        """Fill for something that is."""
        self._left += WORK
