"""The fewest open leases, by weight."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Final

from smartedge.balancer.backend import Backend
from smartedge.balancer.strategies.base import Strategy
from smartedge.balancer.strategies.draw import Draw


class LeastRequests(Strategy):
    """The least (leases + 1) / weight; one without a lease comes first, as in HAProxy's `leastconn`.

    Leases are those of all workers. Between equals chance decides, by weight, so that an edge with little to do
    shares by weight too, and workers that begin together do not walk in step. The first look is at one that is
    drawn by weight: if it has no lease, none can be better. Else all are looked at, or, of more than 64, 16 that
    are drawn by weight.
    """

    name = "least_requests"
    reason = "fewest open leases for its weight"
    by_numbers = True

    ALL_UP_TO: Final = 64
    SAMPLE: Final = 16

    def __init__(self) -> None:
        self._draw = Draw()

    def prepare(self, candidates: tuple[Backend, ...]) -> None:
        """Add the weights up."""
        self._draw.add_weights(candidates)

    def pick(self, candidates: Sequence[Backend], now: float, rng: Random, key: bytes = b"") -> Backend:
        """Return the least busy one."""
        best = self._draw.draw_one(candidates, rng)
        if not best.in_flight():
            return best
        if len(candidates) > self.ALL_UP_TO:
            candidates = [self._draw.draw_one(candidates, rng) for _ in range(self.SAMPLE)]
        least = equals = 0.0
        for backend in candidates:
            load = _load(backend)
            if not equals or load < least:
                best, least, equals = backend, load, backend.weight
            elif load == least:
                equals += backend.weight
                if rng.random() * equals < backend.weight:
                    best = backend
        return best

    def score(self, backend: Backend, candidates: Sequence[Backend], now: float) -> float:
        """Return the leases that there would be, for a weight of 1."""
        return _load(backend)


def _load(backend: Backend) -> float:
    leases = backend.in_flight()
    return (leases + 1) / backend.weight if leases else 0.0
