"""A request's way in virtual time: a lease, an answer or none, other tries after it and beside it.

What is decided is the balancer's own doing (`Pool`, `Tries`, `HedgeDelay`); the order of the steps is that of
`proxy/attempts.py` and `proxy/hedge.py`, without the bytes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from functools import partial
from math import ceil
from random import Random

from smartedge.balancer.backend import Backend
from smartedge.balancer.errors import BackendClosed, BackendTimeout, ConnectFailed, EdgeError, NoBackend
from smartedge.balancer.hedge_delay import UNKNOWN_S
from smartedge.balancer.pool import Lease, Pool
from smartedge.balancer.retry import RetryBudget, Tries
from smartedge.balancer.watch import leases_to_move
from smartedge.config.model import Config
from smartedge.simulator.draws import Arrival
from smartedge.simulator.figures import Outcome
from smartedge.simulator.machine import At, Failure, Machine
from smartedge.simulator.probes import Prober
from smartedge.simulator.queue import Queue
from smartedge.simulator.scenario import SimulateConfig

HEDGE_TICK_S = 0.005
"""How often the edge looks whose first byte is late."""

KEEP_SILENT = BackendTimeout("The backend kept silent for too long.")
REFUSED = ConnectFailed("The connection was refused.")
CUT = BackendClosed("The backend closed the connection.")


class Request:
    """One client's request.

    open: its tries that are under way, oldest first. race: number of the latest one that was not a hedge, after
    the first. fallback: a lease whose answer is a failure, and its status, if there will be no better one.
    error: of the last try to break. since: when the first one did, and a backend that may come back is waited for.
    """

    __slots__ = ("arrival", "at", "error", "fallback", "open", "race", "since", "tries")

    def __init__(self, arrival: Arrival, at: float) -> None:
        self.arrival = arrival
        self.at = at
        self.open: list[Try] = []
        self.race = 0
        self.since: float | None = None
        self.tries: Tries | None = None
        self.fallback: tuple[Lease, int] | None = None
        self.error: EdgeError = KEEP_SILENT

    @property
    def kind(self) -> tuple[bytes, bytes]:
        """What tells which other requests are like this one: its method and target."""
        return self.arrival.kind


class Try:
    """One try of a request: a lease, and what the machine sees (`machine.Asked`)."""

    __slots__ = ("key", "lease", "luck", "over", "request", "slowness", "work")

    def __init__(self, request: Request, lease: Lease, work: float, luck: float) -> None:
        self.request = request
        self.lease = lease
        self.work = work
        self.luck = luck
        self.key = request.arrival.key
        self.slowness = request.arrival.slowness
        self.over = False
        lease.holder = self

    @property
    def kind(self) -> tuple[bytes, bytes]:
        """Its request's."""
        return self.request.arrival.kind

    is_due = True
    """The machine has all of it."""


class Forwarding:
    """Forwards requests to the machines. counted_from: when figures begin. chance: what second tries are like."""

    def __init__(
        self, world: SimulateConfig, config: Config, pool: Pool, at: At, chance: Random, outcome: Outcome, counted_from: float
    ) -> None:
        self._pool = pool
        self._at = at
        self._chance = chance
        self._outcome = outcome
        self._counted_from = counted_from
        self._policy = policy = config.retry_policy
        self._failures = config.failures
        self._remarkable = config.failures | policy.statuses
        self._budget = RetryBudget(policy.budget_ratio, policy.budget_per_s)
        self._pool.evidence.hedging = policy.hedge
        self.queue = Queue(pool, config.limits.queue, config.limits.queue_s, policy.wait_s, at, self._nudge)
        self._first_byte_s = config.timeouts.first_byte_s
        self._client_s = world.network.client_s
        self._keys = [b"%d" % key for key in range(world.arrivals.keys)]
        self._number = {backend.id: number for number, backend in enumerate(pool.backends)}
        self._waiting: deque[tuple[float, Try]] = deque()  # a time-out for each try, in the order of time
        self.machines: Mapping[str, Machine] = {}
        self.prober: Prober | None = None

    def arrive(self, now: float, arrival: Arrival) -> None:
        """Take a client's request."""
        self._budget.deposit(now)
        request = Request(arrival, now)
        self.queue.take(now, (), self._keys[arrival.key], partial(self._admit, request))

    def _admit(self, request: Request, now: float, got: Lease | NoBackend) -> None:
        if isinstance(got, NoBackend):
            self._record(request, now, got.status, None)
            return
        arrival = request.arrival
        self._send(now, Try(request, got, arrival.work, arrival.luck))
        if self._policy.hedge:
            self._watch(now, request)

    # ---- to the backend ----

    def _send(self, now: float, attempt: Try) -> None:
        attempt.request.open.append(attempt)
        backend = attempt.lease.backend
        if now >= self._counted_from:
            self._outcome.tries[self._number[backend.id]] += 1
        if not self._waiting:
            self._at(now + self._first_byte_s, self._time_out, None)
        self._waiting.append((now + self._first_byte_s, attempt))
        self.machines[backend.id].take(now, attempt)

    def _time_out(self, now: float, _: None) -> None:
        """End the tries whose time is over. Most have ended long before, so that one event looks after all of them."""
        waiting = self._waiting
        while waiting:
            deadline, attempt = waiting[0]
            if not attempt.over:
                if deadline > now:
                    self._at(deadline, self._time_out, None)
                    return
                self._broken(now, attempt, KEEP_SILENT)
            waiting.popleft()

    def leave_silent(self, now: float) -> None:
        """Have requests that wait on silent backends tried elsewhere; those that are hedged look after themselves."""
        if not self._policy.hedge:
            for lease in leases_to_move(self._pool, self._budget, now):
                self._move(now, lease.holder)

    def _move(self, now: float, attempt: Try) -> None:
        """Go on with another backend; the try is left waiting, to show that its backend is back when it is answered after all."""
        request, lease = attempt.request, attempt.lease
        tries = self._tries(request, lease.backend)
        if not tries.may_follow(now) or not tries.again(now, sent=True):
            return
        request.open.remove(attempt)
        if not self._begin(now, request, tries):
            request.open.append(attempt)
            return
        lease.left = True
        self._outcome.retries += now >= self._counted_from

    def _left(self, now: float, lease: Lease, *, failed: bool) -> None:
        if not failed:
            lease.answered(now)
        lease.close(now, "failed" if failed else "abandoned")
        self._serve(now)

    # ---- from the backend ----

    def answered(self, now: float, attempt: Try, status: int) -> None:
        """Take in an answer's first byte, which is its last, too."""
        attempt.over = True
        request, lease = attempt.request, attempt.lease
        if lease.left:
            self._left(now, lease, failed=False)
            return
        if status in self._remarkable:
            request.open.remove(attempt)
            lease.answered(now, status)
            self._fall_back(now, request, (lease, status))
            self._lost(now, request)
            return
        lease.finish(now, status)
        if request.tries is not None:
            self._end_others(now, request, attempt)
        request.open.clear()
        self._record(request, now, status, lease.backend)
        self._serve(now)

    def broke(self, now: float, attempt: Try, failure: Failure) -> None:
        """Take in that a connection broke, or that there was none."""
        if failure == "refused":
            self._nudge(now, attempt.lease.backend)
        self._broken(now, attempt, REFUSED if failure == "refused" else CUT)

    def _nudge(self, now: float, backend: Backend) -> None:
        if self.prober is not None:
            self.prober.nudge(now, backend)

    def _broken(self, now: float, attempt: Try, error: EdgeError) -> None:
        attempt.over = True
        request = attempt.request
        if attempt.lease.left:
            self._left(now, attempt.lease, failed=True)
            return
        request.open.remove(attempt)
        request.error = error
        attempt.lease.close(now, "failed", sent=error.sent)
        self._serve(now)
        self._tries(request, attempt.lease.backend)
        self._lost(now, request)

    def _end_others(self, now: float, request: Request, winner: Try) -> None:
        """End what else is under way: what was begun earlier was too slow, what was begun later has done nothing wrong."""
        for other in request.open:
            if other is winner:
                continue
            other.over = True
            if other.lease.opened_at < winner.lease.opened_at:
                other.lease.outrun(now)
            else:
                other.lease.close(now, "abandoned")
            self._serve(now)
        self._fall_back(now, request, None)

    def _fall_back(self, now: float, request: Request, answer: tuple[Lease, int] | None) -> None:
        """Keep an answer that is better than none, instead of an earlier one of the kind."""
        before, request.fallback = request.fallback, answer
        if before is not None:
            lease, status = before
            self._end(now, lease, status)

    def _end(self, now: float, lease: Lease, status: int) -> None:
        """Close a lease whose answer was no good."""
        lease.close(now, "failed" if status in self._failures else "ok", None, status)
        self._serve(now)

    def _serve(self, now: float) -> None:
        """Let the queue know that a lease has ended."""
        if self.queue.places:
            self.queue.serve(now)

    # ---- other tries ----

    def _lost(self, now: float, request: Request) -> None:
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
                key, then = self._keys[request.arrival.key], partial(self._retry, request, tries)
                self.queue.take(now, tuple(tries.tried), key, then, error, request.since)
            else:
                self._record(request, now, error.status, None)
            return
        lease, status = answer
        tries = self._tries(request, lease.backend)
        goes_on = tries.again_after(now, status, lambda: lease.is_hopeless(now)) and self._begin(now, request, tries)
        self._end(now, lease, status)
        if goes_on:
            self._retried(now, request)
        else:
            self._record(request, now, status, lease.backend)

    def _retry(self, request: Request, tries: Tries, now: float, got: Lease | NoBackend) -> None:
        """Go on after a try that broke, with the lease that there is for another, or without."""
        if isinstance(got, NoBackend):
            tries.in_vain(now)
            self._record(request, now, (request.error if request.error.sent else got).status, None)
            return
        self._send_another(now, request, tries, got)
        self._retried(now, request)

    def _retried(self, now: float, request: Request) -> None:
        self._outcome.retries += now >= self._counted_from
        if self._policy.hedge:
            request.race += 1
            self._watch(now, request)

    def _watch(self, now: float, request: Request) -> None:
        if request.arrival.idempotent:
            hedge = self._pool.evidence.kind_of(request).hedge
            due = now + (UNKNOWN_S if hedge is None else hedge.after_s)
            self._at(ceil(due / HEDGE_TICK_S) * HEDGE_TICK_S, self._late, (request, request.race))

    def _late(self, now: float, what: tuple[Request, int]) -> None:
        """Hedge a request whose first byte is late; and again, for that may be as slow."""
        request, race = what
        if not request.open or race != request.race:
            return
        tries = self._tries(request, request.open[0].lease.backend)
        if tries.hedge(now) and self._begin(now, request, tries):
            self._outcome.hedges += now >= self._counted_from
            self._watch(now, request)

    def _begin(self, now: float, request: Request, tries: Tries) -> bool:
        try:
            lease = self._pool.lease(now, tries.tried, self._keys[request.arrival.key])
        except NoBackend:
            tries.in_vain(now)
            return False
        self._send_another(now, request, tries, lease)
        return True

    def _send_another(self, now: float, request: Request, tries: Tries, lease: Lease) -> None:
        tries.begun(lease.backend)
        self._send(now, Try(request, lease, self._chance.random(), self._chance.random()))

    def _tries(self, request: Request, first: Backend) -> Tries:
        """Give the decision about more tries, made when the first is asked for: most requests need none."""
        if request.tries is None:
            idempotent = request.arrival.idempotent
            request.tries = Tries(self._policy, self._budget, request.at, idempotent, first, safe=idempotent)
        return request.tries

    def _record(self, request: Request, now: float, status: int, backend: Backend | None) -> None:
        if request.at < self._counted_from:
            return
        outcome = self._outcome
        outcome.at.append(request.arrival.at)
        outcome.took_s.append(now - request.at + self._client_s)
        outcome.status.append(status)
        outcome.backend.append(-1 if backend is None else self._number[backend.id])
