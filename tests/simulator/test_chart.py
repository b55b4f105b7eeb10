from __future__ import annotations

from array import array
from xml.etree import ElementTree

import pytest

from smartedge.simulator import chart
from smartedge.simulator.engine import compare
from smartedge.simulator.figures import RunRecord, figures
from tests.simulator.makers import scenario

BOTH = {"strategies": ["round_robin", "ewma"], "title": "Two & <two>"}


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
