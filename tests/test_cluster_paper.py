"""The paper on growth of docs/cluster.md: its tables were made by docs/make_cluster.py, and its picture of its tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from smartedge.simulator.scenario import load
from tests.scripts import docs_script

SCENARIOS = sorted((Path(__file__).resolve().parent.parent / "docs" / "scenarios" / "cluster").glob("*.json"))


@pytest.fixture(scope="module")
def maker() -> Any:
    return docs_script("make_cluster")


@pytest.fixture(scope="module")
def page(maker: Any) -> str:
    text: str = maker.PAGE.read_text(encoding="utf-8")
    return text


def test_each_scenario_has_a_table_with_all_its_strategies_and_numbers_of_nodes(maker: Any, page: str) -> None:
    tables = maker.read(page)

    assert sorted(tables) == [path.stem for path in SCENARIOS]
    for path in SCENARIOS:
        scenario = load(path.read_bytes(), path.name)
        assert list(tables[path.stem]) == list(scenario.world.strategies)
        assert all(len(columns) == len(maker.NODES) for columns in tables[path.stem].values())
        assert scenario.world.nodes == maker.NODES[-1], "what `smartedge simulate` shows of it is the last column"


def test_the_picture_shows_what_the_tables_say(maker: Any, page: str) -> None:
    assert maker.picture(page) == maker.PICTURE.read_text(encoding="utf-8"), "run: python docs/make_cluster.py --picture"


@pytest.mark.long
@pytest.mark.parametrize(("name", "nodes", "strategy"), [("one-slow", 4, "ewma"), ("turning-slow", 64, "adaptive")])
def test_tables_come_from_a_run(maker: Any, page: str, name: str, nodes: int, strategy: str) -> None:
    """These two go through queues, the EWMA, paces and retries, of several nodes: a change of any of them is seen here."""
    (run,) = maker.run(name, nodes, (strategy,))

    assert maker.cells(run) == maker.read(page)[name][strategy][maker.NODES.index(nodes)], "run: python docs/make_cluster.py"
