from __future__ import annotations

from array import array

from smartedge.simulator.figures import WINDOWS, RunRecord, figures, percentile


def test_a_percentile_is_the_least_value_that_so_many_do_not_exceed() -> None:
    assert [percentile(range(1, 101), percent) for percent in (1, 50, 99, 99.9, 100)] == [1, 50, 99, 100, 100]
    assert percentile([7.0], 50) == 7.0
    assert percentile([], 99) == 0.0


def test_figures_count_what_an_outcome_holds() -> None:
    outcome = RunRecord(["a", "b"])
    outcome.at, outcome.took_s = array("d", [5.0, 6.0, 9.9]), array("d", [0.1, 0.3, 0.2])
    outcome.status, outcome.backend, outcome.tries = array("H", [200, 503, 404]), array("h", [0, -1, 1]), [3, 1]
    found = figures("ewma", outcome, 5.0, 10.0)

    assert (found.requests, found.errors, found.statuses) == (3, 1, {200: 1, 404: 1, 503: 1})
    assert (found.p50_s, found.p99_s, found.max_s) == (0.2, 0.3, 0.3)
    assert found.shares == {"a": 0.75, "b": 0.25}
    assert [value for value in found.over_time if value] == [0.1, 0.3, 0.2]
    assert (found.over_time[0], found.over_time[WINDOWS - 2]) == (0.1, 0.2)


def test_what_backends_have_open_is_counted_for_all_and_for_the_busiest() -> None:
    outcome = RunRecord(["a", "b"])
    outcome.open_sum, outcome.open_most = array("L", [2, 6]), array("L", [1, 5])
    found = figures("ewma", outcome, 0.0, 1.0)

    assert (found.open_mean, found.busiest_mean, found.busiest_p99) == (2.0, 3.0, 5)
    assert figures("ewma", RunRecord(["a"]), 0.0, 1.0).open_mean == 0.0
