"""Drawing candidates by chance, each as often as its weight says."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from random import Random

from smartedge.balancer.backend import Backend


class Draw:
    """Draws candidates by their weights; owned by a strategy, which has the weights added up once when the candidates change.

    A draw from those is a look-up; for any other sequence, a part of them, the weights are added up first.
    """

    def __init__(self) -> None:
        self._whole: Sequence[Backend] = ()
        self._even = False
        self._sums: list[float] = []

    def add_weights(self, candidates: tuple[Backend, ...]) -> None:
        """Add the weights up, once for many draws."""
        self._whole = candidates
        self._sums = list(accumulate(backend.weight for backend in candidates))
        self._even = len({backend.weight for backend in candidates}) == 1

    def draw_one(self, candidates: Sequence[Backend], rng: Random) -> Backend:
        """Draw one."""
        if candidates is not self._whole:
            return candidates[place_of(list(accumulate(backend.weight for backend in candidates)), rng.random())]
        if self._even:
            return candidates[int(rng.random() * len(candidates))]
        return candidates[place_of(self._sums, rng.random())]

    def draw_two(self, candidates: Sequence[Backend], rng: Random) -> tuple[Backend, Backend]:
        """Draw two distinct ones of at least two: the second as if the first had never been there."""
        whole = candidates is self._whole
        count = len(candidates)
        if whole and self._even:
            first = int(rng.random() * count)
            second = int(rng.random() * (count - 1))
            return candidates[first], candidates[second + (second >= first)]
        sums = self._sums if whole else list(accumulate(backend.weight for backend in candidates))
        first = place_of(sums, rng.random())
        below = sums[first - 1] if first else 0.0
        weight = sums[first] - below
        point = rng.random() * (sums[-1] - weight)
        # The bounds are for sums that were rounded: the second is never the first.
        if point < below or first == count - 1:
            second = min(bisect_right(sums, point, 0, first), first - 1)
        else:
            second = min(bisect_right(sums, point + weight, first + 1), count - 1)
        return candidates[first], candidates[second]


def place_of(sums: Sequence[float], chance: float) -> int:
    """Return whose part of the sum of all weights the chance (0 <= chance < 1) falls into."""
    return min(bisect_right(sums, chance * sums[-1]), len(sums) - 1)
