"""Chance by weight."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smartedge.balancer.strategies.draw import Draw
from tests.house import backends


class Chance(Random):
    """Says what it is told to."""

    def __init__(self, *numbers: float) -> None:
        super().__init__()
        self._numbers = list(numbers)

    def random(self) -> float:
        return self._numbers.pop(0)


@pytest.mark.parametrize("prepared", [True, False])
@pytest.mark.parametrize("weights", [(1, 1, 1), (4, 2, 1)])
def test_each_is_drawn_by_its_weight(weights: tuple[int, ...], prepared: bool) -> None:
    members = backends(*weights)
    draw = Draw()
    if prepared:
        draw.add_weights(members)
    rng = Random(3)
    counts = Counter(draw.draw_one(members, rng).id for _ in range(7000))
    assert [counts[one.id] / 7000 for one in members] == pytest.approx([w / sum(weights) for w in weights], abs=0.02)


@pytest.mark.parametrize("prepared", [True, False])
@pytest.mark.parametrize("weights", [(1, 1, 1), (4, 2, 1), (1, 1000)])
def test_the_second_is_drawn_by_weight_from_the_others(weights: tuple[int, ...], prepared: bool) -> None:
    members = backends(*weights)
    draw = Draw()
    if prepared:
        draw.add_weights(members)
    rng = Random(3)
    counts = Counter((one.id, other.id) for one, other in (draw.draw_two(members, rng) for _ in range(20_000)))
    total = sum(weights)
    for one in members:
        for other in members:
            wanted = one.weight / total * other.weight / (total - one.weight) if one is not other else 0.0
            assert counts[one.id, other.id] / 20_000 == pytest.approx(wanted, abs=0.015)


@given(
    st.lists(st.floats(0.1, 1000.0), min_size=2, max_size=9),
    st.floats(0.0, 1.0, exclude_max=True),
    st.floats(0.0, 1.0, exclude_max=True),
)
def test_two_are_distinct_whatever_chance_says(weights: list[float], first: float, second: float) -> None:
    members = backends(*[1] * len(weights))
    for one, weight in zip(members, weights, strict=True):
        one.weight = weight
    draw = Draw()
    draw.add_weights(members)
    one, other = draw.draw_two(members, Chance(first, second))
    assert one is not other
    assert draw.draw_one(members, Chance(first)) is one


def test_weights_whose_sums_are_rounded_give_two_distinct_ones_all_the_same() -> None:
    """What is left of the sum without the last weight is more here than the sum of those before it."""
    members = backends(1, 1)
    members[0].weight, members[1].weight = 9.62201125180818, 573.3827030223086
    draw = Draw()
    draw.add_weights(members)
    assert draw.draw_two(members, Chance(0.99, 1 - 2**-53)) == (members[1], members[0])
