"""Every recipe of docs/routes.md is a list of routes that is accepted."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from smartedge.config.model import parse

PAGE = Path(__file__).resolve().parents[2] / "docs" / "routes.md"
RECIPES = re.findall(r"^### (.*?)\n.*?^```json\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(("title", "text"), RECIPES, ids=[title for title, _ in RECIPES])
def test_a_recipe_is_accepted(title: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "users.htpasswd").write_text("ann:$6$salt$" + "a" * 86)
    (tmp_path / "sorry.html").touch()
    document: dict[str, Any] = json.loads(text)
    assert parse(json.dumps({"backends": ["http://a:1"], **document})).routes


def test_there_are_recipes() -> None:
    assert len(RECIPES) >= 7
