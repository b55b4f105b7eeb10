"""The quickest: expected latency, open leases and weight in one number."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Final

from smartedge.balancer.backend import Backend
from smartedge.balancer.pace import FLOOR_S
from smartedge.balancer.strategies.base import Strategy
from smartedge.balancer.strategies.draw import Draw


class PeakEwmaStrategy(Strategy):
    """The least cost: expected latency times the leases there would be with this one, by weight.

    The expected latency is the peak-EWMA, or the age of the oldest lease that still waits for its first byte
    (`Learned.latency_s`). Up to 16 candidates the least of all is taken, above that the better of two distinct
    ones that are drawn by weight (Mitzenmacher, "The Power of Two Choices", 2001). A backend of which nothing is
    known starts at the mean of the others.
    """

    name = "ewma"
    reason = "least cost"
    by_numbers = True

    ALL_UP_TO: Final = 16

    def __init__(self) -> None:
        self._draw = Draw()

    def prepare(self, candidates: tuple[Backend, ...]) -> None:
        """Add the weights up."""
        self._draw.add_weights(candidates)

    def pick(self, candidates: Sequence[Backend], now: float, rng: Random, key: bytes = b"") -> Backend:
        """Return the one with the least cost; chance decides between equals."""
        seen = candidates if len(candidates) <= self.ALL_UP_TO else self._draw.draw_two(candidates, rng)
        best = seen[0]
        least = 0.0
        equals = 0
        mean_s: float | None = None
        for backend in seen:
            learned = backend.learned
            latency_s = learned.latency_s(now)
            if not learned.ewma.mean_s:
                if mean_s is None:
                    mean_s = _mean_s(candidates, now)
                if mean_s:
                    learned.ewma.seed(now, mean_s)
                    latency_s = max(latency_s, mean_s)
            cost = _cost(backend, latency_s)
            if not equals or cost < least:
                best, least, equals = backend, cost, 1
            elif cost == least:
                equals += 1
                if rng.random() * equals < 1.0:
                    best = backend
        return best

    def score(self, backend: Backend, candidates: Sequence[Backend], now: float) -> float:
        """Return the cost; seconds, but for the weight."""
        latency_s = backend.learned.latency_s(now)
        if not backend.learned.ewma.mean_s:
            latency_s = max(latency_s, _mean_s(candidates, now))
        return _cost(backend, latency_s)


def _cost(backend: Backend, latency_s: float) -> float:
    if latency_s < FLOOR_S:  # after a quiet night all means have decayed to nothing, and leases decide
        latency_s = FLOOR_S
    return latency_s * (backend.learned.in_flight() + 1) / backend.weight


def _mean_s(candidates: Sequence[Backend], now: float) -> float:
    """Return the mean of those that are known; 0.0 if none is."""
    known = [mean_s for backend in candidates if (mean_s := backend.learned.ewma.sound(now))]
    return sum(known) / len(known) if known else 0.0
