"""The lease: one use of one backend, from the pick to the last byte. The pool hands them out and has the lock."""

from __future__ import annotations

from typing import Any, Final, Literal

from smartedge.balancer.backend import Backend
from smartedge.balancer.breaker import BreakerChange
from smartedge.balancer.cells import (
    ABANDONED,
    EXCUSED,
    FAILED,
    FAILED_ANSWER,
    FAILED_CLOSED,
    FAILED_CONNECT,
    FAILED_STATUS,
    FAILED_TIMEOUT,
    IN_FLIGHT,
    LATENCY_SUM,
    OK,
    OUTRUN,
    latency_cell,
)
from smartedge.balancer.errors import Reason
from smartedge.balancer.evidence import OUTRUN_CODE
from smartedge.balancer.kinds import Holder
from smartedge.balancer.trace import TryKind, TryRecord

Outcome = Literal["ok", "failed", "abandoned", "outrun"]
"""How a lease ended. Abandoned: the client left, or the answer was of no more use. Outrun: a try begun later was first."""

TOO_MANY_REQUESTS: Final = 429

REASON_CELLS: Final[dict[Reason, int]] = {
    "connect": FAILED_CONNECT,
    "timeout": FAILED_TIMEOUT,
    "closed": FAILED_CLOSED,
    "answer": FAILED_ANSWER,
    "status": FAILED_STATUS,
}
"""Where failures are counted by their reason; what is in none of these failed for another one."""


class Lease:
    """One use of one backend, from the pick to the last byte; made by the Pool, whose lock guards it.

    Whoever takes it closes it: only `close` (or `finish`) counts its in-flight down. holder: the request that it is for, set by
    that request and gone when it is closed, so that a failure or a wait is compared with those of its like. record: of its
    try, in the request's `Trace`, if there is one. kind: of its try. connect_s: how long its new connection took to open, None
    for one that was kept. left: its request has gone elsewhere, and only whether an answer comes is of interest. quiet_until:
    `silence` need not look at it before.
    """

    __slots__ = (
        "_closed",
        "_pool",
        "_ticket",
        "backend",
        "connect_s",
        "holder",
        "kind",
        "latency_s",
        "left",
        "opened_at",
        "quiet_until",
        "record",
        "sent_at",
    )

    def __init__(self, pool: Any, backend: Backend, now: float, ticket: int) -> None:
        self.backend = backend
        self.opened_at = now
        self.sent_at = now
        self.kind: TryKind = "first"
        self.connect_s: float | None = None
        self.latency_s: float | None = None
        self.quiet_until = 0.0
        self.left = False
        self.holder: Holder | None = None
        self.record: TryRecord | None = None
        self._pool = pool  # a Pool, which imports this file
        self._ticket = ticket
        self._closed = False

    def sent(self, now: float) -> None:
        """Start the latency anew: only now has the request gone out, for its client was slow to send it."""
        with self._pool.lock:
            waiting = self.backend.learned.waiting
            if waiting.pop(self, None) is not None:
                self.sent_at = waiting[self] = now  # at the end: `waiting` stays in the order of time

    def answered(self, now: float, code: int = 0) -> float:
        """Record the first byte of the answer, once; return the latency, from `sent` (or the pick) to it."""
        with self._pool.lock:
            return self._answered(now, code)

    def _answered(self, now: float, code: int) -> float:
        """Count the answer and note it for the evidence; under the lock."""
        if self.latency_s is not None:
            return self.latency_s
        latency_s = now - self.sent_at
        if latency_s < 0.0:
            latency_s = 0.0
        self.latency_s = latency_s
        learned = self.backend.learned
        if self.record is not None:
            self.record.latency_s = latency_s
        learned.waiting.pop(self, None)
        learned.cells[latency_cell(latency_s)] += 1
        learned.reals[LATENCY_SUM] += latency_s
        if (now >= learned.learn_at or latency_s > learned.usual_s) and learned.learn(now, latency_s):
            self._pool.end_silence(self, now, latency_s)
            return latency_s
        if learned.notes_room:
            self._pool.evidence.note(learned, self.holder, now, latency_s, code)
        return latency_s

    def proved(self, now: float) -> BreakerChange | None:
        """Let the breaker's one probe end well although the lease goes on: a tunnel may last for days."""
        with self._pool.lock:
            ticket, self._ticket = self._ticket, 0
            if not ticket or self._closed:
                return None
            change = self.backend.learned.breaker.succeeded(now, ticket)
            return self._changed(change, now)

    def finish(self, now: float, code: int) -> BreakerChange | None:
        """Do what `answered` and then `close(now, "ok")` do, in one: most answers are complete with their first byte."""
        lock = self._pool.lock
        lock.acquire()  # `with` takes twice as long
        try:
            self._answered(now, code)
            return self._close(now, "ok", None, code)
        finally:
            lock.release()

    def close(
        self, now: float, outcome: Outcome, retry_after_s: float | None = None, code: int = 0, *, sent: bool = True
    ) -> BreakerChange | None:
        """End the lease, once; return the breaker's change, for the caller to announce.

        outcome: "abandoned" is no evidence; for "outrun" see `_outrun`. retry_after_s: what a failure's answer asked
        for. code: of the answer; a 429 is an answer, but counts for the breaker's ratio. sent: the backend may have had
        the request; where it has not, no request is to blame for a failure.
        """
        with self._pool.lock:
            return self._close(now, outcome, retry_after_s, code, sent)

    def is_hopeless(self, now: float) -> bool:
        """Whether the other backends fail at requests of this kind, too."""
        pool = self._pool
        with pool.lock:
            return bool(pool.evidence.is_hopeless(self.backend.learned, self.holder, now))

    def _close(
        self, now: float, outcome: Outcome, retry_after_s: float | None, code: int, sent: bool = True
    ) -> BreakerChange | None:
        """Count the end and tell the breaker; under the lock."""
        if self._closed:
            return None
        self._closed = True
        learned = self.backend.learned
        cells = learned.cells
        cells[IN_FLIGHT] -= 1
        if self.latency_s is None:
            learned.waiting.pop(self, None)
        change: BreakerChange | None = None
        if outcome == "ok":
            cells[OK] += 1
            if code == TOO_MANY_REQUESTS and self._is_own_failure(now):
                change = self._pool.count_failure(self.backend, now, self._ticket, ratio_only=True)
            else:
                change = learned.breaker.succeeded(now, self._ticket)
        elif outcome == "failed":
            cells[FAILED] += 1
            change = self._failed(now, retry_after_s, code, sent)
        elif outcome == "outrun":
            cells[OUTRUN] += 1
            change = self._outrun(now)
        else:
            cells[ABANDONED] += 1
            learned.breaker.abandoned(now, self._ticket)
        if change or self._ticket > 0:
            self._changed(change, now)
        self.holder = None  # which holds this: what is left of every request would wait for the garbage collector
        return change

    def _failed(self, now: float, retry_after_s: float | None, code: int, sent: bool) -> BreakerChange | None:
        """Hold a failure against the backend, as far as it is its own."""
        pool, learned = self._pool, self.backend.learned
        if self.sent_at < learned.recovered_at:  # it is the failure of who was there before
            learned.cells[EXCUSED] += 1
            learned.breaker.abandoned(now, self._ticket)
            return None
        blame = pool.evidence.failed(learned, self.holder, now) if sent else "own"
        if blame == "shared":
            learned.cells[EXCUSED] += 1
            learned.breaker.abandoned(now, self._ticket)
            return None
        learned.ewma.fail(now, retry_after_s)
        pool.tell_failed(self.backend)
        if blame == "unknown" and code and self._ticket <= 0:
            # An answer that nobody else has been asked for may be the client's doing: others will tell.
            learned.cells[EXCUSED] += 1
            return None
        if sent:
            learned.pace.fail()
        else:  # Nobody listens: what answers next may be another process, with cold caches.
            learned.pace.forget()
        change: BreakerChange | None = pool.count_failure(self.backend, now, self._ticket)
        return change

    def _outrun(self, now: float) -> BreakerChange | None:
        """Take in that a try that was begun after it has an answer, and it has none.

        That is no failure, but the time is a lower bound for the latency. Alone, such bounds would leave a
        backend that hangs as attractive as one that is a little slow, for nobody ever waits it out. So each one
        in a row, with no answer between, counts twice as much as the one before, and when it has gone on for a
        second, as many as would eject it if they were failures do so (`Breaker.outrun`).
        """
        learned = self.backend.learned
        waited_s = max(0.0, now - self.sent_at)
        learned.ewma.exceed(now, waited_s, learned.breaker.streak + 1)
        learned.pace.add(waited_s)
        learned.cells[latency_cell(waited_s)] += 1
        learned.reals[LATENCY_SUM] += waited_s
        if learned.notes_room:
            self._pool.evidence.note(learned, self.holder, now, waited_s, OUTRUN_CODE)
        change: BreakerChange | None = self._pool.count_outrun(self.backend, now, self._ticket)
        return change

    def _is_own_failure(self, now: float) -> bool:
        pool = self._pool
        return bool(pool.evidence.failed(self.backend.learned, self.holder, now) == "own")

    def _changed(self, change: BreakerChange | None, now: float) -> BreakerChange | None:
        self._pool.note_change(self.backend, change, now)
        return change
