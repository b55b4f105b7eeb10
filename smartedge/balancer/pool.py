"""The pool: the backends of one service, the one lock, and the leases it hands out. Times are seconds of a monotonic clock.

What belongs together is decided under the lock, and acted on after it: nothing waits there, logs, or calls back. A change is
a return value, for the caller to announce. What is done there is this: the strategy picks (a user's own, too); a lease writes
into its backend's rows; the notes of answers are read, some 64, before a failure is judged and when silence is looked for; a
decision that is recorded is written into its trace. And one thing that is I/O: a breaker that opens, or begins a probe, tries
the file lock that keeps the other workers out (`Membership.try_exclusive`), which never waits.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial
from math import inf
from random import Random
from threading import Lock
from typing import Any, Final

from smartedge.balancer.backend import Backend
from smartedge.balancer.breaker import EARLY, TAKEN, BreakerChange
from smartedge.balancer.candidates import (
    RETRY_AFTER_S,
    Panic,
    all_if_too_few,
    candidates_of,
    last_resort,
    may_have_room,
    must_stay,
    no_backend,
    untried,
    weigh,
)
from smartedge.balancer.cells import EJECTED, EPOCH, IN_FLIGHT, LEASES, OBSERVED, SILENT_SINCE, STATE, TIER_0, WEIGHT
from smartedge.balancer.errors import AllFull, SessionFull
from smartedge.balancer.evidence import Evidence
from smartedge.balancer.learned import Learned
from smartedge.balancer.lease import Lease, Outcome
from smartedge.balancer.near_first import NearFirst
from smartedge.balancer.past import ShownCandidates
from smartedge.balancer.places import Place
from smartedge.balancer.silence import LEAST_S, Fallen, Silence, late
from smartedge.balancer.spec import STATES, State
from smartedge.balancer.strategies.menu import Strategy
from smartedge.balancer.trace import Trace, shown_always

__all__ = ["Lease", "Outcome", "Pool"]

LOOK_AT: Final = 1_000
"""So many backends are looked at for silence at once; of more it is another part each time, for a look holds up requests."""

SESSION_S: Final = 3.0
"""So long is a silent backend asked for its own sessions: its pause is likely to be over by then."""


class Pool:
    """The backends of one service and the strategy that picks among them; owned by the edge, asked by whoever forwards.

    backends: replaced whole, so that readers need no lock. looked_at: the part of them that was last looked at for silence.
    panic: with fewer than half of the backends available, "all" uses those again that the breakers ejected, "fail" does without
    them. row: the service's own, beside those of its backends; its epoch becomes another number whenever the candidates may be
    others, so that a change in one worker is in force at the next pick of every other one. lock: the one
    lock, handed in with the strategy, for what may wait under it is a user's own.
    """

    def __init__(
        self,
        backends: Sequence[Backend],
        strategy: Strategy,
        rng: Random,
        panic: Panic = "all",
        row: Learned | None = None,
        near: NearFirst | None = None,
        lock: Any = None,
    ) -> None:
        self.lock = lock or Lock()
        self.strategy = strategy
        self.near: NearFirst | None = None
        self.row = row or Learned()
        self._rng = rng
        self._silence = Silence()
        self._part = 0
        self._usual: ShownCandidates | None = None  # of the candidates now, once a decision was recorded
        self.backends: tuple[Backend, ...] = ()
        self.looked_at: tuple[Backend, ...] = ()
        self._all_well = False  # the strategy alone decides: all breakers are closed, nobody can be full, nearness is no matter
        self.evidence = Evidence()
        self.replace_backends(backends, strategy, panic, near)

    def __repr__(self) -> str:
        leases = sum(backend.in_flight() for backend in self.backends)
        counts = f"{len(self.backends)} backends, {len(self._candidates)} candidates, {leases} in flight"
        return f"<Pool {self.strategy.name}: {counts}>"

    def replace_backends(
        self,
        backends: Sequence[Backend],
        strategy: Strategy,
        panic: Panic | None = None,
        near: NearFirst | None = None,
        lock: Any = None,
    ) -> None:
        """Swap in another configuration; a strategy of the same name is kept, and so are those of tiers.

        lock: the one lock, if the strategy is another one; None for the one there is.
        """
        with self.lock:
            known = set(map(id, self.backends))
            fresh = [backend for backend in backends if id(backend) not in known]
            urls = {backend.url for backend in fresh}
            before = {backend.key: backend.spec for backend in self.backends if backend.url in urls}
            entries = {spec.entry: spec for spec in before.values()}
            self.backends = self.looked_at = tuple(backends)
            self.panic: Panic = panic or self.panic
            if near is None or self.near is None or strategy.name != self.strategy.name:
                self.near = near
            if near is not None and self.near is not None:
                self.near.follow(near, self.backends)
            if strategy.name != self.strategy.name:
                self.strategy = strategy
                self.lock = lock or self.lock
            self.strategy.keep(self.backends)
            self._limited = any(backend.spec.max_in_flight is not None for backend in self.backends)
            self.evidence.follow_backends(self.backends)
            self._by_id = {backend.id: backend for backend in self.backends}
            self._named = {backend_id: [backend] for backend_id, backend in self._by_id.items()}
            for backend in self.backends:
                if "/" in backend.id:
                    self._named.setdefault(backend.spec.entry[0], []).append(backend)
            for backend in fresh:
                backend.learned.follow_spec(backend.spec, before.get(backend.key) or entries.get(backend.spec.entry))
            self._candidates: tuple[Backend, ...] = ()
            self._weights: list[float] = []
            self._early = self._all_well = self._all_closed = False
            self._seen = 0
            self._valid_until = -inf

    def renew_candidates(self) -> None:
        """Have the candidates worked out again at the next pick, in every worker: a backend's health has changed."""
        with self.lock:
            self.forget_candidates()

    def candidates(self, now: float) -> tuple[Backend, ...]:
        """Return the backends that are picked from now, full ones among them; empty when none can serve."""
        with self.lock:
            return self._current(now)

    def panics(self, now: float) -> bool:
        """Whether backends are picked from that are ejected, for too few others are available."""
        candidates = self.candidates(now)
        return not self._all_closed and any(backend.why_not(now) == "breaker_open" for backend in candidates)

    def lease(
        self,
        now: float,
        tried: Collection[Backend] = (),
        key: bytes = b"",
        prefer: str | None = None,
        trace: Trace | None = None,
        must: bool = True,
        origin: Place | None = None,
    ) -> Lease:
        """Pick a backend, not one that this request has tried, and count its use. Raises NoBackend.

        key: what the request is known by, for strategies that send like to like. prefer: the id of the backend
        that its sticky session is with, which serves it if it can, also while it drains. trace: hears what the
        pick was made of. must: the client is told 503 if there is none, so that whoever may still do is tried; False
        for a hedge, which is no such need. origin: where the request comes from, None for where the edge stands.
        """
        lock = self.lock
        lock.acquire()  # `with` takes twice as long
        try:
            if now >= self._valid_until or self.row.shared[EPOCH] != self._seen:
                self._work_out_candidates(now)
            if self._all_well and prefer is None and not tried and trace is None:
                lease: Lease | None = Lease(self, self.strategy.pick(self._candidates, now, self._rng, key), now, 0)
            elif self._usual is not None and prefer is None and not tried and trace is not None:  # all is well, too
                backend = self.strategy.pick(self._candidates, now, self._rng, key)
                lease = Lease(self, backend, now, 0)
                lease.record = trace.add_usual_pick(self._usual, self.strategy, backend, now)
            else:
                lease = self._find_lease(now, tried, key, prefer, trace, must, origin)
            if lease is not None:
                learned = lease.backend.learned
                cells = learned.cells
                cells[IN_FLIGHT] += 1
                cells[LEASES] += 1
                learned.waiting[lease] = now
                return lease
        finally:
            lock.release()
        raise no_backend(self.backends, now, tried)

    def _find_lease(
        self,
        now: float,
        tried: Collection[Backend],
        key: bytes,
        prefer: str | None,
        trace: Trace | None,
        must: bool,
        origin: Place | None,
    ) -> Lease | None:
        """Make a lease of the backend that may be picked by all that there is to consider; None without one. Raises AllFull."""
        candidates: Sequence[Backend] = self._candidates
        if tried or self._limited:
            candidates = untried(candidates, tried)
        backend = None if prefer is None else self._preferred(prefer, now, tried)
        last, near, tier = False, self.near, -1
        if must and backend is None and not candidates:
            backend = last_resort(self.backends, self._candidates, now, tried, self.panic)
            last = backend is not None
        while backend is not None or candidates:
            if backend is None:
                if near is None:
                    backend = self.strategy.pick(candidates, now, self._rng, key)
                else:
                    backend = near.pick(candidates, now, self._rng, key, tried, origin, not must)
                    tier = near.tier
            ticket = backend.learned.breaker.take_ticket(now, self._early)
            if ticket and ticket != EARLY:
                self.forget_candidates()
                if ticket == TAKEN:
                    candidates = [other for other in candidates if other is not backend]
                    backend, tier = None, -1
                    continue
            if near is not None:
                number = near.tier_of(backend, origin) if tier < 0 else tier
                backend.learned.cells[TIER_0 + min(number, 3)] += 1
            lease = Lease(self, backend, now, ticket)
            if trace is not None:
                why = "the last resort" if last else ""
                lease.record = trace.add_pick(
                    self.backends,
                    candidates,
                    tried,
                    self.strategy,
                    backend,
                    now,
                    prefer,
                    probe=ticket > 0,
                    why=why,
                    near=near,
                    asked=tier >= 0,
                )
                if self._all_well:
                    self._usual = shown_always(self._candidates, self.backends)
            return lease
        if trace is not None:
            trace.add_none(self.backends, tried, now)
        if may_have_room(self._candidates, tried):
            raise AllFull(no_backend(self.backends, now, tried).detail, retry_after_s=RETRY_AFTER_S)
        return None

    def backends_of(self, backend_id: str) -> Sequence[Backend]:
        """Return the backend of that id, or all that the entry of that id has become: one for each address of its name."""
        return self._named.get(backend_id, ())

    def set_state(self, backend_id: str, state: State) -> None:
        """Let the operator take a backend out, or have it back. Raises KeyError without one of that id (see `backends_of`)."""
        with self.lock:
            for backend in self._named[backend_id]:
                backend.learned.shared[STATE] = STATES.index(state)
            self.forget_candidates()

    def set_weight(self, backend_id: str, weight: int | None) -> None:
        """Let the operator weigh a backend anew, None for what its file says. Raises KeyError if there is none of that id."""
        with self.lock:
            for backend in self._named[backend_id]:
                backend.learned.shared[WEIGHT] = (weight or -1) if weight is not None else 0
            self.forget_candidates()

    def eject(self, backend: Backend, now: float, max_ejected_ratio: float, why: str = "") -> BreakerChange | None:
        """Open a backend's breaker for what an outlier detector has found, unless too many are out; return the change."""
        with self.lock:
            if must_stay(self.backends, backend, now, max_ejected_ratio):
                return None
            return self.note_change(backend, backend.learned.breaker.eject(now, self._rng, why), now)

    def look_for_silence(self, now: float) -> list[Fallen]:
        """Find out who leaves unanswered what others answer, and who no longer does; return what is new. Called often."""
        with self.lock:
            self.looked_at = self._next_part()
            self.evidence.read_notes()
            changes = self._silence.look(self.looked_at, self.backends, self.evidence, now)
            if changes:
                for fallen in changes:
                    if fallen.change == "observed":
                        fallen.backend.learned.cells[OBSERVED] += 1
                self.forget_candidates()
            return changes

    def _next_part(self) -> tuple[Backend, ...]:
        """Return the backends to look at now: all, or of very many a part, and the next time the next one."""
        parts = -(-len(self.backends) // LOOK_AT)
        if parts <= 1:
            return self.backends
        self._part = (self._part + 1) % parts
        return self.backends[self._part :: parts]

    def late_leases(self, backend: Backend, now: float) -> list[Lease]:
        """Return the leases of this worker that should not wait on a silent backend any longer, the oldest first."""
        with self.lock:
            return late(backend, self.evidence, now)

    def end_silence(self, lease: Lease, now: float, latency_s: float) -> None:
        """Hear that a silent backend has answered; what was overdue ends its silence. Called under the lock."""
        learned = lease.backend.learned
        self.evidence.kind_of(lease.holder).heard[learned] = now
        if latency_s >= LEAST_S:
            learned.shared_reals[SILENT_SINCE] = 0.0
            self.forget_candidates()

    def learn_kinds(self, now: float, hedge_percentile: float) -> None:
        """Work out what is late for hedging, forget kinds that nobody asks for, and measure tiers. Called once a second."""
        with self.lock:
            self.evidence.read_notes()
            self.evidence.kinds.tick(now, hedge_percentile if self.evidence.hedging else None)
            if self.near is not None:
                self.near.measure(now)

    def strategies(self) -> list[Strategy]:
        """Return the strategy, or where nearness counts those of all tiers."""
        return [self.strategy] if self.near is None else self.near.strategies()

    def tell_failed(self, backend: Backend) -> None:
        """Tell whoever picks that a lease of this backend failed. Called under the lock."""
        self.strategy.failed(backend)
        if self.near is not None:
            self.near.tell_failed(backend)

    def count_failure(self, backend: Backend, now: float, ticket: int, *, ratio_only: bool = False) -> BreakerChange | None:
        """Tell the breaker of a failure. Called under the lock."""
        breaker = backend.learned.breaker
        return breaker.failed(now, self._rng, ticket, ratio_only=ratio_only, must_stay=self._must_stay(backend, now))

    def count_outrun(self, backend: Backend, now: float, ticket: int) -> BreakerChange | None:
        """Tell the breaker that a try was outrun. Called under the lock."""
        return backend.learned.breaker.outrun(now, self._rng, ticket, must_stay=self._must_stay(backend, now))

    def _must_stay(self, backend: Backend, now: float) -> Callable[[], bool]:
        return partial(must_stay, self.backends, backend, now, backend.spec.breaker.max_ejected_ratio)

    def note_change(self, backend: Backend, change: BreakerChange | None, now: float) -> BreakerChange | None:
        """Count what a breaker did, and have the candidates worked out again; return it. Called under the lock."""
        if change == "opened":
            backend.learned.cells[EJECTED] += 1
        elif change == "observed":
            backend.learned.cells[OBSERVED] += 1
        elif change == "closed":
            backend.learned.returned(now)
        if change in ("opened", "closed"):
            self.evidence.forget(backend.learned)  # what it did before has been judged
        self.forget_candidates()
        return change

    def forget_candidates(self) -> None:
        """Have them worked out again when they are next needed, in every worker. Called under the lock."""
        self._valid_until = -inf
        self.row.shared[EPOCH] = self._rng.getrandbits(62)

    def _preferred(self, backend_id: str, now: float, tried: Collection[Backend]) -> Backend | None:
        """Return a sticky session's backend, if it may serve. Raises SessionFull if it may in a moment, and none was tried."""
        backend = self._by_id.get(backend_id)
        if backend is None or backend.key in {other.key for other in tried}:
            return None
        reason = backend.why_not(now)
        if reason in ("draining", "zero_weight"):  # no new clients; what is with it stays
            learned = backend.learned
            if learned.health.state != "healthy" or not learned.breaker.admits(now):
                return None
            reason = "full" if backend.full() else None
        if reason == "silent" and now < backend.learned.silent_since + SESSION_S:
            reason = None  # a pause is no reason to move a session
        if reason == "full" and not tried:
            raise SessionFull("The backend of this session is full.", retry_after_s=RETRY_AFTER_S)
        return None if reason else backend

    def _current(self, now: float) -> tuple[Backend, ...]:
        if now >= self._valid_until or self.row.shared[EPOCH] != self._seen:
            self._work_out_candidates(now)
        return self._candidates

    def _work_out_candidates(self, now: float) -> None:
        self._seen = self.row.shared[EPOCH]  # first: what changes meanwhile is another epoch
        self._valid_until, self._all_closed = weigh(self.backends, now)
        self._usual = None
        near = self.near
        candidates = candidates_of(self.backends, now, self.panic, all_if_too_few if near is None else near.in_panic)
        if near is not None:
            near.prepare(candidates, now)
        self._early = bool(candidates) and not any(backend.learned.breaker.admits(now) for backend in candidates)
        closed = self._all_closed or all(backend.learned.breaker.state == "closed" for backend in candidates)
        self._all_well = closed and bool(candidates) and near is None and not self._limited
        weights = [backend.weight for backend in candidates]
        if candidates != self._candidates or weights != self._weights:
            self._candidates, self._weights = candidates, weights
            if near is None:
                self.strategy.prepare(candidates)
