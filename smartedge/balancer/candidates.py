"""Who may be picked, and, when nobody may, why: pure functions of the backends as they are now."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final, Literal

from smartedge.balancer.backend import Backend
from smartedge.balancer.errors import NoBackend

Panic = Literal["all", "fail"]

PANIC_RATIO: Final = 0.5
"""With a smaller share available these would only be overrun, so the ejected ones have to help again."""

RETRY_AFTER_S: Final = 1.0
"""What a client is told when nothing tells when a backend will be back."""


def candidates_of(backends: Sequence[Backend], now: float, panic: Panic) -> tuple[Backend, ...]:
    """Return those that may be picked: the available ones, or what has to do when those are too few.

    Too few among the backends that the operator has not taken out himself means panic: then the ejected ones
    serve too. One that was never probed serves when nothing else can; one that its probes call unhealthy,
    never. Full ones are left in, for they are full only for a moment.
    """
    wanted = [backend for backend in backends if backend.will == "enabled" and backend.full_weight]
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


def untried(candidates: Sequence[Backend], tried: Collection[Backend]) -> Sequence[Backend]:
    """Leave out what is full, and what was tried: by key, for a reload may have replaced the objects.

    What is given back is the very same sequence when nothing is left out: a strategy knows it (`Strategy.prepare`).
    """
    keys = {backend.key for backend in tried}
    left = [backend for backend in candidates if backend.key not in keys and not backend.full()]
    return candidates if len(left) == len(candidates) else left
