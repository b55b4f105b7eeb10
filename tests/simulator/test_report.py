from __future__ import annotations

import json
import math
from xml.etree import ElementTree

import pytest

from smartedge.simulator import chart, report
from smartedge.simulator.engine import compare
from smartedge.simulator.figures import WINDOWS
from tests.simulator.makers import scenario

BOTH = {"strategies": ["round_robin", "ewma"], "title": "Two & <two>"}


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


def test_a_scenario_in_which_nobody_asks_is_reported_too() -> None:
    made = scenario({"duration_s": 1, "arrivals": {"per_s": 0.5, "kind": "constant"}})
    runs = compare(made)

    assert report.table(made.world, runs).splitlines()[4].split()[1] == "0.00"
    ElementTree.fromstring(chart.svg(made, runs))
    json.loads(report.document(made.world, runs))


def test_several_nodes_are_said() -> None:
    world = scenario(BOTH | {"nodes": 4}).world

    assert report.title_of(world, 1_000) == "Two & <two>: 1,000 requests in 10 s of virtual time, 4 nodes, seed 1"
    assert "node" not in report.title_of(scenario(BOTH).world, 1_000)
