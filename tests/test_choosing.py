"""The pages about strategies show what the simulator says today: two scenarios are run, of the others all is there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from smartedge.balancer.strategies.menu import STRATEGIES
from smartedge.simulator.scenario import load
from tests.scripts import docs_script

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "choosing-a-strategy.md"
SCENARIOS = sorted((ROOT / "docs" / "scenarios").glob("*.json"))


@pytest.fixture(scope="module")
def maker() -> Any:
    return docs_script("make_choosing")


def test_the_reference_of_a_scenarios_keys_is_made_of_the_schema_of_today(maker: Any) -> None:
    assert maker.stale(("keys",)) == {}, "run: python docs/make_choosing.py"


@pytest.mark.long
@pytest.mark.parametrize("name", ["one-slow", "hang-hedged"])
def test_tables_and_pictures_come_from_a_run(maker: Any, name: str) -> None:
    """These two go through queues, the EWMA, breakers, time-outs and hedges: a change of any of them is seen here."""
    assert list(maker.stale((name,))) == [], "run: python docs/make_choosing.py"


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_every_scenario_is_right(path: Path) -> None:
    assert load(path.read_bytes(), path.name).world.title != "A scenario"


def test_every_scenario_that_is_shown_is_right() -> None:
    shown = re.findall(
        r"^```json\n(.*?)^```$", (ROOT / "docs" / "simulator.md").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )

    assert [load(text, "simulator.md").world.title for text in shown] == ["Our four, on a bad day", "Two places"]


def test_the_page_shows_every_scenario_that_it_names_with_all_strategies(maker: Any) -> None:
    text = PAGE.read_text(encoding="utf-8")
    blocks = {match[1]: match[0] for match in maker.BLOCK.finditer(text)}

    assert {path.stem for path in SCENARIOS} - blocks.keys() == {"day"}, "which takes too long; the simulator's page names it"
    for name, block in blocks.items():
        assert (ROOT / "docs" / "img" / f"choosing-{name}.svg").exists()
        assert re.findall(r"^\| (\w+) \|", block, re.MULTILINE)[1:] == list(STRATEGIES), name
