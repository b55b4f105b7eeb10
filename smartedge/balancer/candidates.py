"""Who may be picked, and, when nobody may, why: pure functions of the backends as they are now."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from math import inf
from typing import Final, Literal

from smartedge.balancer.backend import Backend, WhyNot
from smartedge.balancer.breaker import CLOSED
from smartedge.balancer.cells import BREAKER, WEIGHT
from smartedge.balancer.errors import NoBackend

Panic = Literal["all", "fail"]

PANIC_RATIO: Final = 0.5
"""With a smaller share available these would only be overrun, so the ejected ones have to help again."""

RESTART_S: Final = 60.0
"""One that has been unhealthy for longer is not being restarted: its clients need not wait to hear that."""

MOST_FAULTS: Final = 2
"""So many different reasons of unhealthy backends does a client hear."""

MOST_ASKED: Final = 8
"""Of so many unhealthy backends are they looked up: of hundreds they would cost more than the request."""

RETRY_AFTER_S: Final = 1.0
"""When a client is told to come back where nothing tells when there will be room, or a backend."""


WARM_UP_STEPS: Final = 20
"""Weights of backends that start slowly are worked out so often in that time."""

InPanic = Callable[[Sequence[Backend], Sequence[WhyNot | None]], Collection[Backend]]
"""Says which of the backends have to help although they are ejected, by why each can't be picked."""


def all_if_too_few(wanted: Sequence[Backend], reasons: Sequence[WhyNot | None]) -> Collection[Backend]:
    """Return all of them if too few are available, else none: the rule where nobody minds where backends stand."""
    return wanted if sum(reason in SERVING for reason in reasons) < PANIC_RATIO * len(wanted) else ()


def weigh(backends: Sequence[Backend], now: float) -> tuple[float, bool]:
    """Bring all weights up to date; return until when they and the breakers stay so, and whether all of these are closed."""
    valid_until, closed = inf, True
    for backend in backends:
        spec, shared = backend.spec, backend.learned.shared
        full_weight = backend.full_weight if shared[WEIGHT] else spec.weight
        slow_start_s = spec.slow_start_s
        backend.weight = backend.weight_at(now) if slow_start_s else full_weight  # apart, mypyc would take this int for no float
        if slow_start_s and backend.weight < full_weight:
            valid_until = min(valid_until, now + slow_start_s / WARM_UP_STEPS)
        if shared[BREAKER] != CLOSED:
            closed = False
            valid_until = min(valid_until, backend.learned.breaker.next_change_at(now))
    return valid_until, closed


def candidates_of(
    backends: Sequence[Backend], now: float, panic: Panic, in_panic: InPanic = all_if_too_few
) -> tuple[Backend, ...]:
    """Return those that may be picked: the available ones, or what has to do when those are too few.

    Too few among the backends that the operator has not taken out himself means panic: then the ejected ones
    serve too. One that was never probed serves when nothing else can; one that its probes call unhealthy,
    never. Full ones are left in, for they are full only for a moment.
    """
    if backends and all(backend.is_well() for backend in backends):
        return tuple(backends)  # as mostly; of ten thousand all that follows takes as long as a hundred requests
    every = [(backend, None if backend.is_well() else backend.why_not(now)) for backend in backends]
    wanted = [backend for backend, reason in every if reason not in _TAKEN_OUT]
    reasons = [reason for _, reason in every if reason not in _TAKEN_OUT]
    helping = set(in_panic(wanted, reasons)) if panic == "all" and "breaker_open" in reasons else ()
    found = tuple(
        backend
        for backend, reason in zip(wanted, reasons, strict=True)
        if reason in SERVING or (reason == "breaker_open" and backend in helping)
    )
    return found or tuple(backend for backend, reason in zip(wanted, reasons, strict=True) if reason == "unprobed")


_TAKEN_OUT: Final = frozenset({"draining", "disabled", "zero_weight"})
"""By the operator; these reasons go before all others."""

SERVING: Final = frozenset({None, "full"})
"""Why not of those that serve: a full one is full only for a moment, and then passed by."""


def no_backend(backends: Sequence[Backend], now: float, tried: Collection[Backend] = ()) -> NoBackend:
    """Return the error that says why none of them can serve, and when it makes sense to come back."""
    keys = {backend.key for backend in tried}
    counts: dict[str, int] = {}
    faults: dict[str, None] = {}
    waits = []
    for backend in backends:
        reason = "tried" if backend.key in keys else backend.why_not(now) or "available"
        counts[reason] = counts.get(reason, 0) + 1
        if reason == "unhealthy":
            waits.append(backend.spec.health.interval_s)
            if counts[reason] <= MOST_ASKED:
                faults[backend.fault()] = None
        elif reason == "breaker_open":
            waits.append(backend.learned.breaker.next_change_at(now) - now)
    told = "; ".join(list(filter(None, faults))[:MOST_FAULTS])
    parts = [f"{count} {reason}{f' ({told})' if told and reason == 'unhealthy' else ''}" for reason, count in counts.items()]
    return NoBackend(
        ", ".join(parts) or "there are no backends: none has been found yet, or all have gone",
        retry_after_s=min(waits, default=RETRY_AFTER_S),
    )


def last_resort(
    backends: Sequence[Backend], candidates: Sequence[Backend], now: float, tried: Collection[Backend], panic: Panic
) -> Backend | None:
    """Return who is tried when nobody else is left, before the client is told 503; None when there is nobody.

    Nor is there when a candidate that was not tried is only full: it will soon have room.

    It may be ejected (with panic "fail" the operator does without those), silent, never probed, or on its way back from
    being unhealthy: a refused connection costs nothing, and a good answer is one. Not what the operator has taken out, nor
    what its probes call unhealthy. The least busy of them, for its weight.
    """
    if may_have_room(candidates, tried):
        return None
    keys = {backend.key for backend in tried}
    left = [backend for backend in backends if backend.key not in keys and _may_try(backend, now, panic)]
    return min(left, key=lambda backend: backend.in_flight() / backend.full_weight, default=None)


def _may_try(backend: Backend, now: float, panic: Panic) -> bool:
    reason = backend.why_not(now)
    if reason == "breaker_open":
        return panic == "all" and not backend.full()
    if reason == "unhealthy":
        return backend.learned.health.rising and backend.learned.breaker.admits(now) and not backend.full()
    return reason in (None, "unprobed", "silent")


def may_have_room(candidates: Sequence[Backend], tried: Collection[Backend]) -> bool:
    """Whether a candidate that was not tried is full, so that it makes sense to wait until it has room."""
    keys = {backend.key for backend in tried}
    return any(backend.full() for backend in candidates if backend.key not in keys)


def must_stay(backends: Sequence[Backend], backend: Backend, now: float, max_ejected_ratio: float) -> bool:
    """Whether one of the backends may not be ejected: it is the last available one, or too many are out already."""
    others = [other for other in backends if other.learned is not backend.learned]
    out = sum(not other.learned.breaker.admits(now) for other in others) + 1
    return out > max(1.0, max_ejected_ratio * len(backends)) or not any(other.available(now) for other in others)


def may_return(backends: Sequence[Backend], now: float, within_s: float) -> bool:
    """Whether it makes sense to wait for one of those that cannot serve: it may be one that is being restarted."""
    for backend in backends:
        reason = backend.why_not(now)
        if reason == "unprobed":
            return True
        if reason == "unhealthy" and now < backend.learned.down_since + RESTART_S:
            return True
        if reason == "breaker_open" and backend.learned.breaker.next_change_at(now) < now + within_s:
            return True
    return False


def untried(candidates: Sequence[Backend], tried: Collection[Backend]) -> Sequence[Backend]:
    """Leave out what is full, and what was tried: by key, for a reload may have replaced the objects.

    What is given back is the very same sequence when nothing is left out: a strategy knows it (`Strategy.prepare`).
    """
    keys = {backend.key for backend in tried}
    left = [backend for backend in candidates if backend.key not in keys and not backend.full()]
    return candidates if len(left) == len(candidates) else left
