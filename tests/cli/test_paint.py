from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from smartedge.cli.main import program
from smartedge.cli.paint import painted, wants_colour


@pytest.mark.parametrize(
    ("env", "wanted"),
    [
        ({}, None),
        ({"NO_COLOR": "1"}, False),
        ({"NO_COLOR": ""}, None),
        ({"NO_COLOR": "0"}, False),  # any value counts
        ({"FORCE_COLOR": "1"}, True),
        ({"FORCE_COLOR": "0"}, None),
        ({"CLICOLOR_FORCE": "1"}, True),
        ({"CLICOLOR": "0"}, False),
        ({"CLICOLOR": "1"}, None),
        ({"CLICOLOR": "0", "FORCE_COLOR": "3"}, True),
        ({"NO_COLOR": "1", "FORCE_COLOR": "1"}, False),
        ({"TERM": "dumb"}, False),
    ],
)
def test_variables_say_whether_there_is_colour_and_else_the_terminal(env: dict[str, str], wanted: bool | None) -> None:
    assert wants_colour(env) is wanted


def test_what_is_painted_ends_its_colour_and_other_words_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "CLICOLOR", "CLICOLOR_FORCE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert painted("open", "bad") == "\x1b[31mopen\x1b[0m"
    assert painted("BACKEND", "title") == "\x1b[1mBACKEND\x1b[0m"
    assert painted("word", "plain") == "word"


@pytest.mark.parametrize(("force", "coloured"), [("1", True), ("0", False)])
def test_a_command_in_a_pipe_has_colour_only_if_that_is_forced(force: str, coloured: bool, tmp_path: object) -> None:
    file = f"{tmp_path}/backends.json"
    with open(file, "w", encoding="utf-8") as text:
        text.write('{"backends": ["http://localhost:8081"], "routes": [{"path": "/", "to": "default"}]}')
    for command in (["check", file], ["route", "GET", "http://a.example/", "-c", file]):
        result = CliRunner(env={"FORCE_COLOR": force, "NO_COLOR": "", "TERM": "xterm"}).invoke(program, command)
        assert result.exit_code == 0, result.output
        assert ("\x1b[" in result.output) == coloured, command
    assert click.unstyle(painted("x", "good")) == "x"
