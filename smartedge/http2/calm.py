"""How much of what is not work a peer may have us do on one HTTP/2 connection, before it is told to calm down.

Pings, settings, priorities, empty frames, window updates and requests that are taken back cost the peer next to nothing, and us
time (CVE-2019-9511 to 9518, CVE-2023-44487, CVE-2025-8671). Each takes from a bucket that time and work fill again: frames from
one, and what cost a request from another, which is filled by answers alone.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Final, NoReturn

from smartedge.http2.frames import ENHANCE_YOUR_CALM, LinkError

MOST: Final = 2000.0
PER_S: Final = 100.0
"""Frames: a bucket's size, and how much of it fills again in a second."""

WORK: Final = 2.0
"""What an answer fills again. What a client sends fills nothing: it pays for floods with frames of a byte else."""

PER_PIECE: Final = 20.0
"""What a frame of an answer's body fills again: two windows are opened for it, often in several pieces (HAProxy does so 2.6 times
a frame). As with Envoy (max_inbound_window_update_frames_per_data_frame_sent, 10 for each of the two).
"""

MOST_RESETS: Final = 500.0
RESETS_PER_S: Final = 25.0
"""Streams that end before their answer, whoever has ended them: at once, and for ever."""

ANSWERED: Final = 0.5
"""What an answer fills again: two that were asked for and given, for one that was not waited for."""


class Calm:
    """The buckets of one connection; owned by its Link.

    on_excess: told which kind of frame it was that emptied one. is_lenient: the peer is a backend, whose windows for uploads and
    resets nobody counts; only what has no bound of its own (a cost without end) ends its connection.
    """

    __slots__ = ("_at", "_is_lenient", "_left", "_on_excess", "_resets_at", "_resets_left")

    def __init__(self, now: float, on_excess: Callable[[str], None], *, is_lenient: bool = False) -> None:
        self._at = self._resets_at = now
        self._left = MOST
        self._resets_left = MOST_RESETS
        self._on_excess = on_excess
        self._is_lenient = is_lenient

    def take(self, kind: str, now: float, cost: float = 1.0) -> None:
        """Take for a frame that is no work; raises LinkError (ENHANCE_YOUR_CALM) where there were too many."""
        if self._is_lenient and cost < inf:
            return
        self._left = min(MOST, self._left + (now - self._at) * PER_S) - cost
        self._at = now
        if self._left < 0:
            self.exceeded(kind)

    def take_back(self, now: float) -> None:
        """Take for a stream that has ended before its answer; raises as `take` does."""
        if self._is_lenient:
            return
        self._resets_left = min(MOST_RESETS, self._resets_left + (now - self._resets_at) * RESETS_PER_S) - 1.0
        self._resets_at = now
        if self._resets_left < 0:
            self.exceeded("reset")

    def worked(self) -> None:
        """Fill for a frame of a body that was sent."""
        self._left += PER_PIECE

    def answered(self) -> None:
        """Fill for a stream that was asked for and answered."""
        self._left += WORK
        self._resets_left += ANSWERED

    def exceeded(self, kind: str) -> NoReturn:
        """End the connection for too much of something, whatever the buckets hold: raises LinkError."""
        self._on_excess(kind)
        raise LinkError(ENHANCE_YOUR_CALM, f"too much of a kind that is no work: {kind}")
