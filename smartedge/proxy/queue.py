"""The queue: greenlets that wait for a lease, in the order that the waiting line decides (balancer/waiting_line.py)."""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic
from typing import Any

from gevent import get_hub, getcurrent

from smartedge.balancer.backend import Backend
from smartedge.balancer.cells import QUEUE_REFUSED, QUEUE_WAIT_SUM, QUEUE_WAITS, QUEUED
from smartedge.balancer.errors import AllFull, EdgeError, NoBackend
from smartedge.balancer.pool import Lease, Pool
from smartedge.balancer.waiting_line import LOOK_S, Settled, Take, Waiter, WaitingLine, WaitPolicy
from smartedge.proxy.events import Events


class WaitingGreenlet:
    """The current greenlet, which waits for a lease; made by an Attempts, woken by the Queue, or by `cancel`.

    queued_s: how long it has stood in the queue, once it has left it.
    """

    __slots__ = ("_error", "_greenlet", "_lease", "queued_s", "waiter")

    def __init__(
        self,
        take: Take,
        tried: Sequence[Backend],
        session: str | None,
        failed: EdgeError | None,
        room_until: float,
        back_until: float,
    ) -> None:
        self.waiter = Waiter(take, self._settle, tried, session, failed, room_until, back_until)
        self.queued_s = 0.0
        self._lease: Lease | None = None
        self._error: EdgeError | None = None
        self._greenlet = getcurrent()

    def wait(self) -> Lease:
        """Wait for the end; raises the error."""
        try:
            get_hub().switch()
        except BaseException:
            self._give_back()
            raise
        if self._error is not None:
            self._give_back()
            raise self._error
        assert self._lease is not None
        return self._lease

    def cancel(self, error: EdgeError) -> None:
        """End the wait for a client that is gone; what comes first counts, but nobody who has left wants a lease."""
        if self._error is None:
            self._error = error
        self._wake()

    def _settle(self, _now: float, got: Lease | NoBackend) -> None:
        if not isinstance(got, NoBackend):
            self._lease = got
        elif self._error is None:
            self._error = got
        self._wake()

    def _wake(self) -> None:
        """End the wait, in the next round of the event loop."""
        if not self.waiter.over:
            self.waiter.over = True
            get_hub().loop.run_callback(self._greenlet.switch)

    def _give_back(self) -> None:
        lease, self._lease = self._lease, None
        if lease is not None:
            lease.close(monotonic(), "abandoned")


class Queue:
    """A service's waiting greenlets; owned by the Service. The pool's row counts who waits and who is refused, in all workers."""

    def __init__(self, pool: Pool, policy: WaitPolicy, events: Events) -> None:
        self.line = WaitingLine(pool, policy)
        self.waiters = self.line.waiters
        self._row = pool.row
        self._events = events
        self._timer: Any = None

    def __repr__(self) -> str:
        return f"<Queue {self.line!r}>"

    def wait(self, greenlet: WaitingGreenlet, why: NoBackend | None) -> Lease:
        """Have the current greenlet wait for a lease; raises NoBackend when that is in vain, or there is no place.

        why: what there is none for now; None when nobody has looked, because others wait already.
        """
        now = monotonic()
        service_row, is_first = self._row, not self.waiters
        try:
            lease = self.line.admit(greenlet.waiter, why, sum(row[QUEUED] for row in service_row.rows), now)
        except AllFull:
            service_row.add(QUEUE_REFUSED)
            raise
        if lease is not None:
            return lease
        if is_first:
            self._look_often()
        service_row.add(QUEUED)
        self._have_probed(now)
        if why is None:
            get_hub().loop.run_callback(self._look)  # those who came before may wait for what this one does not need
        try:
            return greenlet.wait()
        finally:
            service_row.add(QUEUED, -1)
            service_row.add(QUEUE_WAITS)
            greenlet.queued_s = queued_s = monotonic() - now
            service_row.reals[QUEUE_WAIT_SUM] += queued_s
            greenlet.waiter.over = True

    def serve(self) -> None:
        """Give a lease to the first who can have one; called when a lease has ended."""
        if self.waiters:
            now = monotonic()
            self._settle(self.line.serve(now), now)

    def _look_often(self) -> None:
        if self._timer is None:
            self._timer = get_hub().loop.timer(LOOK_S, repeat=LOOK_S, ref=False)
        self._timer.again(self._look)

    def _look(self) -> None:
        """Serve whom there is a backend for, and send away who has waited long enough (called by the timer, in the hub)."""
        now = monotonic()
        self._settle(self.line.look(now), now)
        if not self.waiters:
            self._timer.stop()

    def _settle(self, settled: Settled, now: float) -> None:
        for waiter, got in settled:
            if isinstance(got, NoBackend):
                self._row.add(QUEUE_REFUSED)
            waiter.settle(now, got)
        self._have_probed(now)

    def _have_probed(self, now: float) -> None:
        for backend in self.line.to_probe(now):
            self._events.unreachable(backend)
