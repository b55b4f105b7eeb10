"""The dashboards: what is committed was made by the generator, and holds what Grafana needs."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from smartedge.admin.metrics import TABLE

GRAFANA = Path(__file__).parents[2] / "deploy" / "grafana"
FILES = sorted((GRAFANA / "dashboards").glob("*.json"))


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_dashboards", GRAFANA / "make.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


def load(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(path.read_text())
    return document


def expressions(document: dict[str, Any]) -> list[str]:
    panels = [target["expr"] for panel in document["panels"] for target in panel.get("targets", ())]
    return panels + [annotation["expr"] for annotation in document["annotations"]["list"]]


def test_what_is_committed_was_made_by_the_generator() -> None:
    """After a change: python deploy/grafana/make.py"""
    assert {path: path.read_text() for path in FILES} == generator().files()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_dashboard_has_what_grafana_needs(path: Path) -> None:
    document = load(path)
    assert document["uid"] == f"smartedge-{path.stem}"
    variables = {one["name"] for one in document["templating"]["list"]}
    assert {"datasource", "job", "instance"} <= variables
    ids = [panel["id"] for panel in document["panels"]]
    assert sorted(set(ids)) == ids
    for panel in document["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        if panel["type"] != "row":
            assert panel["description"]
            assert panel["fieldConfig"]["defaults"]["unit"]
            assert panel["datasource"]["uid"] == "${datasource}"
            assert panel["targets"]
    used = set(re.findall(r"\$(?!__)(\w+)", " ".join(expressions(document))))
    assert used <= variables


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_no_two_panels_overlap(path: Path) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in load(path)["panels"]:
        place = panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_rates_go_by_the_interval_of_the_panel_and_metrics_are_ours(path: Path) -> None:
    ours = {line.name for line in TABLE} | {f"{line.name}_{part}" for line in TABLE for part in ("bucket", "count", "sum")}
    for expression in expressions(load(path)):
        assert set(re.findall(r"rate\(.*?\[(.*?)\]\)", expression)) <= {"$__rate_interval"}
        asked = set(re.findall(r"\b(?:smartedge|process)_[a-z_]+", expression))
        assert {name for name in asked if name.startswith("smartedge_")} <= ours, expression
        assert asked


def test_every_dashboard_shows_something_else_and_all_metrics_are_shown_somewhere_or_named_here() -> None:
    """A new metric belongs on a dashboard, or on this list with a reason."""
    elsewhere = {
        "smartedge_backend_max_in_flight",  # only where a cap is configured: an alert minds it
        "smartedge_certificate_expires_timestamp_seconds",  # an alert
        "smartedge_strategy_fallbacks_total",  # only with a strategy of one's own
        "smartedge_tunnels_total",  # open ones are shown
        "smartedge_backend_observed_ejections_total",  # only while a breaker observes
        "smartedge_generation",  # as an annotation; each worker's is shown
        "smartedge_worker_start_time_seconds",  # an alert
        "smartedge_tier_requests_total",  # only where nearness counts
        "smartedge_cross_zone_requests_total",  # likewise
    }
    shown = " ".join(expression for path in FILES for expression in expressions(load(path)))
    missing = {line.name for line in TABLE if not re.search(rf"\b{line.name}(_bucket|_sum)?\b", shown)}
    assert missing - elsewhere == set()
