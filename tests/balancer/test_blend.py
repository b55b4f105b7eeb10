"""The order of tiers by what was measured."""

from __future__ import annotations

from random import Random

import pytest

from smartedge.balancer.blend import IN_ROW, TRIAL_RATIO, MeasuredOrder, with_trials


def looked(order: MeasuredOrder, *latencies_s: float | None, times: int = IN_ROW, priorities: tuple[int, ...] = ()) -> list[int]:
    for _ in range(times):
        order.look(latencies_s, priorities or (0,) * len(latencies_s))
    return order.order


def test_a_near_tier_that_is_slow_loses_its_place_after_some_looks_in_a_row() -> None:
    order = MeasuredOrder(2)
    assert looked(order, 0.1, 0.05, times=IN_ROW - 1) == [0, 1]
    assert looked(order, 0.05, 0.05, times=1) == [0, 1]
    assert looked(order, 0.1, 0.05, times=IN_ROW - 1) == [0, 1]
    assert looked(order, 0.1, 0.05, times=1) == [1, 0]


def test_it_has_its_place_back_when_it_takes_no_longer_than_the_other() -> None:
    order = MeasuredOrder(2)
    assert looked(order, 0.1, 0.05) == [1, 0]
    assert looked(order, 0.055, 0.05, times=50) == [1, 0]
    assert looked(order, 0.05, 0.05) == [0, 1]


def test_nothing_flaps_while_two_are_about_as_quick() -> None:
    order, rng = MeasuredOrder(2), Random(1)
    changes = sum(order.look([0.1 * rng.uniform(0.9, 1.1), 0.1 * rng.uniform(0.9, 1.1)], (0, 0)) for _ in range(1000))
    assert changes == 0


def test_what_takes_next_to_nothing_is_not_told_apart() -> None:
    assert looked(MeasuredOrder(2), 0.0014, 0.0005) == [0, 1]


def test_of_which_too_little_is_known_keeps_its_place() -> None:
    assert looked(MeasuredOrder(3), None, 0.001, 0.5) == [0, 1, 2]
    assert looked(MeasuredOrder(2), 5.0, None) == [0, 1]


def test_the_quickest_of_many_comes_first_in_the_end() -> None:
    order = MeasuredOrder(4)
    assert looked(order, 0.4, 0.3, 0.2, 0.1, times=8 * IN_ROW) == [3, 2, 1, 0]
    assert looked(order, 0.1, 0.1, 0.1, 0.1, times=8 * IN_ROW) == [0, 1, 2, 3]


def test_priorities_do_not_change_places() -> None:
    assert looked(MeasuredOrder(2), 0.5, 0.001, priorities=(0, 1)) == [0, 1]


def test_who_would_have_nothing_gets_a_little_so_that_it_is_measured() -> None:
    assert with_trials([1.0, 0.0, 0.0], [True] * 3) == pytest.approx([1 - 2 * TRIAL_RATIO, TRIAL_RATIO, TRIAL_RATIO])
    assert with_trials([1.0, 0.0, 0.0], [True, False, True]) == pytest.approx([1 - TRIAL_RATIO, 0.0, TRIAL_RATIO])
    assert with_trials([0.7, 0.3], [True, True]) == pytest.approx([0.7, 0.3])
    assert sum(with_trials([0.5, 0.5, 0.0], [True] * 3)) == pytest.approx(1.0)
    assert with_trials([0.0, 0.0], [False, False]) == [0.0, 0.0]
