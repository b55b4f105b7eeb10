"""The pace: a mean of logarithms, how far it can be trusted, and what is forgotten."""

from __future__ import annotations

from math import exp, log
from random import Random

import pytest

from smartedge.balancer.cells import private_row
from smartedge.balancer.pace import LEAST_SEEN, LEAST_VARIANCE, Pace


def paced(*latencies_s: float, now: float = 1000.0) -> Pace:
    pace = Pace(private_row())
    for latency_s in latencies_s:
        pace.add(latency_s)
    pace.settle(now)
    return pace


def test_it_is_the_geometric_mean() -> None:
    assert exp(paced(0.001, 0.1).log_mean) == pytest.approx(0.01)


def test_one_long_poll_among_quick_answers_moves_it_little() -> None:
    assert exp(paced(*[0.01] * 63, 4.0).log_mean) == pytest.approx(0.011, rel=0.02)


def test_the_variance_is_that_of_the_logarithms() -> None:
    rng = Random(3)
    pace = paced(*[0.008 * exp(rng.gauss(0.0, 0.5)) for _ in range(2000)])
    assert pace.variance == pytest.approx(0.25, rel=0.1)


def test_answers_that_are_all_alike_leave_some_doubt() -> None:
    assert paced(0.01, 0.01, 0.01, 0.01).variance == LEAST_VARIANCE


def test_merged_in_parts_or_at_once_it_comes_to_the_same() -> None:
    rng = Random(5)
    latencies = [0.008 * exp(rng.gauss(0.0, 0.5)) for _ in range(64)]
    at_once, in_parts = paced(*latencies), Pace(private_row())
    for latency_s in latencies:
        in_parts.add(latency_s)
        in_parts.settle(1000.0)
    assert in_parts.log_mean == pytest.approx(at_once.log_mean, abs=0.1)
    assert in_parts.variance == pytest.approx(at_once.variance, rel=0.35)


def test_nothing_is_concluded_of_the_first_answers() -> None:
    assert not paced(*[0.01] * (LEAST_SEEN - 1)).known
    assert paced(*[0.01] * LEAST_SEEN).known


def test_old_evidence_loses_its_weight() -> None:
    pace = paced(*[0.01] * 64)
    assert pace.weight(1000.0) == pytest.approx(64)
    assert pace.weight(1300.0) < 0.01


def test_an_answer_that_takes_far_longer_leaves_little_of_what_was_known() -> None:
    """Each of 64 nodes sees an answer of a backend every half second: it took them ten to believe that it had turned slow."""
    seen = {}
    for latency_s in (0.012, 0.1, 0.001):
        pace = paced(*[0.01] * 12)
        pace.add(latency_s)
        pace.settle(1005.0)
        seen[latency_s] = exp(pace.log_mean), pace.weight(1005.0)

    assert seen[0.1] == (pytest.approx(0.021, rel=0.05), pytest.approx(3, rel=0.05))
    assert seen[0.012] == (pytest.approx(0.0102, rel=0.05), pytest.approx(11, rel=0.05))
    assert seen[0.001] == (pytest.approx(0.0081, rel=0.05), pytest.approx(11, rel=0.05)), "who is quicker once is not believed"


def test_after_turns_that_were_passed_a_new_answer_counts_for_more() -> None:
    """Whoever is asked seldom would else be judged for minutes by what it was like long ago."""
    often, seldom = paced(*[0.25] * 64), paced(*[0.25] * 64)
    seldom.passed = 200
    for pace in (often, seldom):
        pace.add(0.008)
        pace.settle(1001.0)
    assert exp(often.log_mean) > 0.2
    assert exp(seldom.log_mean) < 0.15


def test_a_failure_counts_as_five_seconds() -> None:
    pace = Pace(private_row())
    pace.fail()
    pace.settle(1000.0)
    assert pace.log_mean == pytest.approx(log(5.0))


def test_a_new_process_is_not_judged_by_the_one_before() -> None:
    pace = paced(*[0.25] * 64)
    pace.forget()
    assert not pace.known
    for _ in range(4):
        pace.add(0.008)
    pace.settle(1001.0)
    assert exp(pace.log_mean) == pytest.approx(0.008)


def test_workers_share_what_they_have_merged() -> None:
    row = private_row()
    one, other = Pace(row), Pace(row)
    for _ in range(10):
        one.add(0.006)
        other.add(0.010)
    one.settle(1000.0)
    assert other.known
    other.settle(1000.0)
    assert one.log_mean == other.log_mean
    assert exp(one.log_mean) == pytest.approx(0.00775, rel=0.05)
