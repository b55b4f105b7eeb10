"""Silence: which backends take requests and answer none, long before a time-out says so.

A breaker hears of a request at its end, and one that hangs ends when its time is over: until then every strategy
that does not go by latency sends more after it. Here, waiting counts: as many requests as failures in a row would
eject a backend (or, when it has been ejected, its one probe) have waited for many times as long as the others
take, and nobody has got an answer from it since.
Seconds are those of a monotonic clock.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median
from typing import Final

from smartedge.balancer.backend import Backend

LEAST_S: Final = 1.0
"""Nobody is called silent sooner: a stop for garbage, or a moment without CPU, is over by then."""

TIMES: Final = 10.0
"""So many times as long as the others take: what one endpoint needs longer than another is no silence."""


def silent(backends: Sequence[Backend], now: float) -> Iterator[Backend]:
    """Give the backends that have fallen silent while others answer; it looks at this worker's requests only."""
    for backend in backends:
        learned = backend.learned
        if not learned.waiting:
            continue  # as with most of many: nothing else of it needs to be looked at
        needed = backend.spec.breaker.failures if learned.breaker.state == "closed" else 1  # a probe is enough
        if len(learned.waiting) < needed:
            continue
        heard_at = learned.heard_at
        unheard = [since for since in list(learned.waiting.values()) if since > heard_at]
        if len(unheard) < needed:
            continue
        waited_s = now - unheard[needed - 1]
        if waited_s < LEAST_S:
            continue
        since = unheard[0]
        others = [other for other in backends if other.learned is not learned and other.learned.heard_at > since]
        if others and waited_s > TIMES * median(other.learned.ewma.read(now) for other in others):
            yield backend
