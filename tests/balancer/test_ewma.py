from __future__ import annotations

from math import exp

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smartedge.balancer.cells import private_row
from smartedge.balancer.ewma import PeakEwma

seconds = st.floats(0.0, 1e4)


def test_nothing_is_known_at_first() -> None:
    assert PeakEwma(private_row()).read(1e6) == 0.0


def test_the_first_latency_is_the_mean() -> None:
    ewma = PeakEwma(private_row())
    ewma.observe(100.0, 0.02)
    assert ewma.read(100.0) == 0.02


def test_a_latency_above_the_mean_replaces_it_at_once() -> None:
    ewma = PeakEwma(private_row())
    ewma.observe(100.0, 0.02)
    ewma.observe(100.001, 0.5)
    assert ewma.read(100.001) == 0.5


def test_a_latency_above_the_decayed_mean_replaces_it_even_when_below_the_stored_one() -> None:
    ewma = PeakEwma(private_row())
    ewma.observe(100.0, 1.0)
    ewma.observe(120.0, 0.2)  # 1.0 has decayed to 0.135
    assert ewma.read(120.0) == 0.2


def test_a_latency_below_the_mean_blends_in_by_the_time_that_passed() -> None:
    ewma = PeakEwma(private_row())
    ewma.observe(100.0, 1.0)
    ewma.observe(103.0, 0.1)
    w = exp(-0.3)
    assert ewma.read(103.0) == pytest.approx(1.0 * w + 0.1 * (1 - w))


def test_reading_decays_with_ten_seconds_and_stores_nothing() -> None:
    ewma = PeakEwma(private_row())
    ewma.observe(100.0, 1.0)
    assert ewma.read(110.0) == pytest.approx(exp(-1))
    assert ewma.read(120.0) == pytest.approx(exp(-2))
    assert ewma.read(100.0) == 1.0
    assert ewma.mean_s == 1.0


def test_a_caller_with_an_older_clock_sees_no_growth_and_does_not_turn_time_back() -> None:
    ewma = PeakEwma(private_row())
    ewma.observe(100.0, 1.0)
    assert ewma.read(90.0) == 1.0
    ewma.observe(90.0, 0.5)
    assert ewma.read(110.0) == pytest.approx(exp(-1))


@pytest.mark.parametrize(
    ("mean_s", "retry_after_s", "counts_as"),
    [
        (0.02, None, 5.0),
        (0.02, 0.0, 5.0),
        (0.02, 3.0, 5.0),
        (0.02, 60.0, 60.0),
        (0.02, 9_999.0, 300.0),
        (0.02, float("nan"), 5.0),
        (30.0, None, 30.0),
        (400.0, 9_999.0, 400.0),
    ],
)
def test_a_failure_counts_as_the_largest_of_five_seconds_retry_after_and_the_mean(
    mean_s: float, retry_after_s: float | None, counts_as: float
) -> None:
    ewma = PeakEwma(private_row())
    ewma.observe(100.0, mean_s)
    ewma.fail(100.0, retry_after_s)
    assert ewma.read(100.0) == counts_as


def test_a_good_probe_after_a_failure_brings_back_what_was_before_it() -> None:
    ewma = PeakEwma(private_row())
    ewma.observe(100.0, 0.02)
    for now in (101.0, 102.0):
        ewma.fail(now)
    assert ewma.read(102.0) == 5.0
    ewma.forgive(103.0)
    assert ewma.read(103.0) == pytest.approx(0.02 * exp(-0.1))
    ewma.observe(103.0, 2.0)
    ewma.forgive(104.0)  # there is nothing to forgive
    assert ewma.read(103.0) == 2.0
    ewma.fail(104.0)
    ewma.forgive(105.0)
    assert ewma.read(105.0) == pytest.approx(2.0 * exp(-0.1))


def test_a_good_probe_forgives_what_a_failure_asked_for() -> None:
    """It was said of one request; the backend answers others."""
    ewma = PeakEwma(private_row())
    ewma.observe(100.0, 0.02)
    ewma.fail(100.0, 60.0)
    ewma.fail(101.0)
    assert ewma.read(101.0) == pytest.approx(60.0 * exp(-0.1))
    ewma.forgive(102.0)
    assert ewma.read(102.0) == 0.02


@pytest.mark.parametrize("retry_after_s", [-1.0, float("nan"), float("-inf")])
def test_a_backend_that_asks_for_less_than_no_time_gets_none(retry_after_s: float) -> None:
    ewma = PeakEwma(private_row())
    ewma.fail(100.0, retry_after_s)
    ewma.forgive(100.1)
    assert ewma.read(100.1) == 0.0


def test_a_failure_is_compared_with_the_decayed_mean() -> None:
    ewma = PeakEwma(private_row())
    ewma.observe(100.0, 12.0)
    ewma.fail(110.0)  # 12 s have decayed to 4.4
    assert ewma.read(110.0) == 5.0


def test_a_failure_below_the_mean_leaves_the_mean_as_it_has_decayed() -> None:
    ewma = PeakEwma(private_row())
    ewma.observe(100.0, 400.0)
    ewma.fail(110.0)
    assert ewma.read(110.0) == pytest.approx(400.0 * exp(-1))


def test_a_seed_is_where_the_decay_starts() -> None:
    ewma = PeakEwma(private_row())
    ewma.seed(100.0, 0.3)
    assert ewma.read(100.0) == 0.3
    assert ewma.read(110.0) == pytest.approx(0.3 * exp(-1))


@given(st.lists(st.tuples(seconds, seconds), min_size=1, max_size=50), seconds)
def test_the_mean_never_leaves_the_range_of_what_was_observed(samples: list[tuple[float, float]], later: float) -> None:
    ewma = PeakEwma(private_row())
    now = 100.0
    for pause, latency_s in samples:
        now += pause
        before = ewma.mean_s
        ewma.observe(now, latency_s)
        assert ewma.read(now) >= latency_s or ewma.read(now) == pytest.approx(latency_s)
        assert ewma.read(now) <= max(before, latency_s) * (1 + 1e-12)
    assert 0.0 <= ewma.read(now + later) <= ewma.read(now)


def test_a_lower_bound_counts_when_it_is_above_what_was_expected() -> None:
    ewma = PeakEwma(private_row())
    ewma.observe(100.0, 0.05)
    ewma.exceed(100.0, 0.03)
    assert ewma.read(100.0) == 0.05
    ewma.exceed(100.0, 0.08)
    assert ewma.read(100.0) == 0.08


def test_lower_bounds_in_a_row_count_double_up_to_a_failure() -> None:
    found = []
    for streak in (1, 2, 3, 8, 1000):
        ewma = PeakEwma(private_row())
        ewma.exceed(100.0, 0.03, streak)
        found.append(ewma.read(100.0))
    assert found == [0.03, 0.06, 0.12, 3.84, 5.0]
    ewma = PeakEwma(private_row())
    ewma.exceed(100.0, 9.0, 3)
    assert ewma.read(100.0) == 9.0


def test_the_stamp_tells_when_there_was_a_sign_of_life() -> None:
    ewma = PeakEwma(private_row())
    ewma.observe(100.0, 0.05)
    ewma.observe(99.0, 0.05)
