"""When a configuration on trial is measurably worse."""

from __future__ import annotations

import pytest

from smartedge.edge.verdict import Measured, TrialLimits, measured, verdict
from smartedge.observe.history_table import Series

GOOD = Measured(1_000, 2, 0.1)


@pytest.mark.parametrize(
    ("after", "limits", "why"),
    [
        (Measured(1_000, 2, 0.1), TrialLimits(0.05, 2), ""),
        (Measured(1_000, 100, 0.1), TrialLimits(0.05, 2), "10.0% of 1000 requests have failed, against 0.2% before"),
        (Measured(1_000, 100, 0.1), TrialLimits(0.2, None), ""),
        (Measured(1_000, 2, 0.25), TrialLimits(0.05, 2), "the 99th percentile is 250 ms, against 100 ms before"),
        (Measured(1_000, 2, 0.25), TrialLimits(0.05, 3), ""),
        (Measured(1_000, 2, None), TrialLimits(0.05, 2), ""),
        (Measured(10, 10, 9.0), TrialLimits(0.05, 2), ""),
        (Measured(1_000, 1_000, 9.0), TrialLimits(), ""),
    ],
    ids=["as before", "fails", "allowed", "slow", "slow, allowed", "no times", "too few", "nothing is minded"],
)
def test_only_what_was_forbidden_and_is_worse_counts(after: Measured, limits: TrialLimits, why: str) -> None:
    assert verdict(GOOD, after, limits).startswith(why)
    assert bool(verdict(GOOD, after, limits)) is bool(why)


def test_what_failed_before_as_well_is_not_held_against_it() -> None:
    """Over the limit, but not beyond what chance makes of the same."""
    assert verdict(Measured(500, 50, 0.1), Measured(500, 55, 0.1), TrialLimits(0.05)) == ""
    assert verdict(Measured(500, 50, 0.1), Measured(500, 150, 0.1), TrialLimits(0.05)) != ""


def test_nothing_is_said_where_nothing_was_measured_before() -> None:
    assert verdict(Measured(0, 0, None), Measured(1_000, 1_000, 9.0), TrialLimits(0.05, 2)) == ""


def test_services_are_added_up_and_one_bad_tick_says_nothing() -> None:
    one = Series([20, 20, None, 20], [1, 0, None, 0], [], [0.1, 0.1, None, 9.0], [], [])
    other = Series([5, None, None, None], [2, None, None, None], [], [5.0, None, None, None], [], [])
    assert measured([one, other]) == Measured(65, 3, 0.1)
    assert measured([other]).p99_s is None
