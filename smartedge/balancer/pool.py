"""The pool: the backends of one service, the one lock, and the leases it hands out.

Everything is decided under the lock and nothing is done under it: no wait, no log, no callback. A change is a
return value, announced by the caller. Times are seconds of a monotonic clock.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from math import inf
from random import Random
from threading import Lock
from typing import Final, Literal

from smartedge.balancer.backend import Backend, Cell
from smartedge.balancer.breaker import BreakerChange
from smartedge.balancer.cells import latency_cell
from smartedge.balancer.errors import NoBackend
from smartedge.balancer.strategies import Strategy

Outcome = Literal["ok", "failed", "abandoned"]
Panic = Literal["all", "fail"]

PANIC_RATIO: Final = 0.5
"""With a smaller share available these would only be overrun, so the ejected ones have to help again."""

RETRY_AFTER_S: Final = 1.0
"""What a client is told when nothing tells when a backend will be back."""

TOO_MANY_REQUESTS: Final = 429

# Plain integers: reading a member of an enum costs more than the addition it is for.
IN_FLIGHT: Final = int(Cell.IN_FLIGHT)
LEASES: Final = int(Cell.LEASES)
OK: Final = int(Cell.OK)
FAILED: Final = int(Cell.FAILED)
ABANDONED: Final = int(Cell.ABANDONED)
EWMA: Final = int(Cell.EWMA)
LATENCY_SUM: Final = int(Cell.LATENCY_SUM)


class Lease:
    """One use of one backend, from the pick to the last byte; only `close` counts its in-flight down."""

    __slots__ = ("_closed", "_pool", "_ticket", "backend", "latency_s", "opened_at", "sent_at")

    def __init__(self, pool: Pool, backend: Backend, now: float, ticket: int) -> None:
        self.backend = backend
        self.opened_at = now
        self.sent_at = now
        self.latency_s: float | None = None
        self._pool = pool
        self._ticket = ticket
        self._closed = False

    def sent(self, now: float) -> None:
        """Start the latency anew: only now has the request gone out, for its client was slow to send it."""
        with self._pool.lock:
            waiting = self.backend.learned.waiting
            if waiting.pop(self, None) is not None:
                self.sent_at = waiting[self] = now  # at the end: `waiting` stays in the order of time

    def answered(self, now: float) -> float:
        """Record the first byte of the answer, once; return the latency, from `sent` (or the pick) to it."""
        with self._pool.lock:
            return self._answered(now)

    def _answered(self, now: float) -> float:
        if self.latency_s is not None:
            return self.latency_s
        latency_s = now - self.sent_at
        if latency_s < 0.0:
            latency_s = 0.0
        self.latency_s = latency_s
        learned = self.backend.learned
        learned.waiting.pop(self, None)
        learned.ewma.observe(now, latency_s)
        learned.cells[latency_cell(latency_s)] += 1
        reals = learned.reals
        reals[LATENCY_SUM] += latency_s
        reals[EWMA] = learned.ewma.mean_s
        return latency_s

    def proved(self, now: float) -> BreakerChange | None:
        """Let the breaker's one probe end well although the lease goes on: a tunnel may last for days."""
        with self._pool.lock:
            ticket, self._ticket = self._ticket, 0
            if not ticket or self._closed:
                return None
            self._pool.forget_candidates()
            return self.backend.learned.breaker.succeeded(now, ticket)

    def finish(self, now: float, code: int) -> BreakerChange | None:
        """Do what `answered` and then `close(now, "ok")` do, in one: most answers are complete with their first byte."""
        with self._pool.lock:
            self._answered(now)
            return self._close(now, "ok", None, code)

    def close(self, now: float, outcome: Outcome, retry_after_s: float | None = None, code: int = 0) -> BreakerChange | None:
        """End the lease, once; return the breaker's change, for the caller to announce.

        outcome: "abandoned" means that the client left, which is no evidence. retry_after_s: what a failure's
        answer asked for. code: of the answer; a 429 is an answer, but counts for the breaker's ratio.
        """
        with self._pool.lock:
            return self._close(now, outcome, retry_after_s, code)

    def _close(self, now: float, outcome: Outcome, retry_after_s: float | None, code: int) -> BreakerChange | None:
        pool = self._pool
        if self._closed:
            return None
        self._closed = True
        learned = self.backend.learned
        cells = learned.cells
        cells[IN_FLIGHT] -= 1
        learned.waiting.pop(self, None)
        change: BreakerChange | None = None
        if outcome == "ok":
            cells[OK] += 1
            if code == TOO_MANY_REQUESTS:
                change = pool.breaker_failed(self.backend, now, self._ticket, ratio_only=True)
            else:
                change = learned.breaker.succeeded(now, self._ticket)
        elif outcome == "failed":
            cells[FAILED] += 1
            learned.ewma.fail(now, retry_after_s)
            learned.reals[EWMA] = learned.ewma.mean_s
            pool.strategy.failed(self.backend)
            change = pool.breaker_failed(self.backend, now, self._ticket)
        else:
            cells[ABANDONED] += 1
            learned.breaker.abandoned(now, self._ticket)
        if change or self._ticket:
            pool.forget_candidates()
        return change


class Pool:
    """The backends of one service and the strategy that picks among them.

    backends: replaced whole, so that readers need no lock. panic: with fewer than half of the backends
    available, "all" uses those again that the breakers ejected, "fail" does without them.
    """

    def __init__(self, backends: Sequence[Backend], strategy: Strategy, rng: Random, panic: Panic = "all") -> None:
        self.lock = Lock()
        self.strategy = strategy
        self._rng = rng
        self.apply(backends, strategy, panic)

    def apply(self, backends: Sequence[Backend], strategy: Strategy, panic: Panic | None = None) -> None:
        """Swap in another configuration; a strategy of the same name is kept, with its cursor."""
        with self.lock:
            self.backends = tuple(backends)
            self.panic: Panic = panic or self.panic
            if strategy.name != self.strategy.name:
                self.strategy = strategy
            self.strategy.keep(self.backends)
            self._limited = any(backend.spec.max_in_flight is not None for backend in self.backends)
            for backend in self.backends:
                backend.learned.follow(backend.spec)
            self._candidates: tuple[Backend, ...] = ()
            self.forget_candidates()

    def touch(self) -> None:
        """Say that a backend's health or draining has changed."""
        with self.lock:
            self.forget_candidates()

    def candidates(self, now: float) -> tuple[Backend, ...]:
        """Return the backends that are picked from now, full ones among them; empty when none can serve."""
        with self.lock:
            if now >= self._valid_until:
                self._refresh(now)
            return self._candidates

    def lease(self, now: float, tried: Collection[Backend] = ()) -> Lease:
        """Pick a backend, not one that this request has tried, and count its use. Raises NoBackend."""
        with self.lock:
            if now >= self._valid_until:
                self._refresh(now)
            candidates: Sequence[Backend] = self._candidates
            if tried or self._limited:
                candidates = _untried(candidates, tried)
            if candidates:
                backend = self.strategy.pick(candidates, now, self._rng)
                learned = backend.learned
                ticket = learned.breaker.begin(now)
                if ticket:
                    self.forget_candidates()
                cells = learned.cells
                cells[IN_FLIGHT] += 1
                cells[LEASES] += 1
                lease = Lease(self, backend, now, ticket)
                learned.waiting[lease] = now
                return lease
        raise no_backend(self.backends, now, tried)

    def breaker_failed(self, backend: Backend, now: float, ticket: int, *, ratio_only: bool = False) -> BreakerChange | None:
        """Tell the breaker of a failure, and whether its backend is the last. Called under the lock."""
        last = not any(other.available(now) for other in self.backends if other.learned is not backend.learned)
        return backend.learned.breaker.failed(now, self._rng, ticket, ratio_only=ratio_only, last=last)

    def forget_candidates(self) -> None:
        """Have them worked out again when they are next needed. Called under the lock."""
        self._valid_until = -inf

    def _refresh(self, now: float) -> None:
        candidates = candidates_of(self.backends, now, self.panic)
        if candidates != self._candidates:
            self._candidates = candidates
            self.strategy.prepare(candidates)
        self._valid_until = min((backend.learned.breaker.next_change_at(now) for backend in self.backends), default=inf)


def candidates_of(backends: Sequence[Backend], now: float, panic: Panic) -> tuple[Backend, ...]:
    """Return those that may be picked: the available ones, or what has to do when those are too few.

    Too few among the backends that the operator has not taken out himself means panic: then the ejected ones
    serve too. One that was never probed serves when nothing else can; one that its probes call unhealthy,
    never. Full ones are left in, for they are full only for a moment.
    """
    wanted = [backend for backend in backends if not backend.draining]
    reasons = [backend.why_not(now) for backend in wanted]
    serving = {None, "full"}
    if panic == "all" and sum(reason in serving for reason in reasons) < PANIC_RATIO * len(wanted):
        serving.add("breaker_open")
    if serving.isdisjoint(reasons):
        serving = {"unprobed"}
    return tuple(backend for backend, reason in zip(wanted, reasons, strict=True) if reason in serving)


def no_backend(backends: Sequence[Backend], now: float, tried: Collection[Backend] = ()) -> NoBackend:
    """Return the error that says why none of them can serve, and when it makes sense to come back."""
    counts: dict[str, int] = {}
    waits = []
    for backend in backends:
        reason = backend.why_not(now) or ("tried" if tried else "available")
        counts[reason] = counts.get(reason, 0) + 1
        if reason == "unhealthy":
            waits.append(backend.spec.health.interval_s)
        elif reason == "breaker_open":
            waits.append(backend.learned.breaker.next_change_at(now) - now)
    detail = ", ".join(f"{count} {reason}" for reason, count in counts.items())
    return NoBackend(detail or "there are no backends", retry_after_s=min(waits, default=RETRY_AFTER_S))


def _untried(candidates: Sequence[Backend], tried: Collection[Backend]) -> list[Backend]:
    """Leave out what is full, and what was tried: by key, for a reload may have replaced the objects."""
    keys = {backend.key for backend in tried}
    return [backend for backend in candidates if backend.key not in keys and not backend.full()]
