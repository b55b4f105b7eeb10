"""The tables and pictures of docs/geo.md: made by docs/make_geo.py of its scenarios."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.scripts import docs_script

SCENARIOS = sorted((Path(__file__).resolve().parent.parent / "docs" / "scenarios" / "geo").glob("*.json"))


@pytest.fixture(scope="module")
def maker() -> Any:
    return docs_script("make_geo")


def test_each_scenario_has_a_table_with_all_its_variants_and_a_picture(maker: Any) -> None:
    page = maker.PAGE.read_text(encoding="utf-8")
    blocks = {match[1]: match[0] for match in maker.BLOCK.finditer(page)}
    assert sorted(blocks) == sorted(maker.VARIANTS) == [path.stem for path in SCENARIOS]
    for name, block in blocks.items():
        rows = [line.split(" | ")[0].removeprefix("| ") for line in block.splitlines() if line.startswith("| ")]
        assert rows[2:] == list(maker.VARIANTS[name])
        picture = (maker.IMAGES / f"geo-{name}.svg").read_text(encoding="utf-8")
        assert all(f">{variant}<" in picture for variant in maker.VARIANTS[name])


@pytest.mark.long
def test_a_table_comes_from_a_run(maker: Any) -> None:
    """This one goes through outages, retries and tiers: a change of any of them is seen here."""
    page = maker.made(("outage",))
    assert all(path.read_text(encoding="utf-8") == text for path, text in page.items()), "run: python docs/make_geo.py"
