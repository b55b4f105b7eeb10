"""The commands `config show` and `config schema`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from smartedge.cli import main as cli

pytestmark = pytest.mark.usefixtures("directory")


def test_show_prints_every_value(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMARTEDGE_WORKERS", "3")
    assert cli.main(["config", "show"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["workers"], found["strategy"], found["backends"][1]["url"]) == (3, "adaptive", "http://b:2")


def test_show_says_where_values_come_from(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMARTEDGE_WORKERS", "3")
    assert cli.main(["config", "show", "--origin"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["workers", "3", "SMARTEDGE_WORKERS"] in lines
    assert ["backends[0].url", '"http://a:1"', "backends.json"] in lines
    assert ["strategy", '"adaptive"', "default"] in lines

    assert cli.main(["config", "show", "--origin", "--json"]) == 0
    assert {"path": "workers", "value": 3, "origin": "SMARTEDGE_WORKERS"} in json.loads(capsys.readouterr().out)


def test_a_wrong_file_is_told(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (directory / "bad.json").write_text('{"backends": ["http://a:1"], "wieght": 1}')
    assert cli.main(["config", "show", "bad.json"]) == 2
    assert "wieght" in capsys.readouterr().err


def test_the_schema_knows_itself(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["config", "schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert {"$schema", "backends", "routes"} <= schema["properties"].keys()

    (directory / "backends.json").write_text('{"$schema": "backends.schema.json", "backends": ["http://a:1"]}')
    assert cli.main(["check"]) == 0


def test_a_schema_that_is_no_name_is_refused(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (directory / "backends.json").write_text('{"$schema": 1, "backends": ["http://a:1"]}')
    assert cli.main(["check"]) == 2
    assert "$schema" in capsys.readouterr().err
