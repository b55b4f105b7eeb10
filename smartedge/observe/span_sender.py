"""Spans on their way to a collector: a bounded line, and a greenlet of its own that empties it. No request waits for either.

What the line cannot hold, or the collector does not take, is lost, and counted.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

import gevent
from gevent.event import Event

from smartedge.observe.spans import SpanRecord

log = logging.getLogger(__name__)

BATCH: Final = 256
"""Most spans that are sent at once."""

GATHER_S: Final = 1.0
"""How long spans wait for others, unless there are enough."""

PAUSES_S: Final = (1.0, 2.0, 4.0)
"""How long it waits before it sends the same once more, if that can be of use."""

FLUSH_S: Final = 3.0
"""How long the end of a worker, or of a collector's time, waits for what is still to be sent."""


class SendFailed(Exception):
    """Spans that a collector did not take; the text says why. again: it may do so later, after so many seconds at least."""

    def __init__(self, cause: str, *, again: bool = False, after_s: float = 0.0) -> None:
        super().__init__(cause)
        self.again = again
        self.after_s = after_s


class SpanSender:
    """Sends spans to one collector; part of a Setup, fed by `Traces`.

    place: the collector's URL, for people. post: sends spans and returns how many of them were refused; may take its time, and
    raises SendFailed. room: most that wait. sent, lost: so many so far.
    """

    def __init__(
        self,
        place: str,
        post: Callable[[Sequence[SpanRecord]], int],
        room: int,
        *,
        gather_s: float = GATHER_S,
        pauses_s: Sequence[float] = PAUSES_S,
    ) -> None:
        self._place = place
        self._post = post
        self._room = room
        self._gather_s = gather_s
        self._pauses_s = pauses_s
        self._waiting: deque[SpanRecord] = deque()
        self._some, self._enough, self._closing = Event(), Event(), Event()
        self._greenlet: Any = None
        self._failure: str | None = None
        self._told: str | None = None
        self._crowded = False
        self.sent = self.lost = 0

    def __repr__(self) -> str:
        return f"<SpanSender {len(self._waiting)} of {self._room} wait, {self.sent} sent, {self.lost} lost>"

    def put(self, spans: Sequence[SpanRecord]) -> None:
        """Have spans sent soon; or count them as lost, all those of a request together."""
        waiting = self._waiting
        if self._closing.is_set() or len(waiting) + len(spans) > self._room:
            self.lost += len(spans)
            self._crowded = True
            return
        waiting.extend(spans)
        if self._greenlet is None:
            self._greenlet = gevent.spawn(self._run)
        self._some.set()
        if len(waiting) >= BATCH:
            self._enough.set()

    def trouble(self) -> str | None:
        """Say what keeps spans from being sent, once for each kind of trouble, or that it is over; None for nothing new."""
        now, self._crowded = self._failure or ("crowded" if self._crowded else None), False
        told, self._told = self._told, now
        if now == told or (told is not None and now == "crowded"):
            self._told = told or now
            return None
        if now is None:
            return f"spans are sent to {self._place} again ({self.lost} were lost)" if told != "crowded" else None
        if now == "crowded":
            return f"spans come faster than {self._place} takes them; beyond {self._room} that wait they are lost, and counted"
        return f"spans cannot be sent to {self._place}: {now}; they are lost, and counted"

    def close(self, wait_s: float = FLUSH_S) -> None:
        """Send what is there, within so many seconds, and no more after that; what is left is lost."""
        self._closing.set()
        self._some.set()
        self._enough.set()
        if self._greenlet is not None:
            self._greenlet.join(wait_s)
            self._greenlet.kill()
        self.lost += len(self._waiting)
        self._waiting.clear()

    def _run(self) -> None:
        while True:
            self._some.wait()
            if not self._waiting:
                if self._closing.is_set():
                    return
                self._some.clear()
                continue
            self._enough.wait(self._gather_s)
            batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
            if len(self._waiting) < BATCH and not self._closing.is_set():
                self._enough.clear()
            left = len(batch)
            try:
                left -= self._send(batch)
            finally:  # whatever comes, a close that is over among it
                self.lost += left

    def _send(self, batch: Sequence[SpanRecord]) -> int:
        """Send a batch, more than once if need be; return how many the collector has taken."""
        for pause_s in (*self._pauses_s, None):
            try:
                refused = self._post(batch)
            except SendFailed as failed:
                self._failure = str(failed)
                if not failed.again or pause_s is None or self._closing.wait(max(pause_s, failed.after_s)):
                    return 0
            except Exception as error:
                log.exception("spans cannot be sent to %s", self._place)
                self._failure = str(error) or type(error).__name__
                return 0
            else:
                self._failure = "it refuses some of them" if refused else None
                self.sent += len(batch) - refused
                return len(batch) - refused
        return 0
