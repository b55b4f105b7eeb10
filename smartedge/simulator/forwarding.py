"""A request's way in virtual time: a lease, an answer or none, other tries after it and beside it.

What is decided is the balancer's own doing (`Pool`, `Tries`, `HedgeDelay`, `WaitingLine`); the order of the steps is that of
`proxy/attempts.py` and `proxy/hedge.py`, without the bytes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from functools import partial
from math import ceil
from random import Random

from smartedge.balancer.backend import Backend
from smartedge.balancer.errors import BackendClosed, ConnectFailed, EdgeError, NoBackend
from smartedge.balancer.hedge_delay import TICK_S, UNKNOWN_S
from smartedge.balancer.pool import Lease, Pool
from smartedge.balancer.retry import RetryBudget, Tries
from smartedge.balancer.waiting_line import WaitPolicy
from smartedge.balancer.watch import leases_to_move
from smartedge.config.model import Config
from smartedge.simulator.draws import Arrival
from smartedge.simulator.figures import RunRecord
from smartedge.simulator.geography import Client
from smartedge.simulator.machine import At, Failure, Machine
from smartedge.simulator.probes import Prober
from smartedge.simulator.queue import ModelQueue
from smartedge.simulator.scenario import SimulateConfig
from smartedge.simulator.tries import KEPT_SILENT, ClientRequest, Try

REFUSED = ConnectFailed("The connection was refused.")
CUT = BackendClosed("The backend closed the connection.")


class Forwarding:
    """Forwards requests to the machines, in place of Forwarder, Exchange and Attempts; owned by a Node, called by Run.

    Machines tell it what became of a try. at: plans an event. counted_from: when figures begin. chance: what second tries are
    like. farther: of the ways to backends, see Node.
    """

    def __init__(
        self,
        world: SimulateConfig,
        config: Config,
        pool: Pool,
        machines: Mapping[str, Machine],
        at: At,
        chance: Random,
        record: RunRecord,
        counted_from: float,
        farther: Mapping[str, float],
    ) -> None:
        self._farther = farther
        self._pool = pool
        self._machines = machines
        self._at = at
        self._chance = chance
        self._record = record
        self._counted_from = counted_from
        self._policy = policy = config.retry_policy
        self._failures = config.failures
        self._remarkable = config.failures | policy.statuses
        self._budget = RetryBudget(policy.budget_ratio, policy.budget_per_s)
        self._pool.evidence.hedging = policy.hedge
        waits = WaitPolicy(config.limits.queue, config.limits.queue_s, policy.wait_s)
        self.queue = ModelQueue(pool, waits, at, self._nudge)
        self._first_byte_s = config.timeouts.first_byte_s
        self._client_s = world.network.client_s
        self._keys = [b"%d" % key for key in range(world.arrivals.keys)]
        self._number = {backend.id: number for number, backend in enumerate(pool.backends)}
        self._waiting: deque[tuple[float, Try]] = deque()  # a time-out for each try, in the order of time
        self.prober: Prober | None = None

    def accept_request(self, now: float, arrival: Arrival, client: Client) -> None:
        """Take a client's request."""
        self._budget.deposit(now)
        request = ClientRequest(client, arrival, now)
        then = partial(self._send_first, request)
        self.queue.take_lease(now, (), self._keys[arrival.key], then, origin=client.origin)

    def _send_first(self, request: ClientRequest, now: float, got: Lease | NoBackend) -> None:
        if isinstance(got, NoBackend):
            self._record_end(request, now, got.status, None)
            return
        arrival = request.arrival
        self._send_try(now, Try(request, got, arrival.work, arrival.luck, self._farther[got.backend.id]))
        if self._policy.hedge:
            self._plan_hedge(now, request)

    # ---- to the backend ----

    def _send_try(self, now: float, attempt: Try) -> None:
        attempt.request.open.append(attempt)
        backend = attempt.lease.backend
        if now >= self._counted_from:
            self._record.tries[self._number[backend.id]] += 1
            self._record.crossed += attempt.farther_s > 0
        if not self._waiting:
            self._at(now + self._first_byte_s, self._end_overdue, None)
        self._waiting.append((now + self._first_byte_s, attempt))
        self._machines[backend.id].accept_try(now, attempt)

    def _end_overdue(self, now: float, _: None) -> None:
        """End the tries whose time is over. Most have ended long before, so that one event looks after all of them."""
        waiting = self._waiting
        while waiting:
            deadline, attempt = waiting[0]
            if not attempt.over:
                if deadline > now:
                    self._at(deadline, self._end_overdue, None)
                    return
                self._fail_try(now, attempt, KEPT_SILENT)
            waiting.popleft()

    def leave_silent(self, now: float) -> None:
        """Have requests that wait on silent backends tried elsewhere; those that are hedged look after themselves."""
        if not self._policy.hedge:
            for lease in leases_to_move(self._pool, self._budget, now):
                assert isinstance(lease.holder, Try)
                self._move_try(now, lease.holder)

    def _move_try(self, now: float, attempt: Try) -> None:
        """Go on with another backend; the try is left waiting, to show that its backend is back when it is answered after all."""
        request, lease = attempt.request, attempt.lease
        tries = self._tries_of(request, lease.backend)
        if not tries.again(now, sent=True):
            return
        request.open.remove(attempt)
        if not self._begin_try(now, request, tries):
            request.open.append(attempt)
            return
        lease.left = True
        self._record.retries += now >= self._counted_from

    def _end_left(self, now: float, lease: Lease, *, failed: bool) -> None:
        if not failed:
            lease.answered(now)
        lease.close(now, "failed" if failed else "abandoned")
        self.queue.serve(now)

    # ---- from the backend ----

    def take_answer(self, now: float, attempt: Try, status: int) -> None:
        """Take in an answer's first byte, which is its last, too."""
        attempt.over = True
        request, lease = attempt.request, attempt.lease
        if lease.left:
            self._end_left(now, lease, failed=False)
            return
        if status in self._remarkable:
            request.open.remove(attempt)
            lease.answered(now, status)
            self._keep_fallback(now, request, (lease, status))
            self._go_on(now, request)
            return
        lease.finish(now, status)
        if request.tries is not None:
            self._end_others(now, request, attempt)
        request.open.clear()
        self._record_end(request, now, status, lease.backend)
        self.queue.serve(now)

    def take_failure(self, now: float, attempt: Try, failure: Failure) -> None:
        """Take in that a connection broke, or that there was none."""
        if failure == "refused":
            self._nudge(now, attempt.lease.backend)
        self._fail_try(now, attempt, REFUSED if failure == "refused" else CUT)

    def _nudge(self, now: float, backend: Backend) -> None:
        if self.prober is not None:
            self.prober.nudge(now, backend)

    def _fail_try(self, now: float, attempt: Try, error: EdgeError) -> None:
        attempt.over = True
        request = attempt.request
        if attempt.lease.left:
            self._end_left(now, attempt.lease, failed=True)
            return
        request.open.remove(attempt)
        request.error = error
        attempt.lease.close(now, "failed", sent=error.sent)
        self.queue.serve(now)
        self._tries_of(request, attempt.lease.backend)
        self._go_on(now, request)

    def _end_others(self, now: float, request: ClientRequest, winner: Try) -> None:
        """End what else is under way: what was begun earlier was too slow, what was begun later has done nothing wrong."""
        for other in request.open:
            if other is winner:
                continue
            other.over = True
            if other.lease.opened_at < winner.lease.opened_at:
                other.lease.close(now, "outrun")
            else:
                other.lease.close(now, "abandoned")
            self.queue.serve(now)
        self._keep_fallback(now, request, None)

    def _keep_fallback(self, now: float, request: ClientRequest, answer: tuple[Lease, int] | None) -> None:
        """Keep an answer that is better than none, instead of an earlier one of the kind."""
        before, request.fallback = request.fallback, answer
        if before is not None:
            lease, status = before
            self._close_lease(now, lease, status)

    def _close_lease(self, now: float, lease: Lease, status: int) -> None:
        """Close a lease whose answer was no good."""
        lease.close(now, "failed" if status in self._failures else "ok", None, status)
        self.queue.serve(now)

    # ---- other tries ----

    def _go_on(self, now: float, request: ClientRequest) -> None:
        """Try once more if no try is left, and if that may be; else the client gets what there is."""
        if request.open:
            return
        answer, request.fallback = request.fallback, None
        if answer is None:
            tries, error = request.tries, request.error
            assert tries is not None
            if tries.again(now, sent=error.sent):
                if request.since is None:
                    request.since = now
                key, then = self._keys[request.arrival.key], partial(self._send_retry, request, tries)
                self.queue.take_lease(now, tuple(tries.tried), key, then, error, request.since, request.client.origin)
            else:
                self._record_end(request, now, error.status, None)
            return
        lease, status = answer
        tries = self._tries_of(request, lease.backend)
        goes_on = tries.again_after(now, status, lambda: lease.is_hopeless(now)) and self._begin_try(now, request, tries)
        self._close_lease(now, lease, status)
        if goes_on:
            self._count_retry(now, request)
        else:
            self._record_end(request, now, status, lease.backend)

    def _send_retry(self, request: ClientRequest, tries: Tries, now: float, got: Lease | NoBackend) -> None:
        """Go on after a try that broke, with the lease that there is for another, or without."""
        if isinstance(got, NoBackend):
            tries.in_vain(now)
            self._record_end(request, now, (request.error if request.error.sent else got).status, None)
            return
        self._send_another(now, request, tries, got)
        self._count_retry(now, request)

    def _count_retry(self, now: float, request: ClientRequest) -> None:
        self._record.retries += now >= self._counted_from
        if self._policy.hedge:
            request.race += 1
            self._plan_hedge(now, request)

    def _plan_hedge(self, now: float, request: ClientRequest) -> None:
        if request.arrival.idempotent:
            hedge = self._pool.evidence.kind_of(request.open[0]).hedge
            due = now + (UNKNOWN_S if hedge is None else hedge.after_s)
            self._at(ceil(due / TICK_S) * TICK_S, self._hedge, (request, request.race))

    def _hedge(self, now: float, what: tuple[ClientRequest, int]) -> None:
        """Hedge a request whose first byte is late; and again, for that may be as slow."""
        request, race = what
        if not request.open or race != request.race:
            return
        tries = self._tries_of(request, request.open[0].lease.backend)
        if tries.hedge(now) and self._begin_try(now, request, tries, hedge=True):
            self._record.hedges += now >= self._counted_from
            self._plan_hedge(now, request)

    def _begin_try(self, now: float, request: ClientRequest, tries: Tries, *, hedge: bool = False) -> bool:
        key = self._keys[request.arrival.key]
        try:
            lease = self._pool.lease(now, tries.tried, key, must=not hedge, origin=request.client.origin)
        except NoBackend:
            tries.in_vain(now)
            return False
        self._send_another(now, request, tries, lease)
        return True

    def _send_another(self, now: float, request: ClientRequest, tries: Tries, lease: Lease) -> None:
        tries.begun(lease.backend)
        self._send_try(now, Try(request, lease, self._chance.random(), self._chance.random(), self._farther[lease.backend.id]))

    def _tries_of(self, request: ClientRequest, first: Backend) -> Tries:
        """Give the decision about more tries, made when the first is asked for: most requests need none."""
        if request.tries is None:
            idempotent = request.arrival.idempotent
            request.tries = Tries(self._policy, self._budget, request.at, idempotent, first, safe=idempotent)
        return request.tries

    def _record_end(self, request: ClientRequest, now: float, status: int, backend: Backend | None) -> None:
        if request.at < self._counted_from:
            return
        record = self._record
        record.at.append(request.arrival.at)
        record.took_s.append(now - request.at + self._client_s + request.client.farther_s)
        record.status.append(status)
        record.backend.append(-1 if backend is None else self._number[backend.id])
