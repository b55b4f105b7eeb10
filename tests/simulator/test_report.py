from __future__ import annotations

import json
import math
from array import array
from xml.etree import ElementTree

import pytest

from smartedge.simulator import chart, report
from smartedge.simulator.engine import compare
from smartedge.simulator.figures import WINDOWS, RunRecord, figures, percentile
from tests.simulator.makers import scenario

BOTH = {"strategies": ["round_robin", "ewma"], "title": "Two & <two>"}


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


def test_the_table_has_a_line_for_each_strategy_and_a_column_for_each_backend() -> None:
    made = scenario(BOTH)
    lines = report.table(made.world, compare(made)).splitlines()

    assert lines[0].startswith("Two & <two>: ")
    assert lines[3].split() == ["strategy", "p50", "p90", "p99", "p99.9", "max", "errors", "retries", "hedges", "a", "b"]
    assert [line.split()[0] for line in lines[4:]] == ["round_robin", "ewma"]
    assert lines[4].split()[1:9] == ["10.0"] * 5 + ["0"] * 3
    assert len({len(line) for line in lines[3:]}) == 1, "columns are aligned"


def test_of_many_backends_only_the_ends_are_shown() -> None:
    written = [{"url": f"http://a:{port}"} for port in range(1, 10)]
    made = scenario(backends=written)

    assert report.table(made.world, compare(made)).splitlines()[3].endswith("largest share  smallest")


def test_markdown_has_as_many_cells_in_every_row() -> None:
    rows = report.markdown(compare(scenario(BOTH))).splitlines()

    assert {row.count("|") for row in rows} == {12}
    assert rows[1].startswith("| --- | --: |")


def test_json_holds_the_same_in_seconds_and_ratios() -> None:
    made = scenario(BOTH)
    whole = json.loads(report.document(made.world, compare(made)))
    first = whole["strategies"][0]

    assert (whole["title"], whole["seed"], first["strategy"]) == ("Two & <two>", 1, "round_robin")
    assert first["p50_s"] == pytest.approx(0.01)
    assert first["tries"]["a"] + first["tries"]["b"] == first["requests"] == first["statuses"]["200"]
    assert math.isclose(sum(first["shares"].values()), 1, abs_tol=1e-5)
    assert len(first["p99_over_time_s"]) == WINDOWS


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.0084321, "8.43"), (0.0843, "84.3"), (0.8432, "843"), (8.4321, "8,432"), (0.0, "0.00")]
)
def test_times_have_three_digits(seconds: float, text: str) -> None:
    assert report.milliseconds(seconds) == text


def test_the_chart_is_xml_with_a_line_and_a_bar_for_each_strategy() -> None:
    made = scenario(BOTH | {"backends": [{"id": "a", "changes": [{"at_s": 5, "slowness": 9}]}]})
    runs = compare(made)
    root = ElementTree.fromstring(chart.svg(made, runs))
    tag = "{http://www.w3.org/2000/svg}"
    texts = [element.text for element in root.iter(f"{tag}text")]

    assert texts[0] == "Two & <two>"
    for colour in (chart.COLOURS["round_robin"], chart.COLOURS["ewma"]):
        assert [e.get("stroke") for e in root.iter(f"{tag}path")].count(colour) == 2, "in the legend and in the plot"
        assert [e.get("fill") for e in root.iter(f"{tag}rect")].count(colour) == 1
    assert sum(element.get("stroke-dasharray") is not None for element in root.iter(f"{tag}path")) == 1
    width, height = float(root.get("width", 0)), float(root.get("height", 0))
    for element in root.iter(f"{tag}text"):
        assert 0 <= float(element.get("x", -1)) <= width
        assert 0 <= float(element.get("y", -1)) <= height


@pytest.mark.parametrize("duration_s", [0.01, 1, 10, 600, 86_400])
def test_a_chart_can_be_drawn_of_any_length_of_time(duration_s: float) -> None:
    made = scenario({"duration_s": duration_s, "arrivals": {"per_s": 50 / duration_s, "kind": "constant"}})
    outcome = RunRecord(["a", "b"])  # made up: to simulate a day takes seconds
    outcome.at = array("d", [duration_s * number / 50 for number in range(50)])
    outcome.took_s, outcome.status, outcome.backend = array("d", [0.01] * 50), array("H", [200] * 50), array("h", [0] * 50)
    drawn = ElementTree.fromstring(chart.svg(made, [figures("round_robin", outcome, 0.0, duration_s)]))

    assert drawn.tag.endswith("svg")


def test_a_scenario_in_which_nobody_asks_is_reported_too() -> None:
    made = scenario({"duration_s": 1, "arrivals": {"per_s": 0.5, "kind": "constant"}})
    runs = compare(made)

    assert report.table(made.world, runs).splitlines()[4].split()[1] == "0.00"
    ElementTree.fromstring(chart.svg(made, runs))
    json.loads(report.document(made.world, runs))
