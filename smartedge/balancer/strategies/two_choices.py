"""The better of two that chance names."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from smartedge.balancer.backend import Backend
from smartedge.balancer.strategies.base import Strategy
from smartedge.balancer.strategies.draw import Draw


class TwoChoices(Strategy):
    """Of two distinct candidates, drawn by weight, the one with fewer open leases for its weight.

    Nearly as even as looking at all of them, at a cost that does not grow with their number, and without the
    herd that runs to the one least busy a moment ago (Mitzenmacher, "The Power of Two Choices", 2001). Between
    equals the one drawn first is taken, so that an edge with little to do shares by weight too.
    """

    name = "random"
    reason = "of two that were drawn, fewer open leases for its weight"
    by_numbers = True

    def __init__(self) -> None:
        self._draw = Draw()

    def prepare(self, candidates: tuple[Backend, ...]) -> None:
        """Add the weights up."""
        self._draw.add_weights(candidates)

    def pick(self, candidates: Sequence[Backend], now: float, rng: Random, key: bytes = b"") -> Backend:
        """Return the better of two; the one there is when there is one."""
        if len(candidates) == 1:
            return candidates[0]
        one, other = self._draw.draw_two(candidates, rng)
        return other if _load(other) < _load(one) else one

    def score(self, backend: Backend, candidates: Sequence[Backend], now: float) -> float:
        """Return the open leases for a weight of 1."""
        return _load(backend)


def _load(backend: Backend) -> float:
    return backend.in_flight() / backend.weight
