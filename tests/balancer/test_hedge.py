from __future__ import annotations

import random

import pytest

from smartedge.balancer.backend import Learned
from smartedge.balancer.cells import latency_cell
from smartedge.balancer.hedge import FLOOR_S, UNKNOWN_S, HedgeDelay


def answered(learned: Learned, *latencies_s: float) -> None:
    for latency_s in latencies_s:
        learned.add(latency_cell(latency_s))


def test_nothing_is_known_until_twenty_answers_have_come() -> None:
    delay, learned = HedgeDelay(), Learned()
    delay.tick([learned])
    answered(learned, *[0.02] * 10)
    delay.tick([learned])
    assert delay.after_s == UNKNOWN_S
    answered(learned, *[0.02] * 15)
    delay.tick([learned])
    assert delay.after_s == pytest.approx(0.02, rel=0.3)


def test_it_is_the_percentile_over_all_backends_and_all_workers() -> None:
    one, two = Learned(), Learned()
    other_worker = Learned()
    two.rows = (two.cells, other_worker.cells)
    for percentile, expected_s in ((0.95, 0.5), (0.5, 0.01)):
        delay = HedgeDelay(percentile)
        delay.tick([one, two])
        answered(one, *[0.01] * 60)
        answered(two, *[0.01] * 20, *[0.5] * 5)
        answered(other_worker, *[0.01] * 10, *[0.5] * 5)
        delay.tick([one, two])
        assert delay.after_s == pytest.approx(expected_s, rel=0.3)


def test_what_was_counted_before_the_first_look_says_nothing() -> None:
    delay, learned = HedgeDelay(), Learned()
    answered(learned, *[3.0] * 1000)
    delay.tick([learned])
    answered(learned, *[0.02] * 50)
    delay.tick([learned])
    assert delay.after_s < 0.03


def test_old_answers_fade_and_silence_changes_nothing() -> None:
    delay, learned = HedgeDelay(), Learned()
    delay.tick([learned])
    answered(learned, *[0.5] * 200)
    delay.tick([learned])
    known_s = delay.after_s
    for _ in range(1000):
        delay.tick([learned])
    assert delay.after_s == known_s
    for _ in range(60):
        answered(learned, *[0.02] * 20)
        delay.tick([learned])
    assert delay.after_s < 0.03


def test_a_service_with_one_request_a_second_is_known_too() -> None:
    delay, learned = HedgeDelay(), Learned()
    delay.tick([learned])
    for _ in range(100):
        answered(learned, 0.05)
        delay.tick([learned])
    assert delay.after_s == pytest.approx(0.05, rel=0.3)


def test_a_backend_that_leaves_takes_its_counts_along() -> None:
    delay, stays, leaves = HedgeDelay(), Learned(), Learned()
    answered(leaves, *[0.02] * 500)
    delay.tick([stays, leaves])
    answered(stays, *[0.1] * 100)
    delay.tick([stays])
    assert delay.after_s == pytest.approx(0.1, rel=0.3)


def test_there_is_a_least_delay_and_no_backends_are_no_trouble() -> None:
    delay, learned = HedgeDelay(), Learned()
    delay.tick([])
    delay.tick([])
    delay.tick([learned])
    answered(learned, *[0.0002] * 100)
    delay.tick([learned])
    assert delay.after_s == FLOOR_S


def test_the_delay_stays_where_it_is_though_every_late_try_is_cut_off() -> None:
    """Counted as they end, without those that a hedge has beaten, each second's percentile would be below the last one's."""
    rng = random.Random(5)
    delay, learned = HedgeDelay(), Learned()
    delay.tick([learned])
    for _ in range(120):
        hedges = 0
        for _ in range(250):
            latency_s = rng.lognormvariate(-4.8, 0.5)
            if latency_s > delay.after_s:
                hedges += 1
                latency_s = min(latency_s, delay.after_s + 0.008)  # what the hedge takes
            answered(learned, latency_s)
        delay.tick([learned])
    assert 0.012 < delay.after_s < 0.03  # 95 of 100 are within 18.7 ms
    assert hedges < 50
