"""The edge's queue in virtual time: the waiting line is the balancer's own, only the waiting itself is modelled.

One worker, without sessions. That a connection was made cannot be seen here, so those who wait for a restart follow the one who
asks with the first answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from smartedge.balancer.backend import Backend
from smartedge.balancer.errors import EdgeError, NoBackend
from smartedge.balancer.lease import Lease
from smartedge.balancer.places import Place
from smartedge.balancer.pool import Pool
from smartedge.balancer.waiting_line import LOOK_S, Settled, Waiter, WaitingLine, WaitPolicy
from smartedge.simulator.machine import At


class ModelQueue:
    """A run's requests that wait for a lease, as `proxy/queue.py` has greenlets wait; owned by Forwarding.

    at: plans an event. nudge: has a backend probed soon.
    """

    def __init__(self, pool: Pool, policy: WaitPolicy, at: At, nudge: Callable[[float, Backend], None]) -> None:
        self._pool = pool
        self._line = WaitingLine(pool, policy)
        self.waiters = self._line.waiters
        self._at = at
        self._nudge = nudge

    def take_lease(
        self,
        now: float,
        tried: Sequence[Backend],
        key: bytes,
        settle: Callable[[float, Lease | NoBackend], None],
        failed: EdgeError | None = None,
        since: float | None = None,
        origin: Place | None = None,
    ) -> None:
        """Have `settle` called with a lease: now, or, after all that came before, when there is one; or with what is wrong.

        failed: the try before it. since: when it first found nobody. origin: where it comes from.
        """
        policy, is_first = self._line.policy, not self.waiters
        why = None
        if is_first:
            try:
                settle(now, self._pool.lease(now, tried, key, origin=origin))
                return
            except NoBackend as none:
                why = none
        back_until = (now if since is None else since) + policy.back_s

        def take(now: float, tried: Sequence[Backend], _: str | None) -> Lease:
            return self._pool.lease(now, tried, key, origin=origin)

        waiter = Waiter(take, settle, tried, None, failed, now + policy.room_s, back_until)
        try:
            self._line.admit(waiter, why, len(self.waiters), now)
        except NoBackend as none:
            settle(now, none)
            return
        if is_first:
            self._at(now + LOOK_S, self._look, None)
        self._have_probed(now)

    def serve(self, now: float) -> None:
        """Give a lease to the first who can have one; called when a lease has ended."""
        if self.waiters:
            self._settle(now, self._line.serve(now))

    def _look(self, now: float, _: None) -> None:
        self._settle(now, self._line.look(now))
        if self.waiters:
            self._at(now + LOOK_S, self._look, None)

    def _settle(self, now: float, settled: Settled) -> None:
        for waiter, got in settled:
            waiter.settle(now, got)
        self._have_probed(now)

    def _have_probed(self, now: float) -> None:
        for backend in self._line.to_probe(now):
            self._nudge(now, backend)
