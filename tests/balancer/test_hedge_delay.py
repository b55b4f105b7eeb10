from __future__ import annotations

import random

import pytest

from smartedge.balancer.hedge_delay import FEW, FLOOR_S, UNKNOWN_S, HedgeDelay


def heard(delay: HedgeDelay, *latencies_s: float, percentile: float = 0.95) -> HedgeDelay:
    """A second in which so many answers came."""
    for latency_s in latencies_s:
        delay.observe(latency_s)
    delay.tick(percentile)
    return delay


def test_nothing_is_known_until_twenty_answers_have_come() -> None:
    delay = heard(HedgeDelay(), *[0.02] * 10)
    assert delay.after_s == UNKNOWN_S
    assert heard(delay, *[0.02] * 15).after_s == pytest.approx(0.02, rel=0.3)


def test_a_report_that_is_asked_for_now_and_then_is_not_late_when_it_takes_as_long_as_ever() -> None:
    """With one delay for the whole pool, every report of three seconds was made twice."""
    delay = heard(HedgeDelay(), 3.0)
    assert delay.after_s == FEW * 3.0


def test_it_is_the_percentile() -> None:
    answers = [0.01] * 90 + [0.5] * 10
    assert heard(HedgeDelay(), *answers).after_s == pytest.approx(0.5, rel=0.3)
    assert heard(HedgeDelay(), *answers, percentile=0.5).after_s == pytest.approx(0.01, rel=0.3)


def test_old_answers_fade_and_silence_changes_nothing() -> None:
    delay = heard(HedgeDelay(), *[0.5] * 200)
    known_s = delay.after_s
    for _ in range(1000):
        delay.tick(0.95)
    assert delay.after_s == known_s
    for _ in range(60):
        heard(delay, *[0.02] * 20)
    assert delay.after_s < 0.03


def test_a_kind_with_one_request_a_second_is_known_too() -> None:
    delay = HedgeDelay()
    for _ in range(100):
        heard(delay, 0.05)
    assert delay.after_s == pytest.approx(0.05, rel=0.3)


def test_there_is_a_least_delay() -> None:
    assert heard(HedgeDelay(), *[0.0002] * 100).after_s == FLOOR_S


def test_the_delay_stays_where_it_is_though_every_late_try_is_cut_off() -> None:
    """Counted as they end, without those that a hedge has beaten, each second's percentile would be below the last one's."""
    rng = random.Random(5)
    delay = HedgeDelay()
    for _ in range(120):
        hedges = 0
        for _ in range(250):
            latency_s = rng.lognormvariate(-4.8, 0.5)
            if latency_s > delay.after_s:
                hedges += 1
                latency_s = min(latency_s, delay.after_s + 0.008)  # what the hedge takes
            delay.observe(latency_s)
        delay.tick(0.95)
    assert 0.012 < delay.after_s < 0.03  # 95 of 100 are within 18.7 ms
    assert hedges < 50


def test_what_a_hang_costs_does_not_make_the_next_one_cost_twice_as_much() -> None:
    """A try that a hedge has beaten took as long as the delay, and late would be twice that: 1 s, 2 s, 4 s."""
    delay = HedgeDelay()
    for _ in range(4):
        delay.observe(delay.after_s, answered=False)
        heard(delay, 0.01)
    assert delay.after_s == UNKNOWN_S
