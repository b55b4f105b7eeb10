"""Whose turn it is to write on a connection of HTTP/2: the most urgent first (RFC 9218), the others one after the other."""

from __future__ import annotations

import heapq
from typing import Any, Final

from gevent import get_hub
from gevent.event import Event

from smartedge.http.wire import WireTimeout
from smartedge.http2.stream import Stream

HEAD_START_S: Final = 0.001
"""How long a stream that has just sent may take to come with more, before one that is less urgent has its turn."""

MOST_URGENT: Final = -1
"""More than any stream may be."""


class StreamTurns:
    """Those who wait to write on one Link, which owns this. are_taken: somebody has the turn."""

    __slots__ = ("_count", "_kept", "_waiting", "are_taken")

    def __init__(self) -> None:
        self.are_taken = False
        self._waiting: list[tuple[int, int, Event]] = []
        self._count = 0
        self._kept: Any = None  # runs while the turn is kept for the stream whose it was

    def __len__(self) -> int:
        return len(self._waiting)

    def wait(self, urgency: int, timeout_s: float | None = None) -> None:
        """Wait until the others have had theirs; that they get on, the wire sees to. Raises WireTimeout."""
        if self._kept is not None and self._waiting and urgency < self._waiting[0][0]:
            self._keep_no_more()
            return
        self._count += 1
        mine = Event()
        heapq.heappush(self._waiting, (urgency, self._count, mine))
        try:
            mine.wait(timeout_s)
        except BaseException:
            if mine.is_set():
                self.hand_on()
            raise
        finally:
            if not mine.is_set():
                self._waiting = [one for one in self._waiting if one[2] is not mine]
                heapq.heapify(self._waiting)
        if not mine.is_set():
            raise WireTimeout("nothing could be sent in time")

    def hand_on(self, after: Stream | None = None) -> None:
        """Give the turn to the next one; after: the stream whose turn it was, which may be more urgent and have more to come."""
        self._keep_no_more()
        waiting = self._waiting
        if not waiting:
            self.are_taken = False
        elif after is not None and not after.is_done and after.urgency < waiting[0][0]:
            self._kept = get_hub().loop.timer(HEAD_START_S)
            self._kept.start(self.hand_on)
        else:
            heapq.heappop(waiting)[2].set()

    def end(self) -> None:
        """Wake all: there is nothing to write on any more."""
        self._keep_no_more()
        while self._waiting:
            heapq.heappop(self._waiting)[2].set()

    def _keep_no_more(self) -> None:
        if self._kept is not None:
            self._kept.close()
            self._kept = None
