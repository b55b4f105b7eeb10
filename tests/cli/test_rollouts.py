"""The commands `plan`, `confirm`, `rollback` and `history`, and `reload --confirm`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from smartedge.cli import main as cli
from tests.small_balancer import SmallBalancer
from tests.small_balancer import serving as balancing

pytestmark = pytest.mark.usefixtures("directory")
Capture = pytest.CaptureFixture[str]

PLAN: dict[str, Any] = {
    "changed": True,
    "etag": "abc",
    "changes": [
        {"path": "backends.b", "what": "removed", "old": {"url": "http://b:2"}, "new": None},
        {"path": "strategy", "what": "changed", "old": "adaptive", "new": "ewma"},
    ],
    "files_renewed": [],
    "meaning": ["b leaves: nothing is in flight there"],
    "shares": {"web": {"by": "simulation", "requests_per_s": 12.5, "ratios": {"a": 0.75, "c": 0.25}}},
    "restart_needed": ["bind"],
    "warnings": ["web: \x1b[31mred"],
}


@pytest.fixture
def balancer() -> Iterator[SmallBalancer]:
    with balancing(SmallBalancer()) as server:
        yield server


def test_a_plan_is_told_and_ends_with_2(balancer: SmallBalancer, capsys: Capture) -> None:
    balancer.answer(200, PLAN)
    assert cli.main(["plan", "--url", balancer.url]) == 2
    assert capsys.readouterr().out.splitlines() == [
        '- backends.b: {"url": "http://b:2"}',
        '~ strategy: "adaptive" -> "ewma"',
        "",
        "What it means:",
        "  b leaves: nothing is in flight there",
        "",
        "Expected shares of web at 12.5 requests a second: a 75%, c 25%",
        "",
        "Only after a restart:",
        "  bind",
        "",
        "Look at:",
        "  web: \\u001b[31mred",
        "",
        'To apply it to just what is in use now: If-Match: "abc"',
    ]
    assert balancer.bodies == [{"backends": ["http://a:1", "http://b:2"]}]


def test_a_plan_is_of_the_file_that_the_edge_runs_with_unless_another_is_named(directory: Path, balancer: SmallBalancer) -> None:
    """With -c it was that of backends.json in this folder all the same."""
    balancer.answer(200, PLAN)
    (directory / "edge.json").write_text('{"backends": ["http://edge:1"]}')
    (directory / "new.json").write_text('{"backends": ["http://new:1"]}')
    cli.main(["plan", "-c", "edge.json", "--url", balancer.url])
    cli.main(["plan", "-c", "edge.json", "new.json", "--url", balancer.url])
    assert balancer.bodies == [{"backends": ["http://edge:1"]}, {"backends": ["http://new:1"]}]


def test_a_plan_without_a_change_ends_with_0(balancer: SmallBalancer, capsys: Capture) -> None:
    balancer.answer(200, {"changed": False, "changes": []})
    assert cli.main(["plan", "--url", balancer.url]) == 0
    assert capsys.readouterr().out == "Nothing would change.\n"


@pytest.mark.parametrize("text", ['{"backends": [', '{"backends": [], "backends": []}', ""])
def test_a_plan_of_a_broken_file_ends_with_1_and_asks_nobody(
    text: str, balancer: SmallBalancer, directory: Path, capsys: Capture
) -> None:
    (directory / "new.json").write_text(text)
    assert cli.main(["plan", "new.json", "--url", balancer.url]) == 1
    assert "new.json" in capsys.readouterr().err
    assert balancer.bodies == []


def test_a_plan_that_is_refused_ends_with_1(balancer: SmallBalancer, capsys: Capture) -> None:
    balancer.answer(422, {"status": 422, "title": "Invalid configuration", "detail": "strategy: no", "errors": []})
    assert cli.main(["plan", "--url", balancer.url]) == 1
    assert "Invalid configuration" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "path", "body"),
    [
        (["reload", "--confirm", "60"], "/api/reload?confirm_s=60", None),
        (["reload", "--confirm", "60", "--author", "a b"], "/api/reload?confirm_s=60&author=a%20b", None),
        (
            ["reload", "--confirm", "60", "--max-error-ratio", "0.05", "--max-p99-factor", "2"],
            "/api/reload",
            {"confirm_s": 60, "rollback_on": {"error_ratio": 0.05, "p99_factor": 2}},
        ),
        (["confirm"], "/smartedge/confirm", None),
        (["rollback"], "/smartedge/rollback", None),
        (["rollback", "12", "--author", "ana"], "/smartedge/rollback", {"id": 12, "author": "ana"}),
    ],
)
def test_what_is_asked(words: list[str], path: str, body: Any, balancer: SmallBalancer, capsys: Capture) -> None:
    balancer.answer(200, {"message": "done", "generation": 5})
    assert cli.main([*words, "--url", balancer.url]) == 0
    assert ([asked[:2] for asked in balancer.asked], balancer.bodies) == ([("POST", path)], [body])
    assert "done" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["reload", "--max-error-ratio", "0.1"], ["reload", "--confirm", "0"], ["rollback", "0"]])
def test_what_makes_no_sense_is_refused(words: list[str], balancer: SmallBalancer) -> None:
    assert cli.main([*words, "--url", balancer.url]) == 2
    assert balancer.asked == []


def test_the_history_is_a_table(balancer: SmallBalancer, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    change = {"path": "strategy", "what": "changed", "old": 1, "new": 2}
    one = {"id": 2, "generation": 3, "at": 0, "origin": "api", "by": "10.0.0.1", "author": "ana", "note": None, "in_use": True}
    old = {"id": 1, "generation": 1, "at": 0, "origin": "start", "usable": False, "changes": [], "note": "why"}
    trial = {"generation": 3, "left_s": 61.0}
    balancer.answer(200, {"configurations": [one | {"changes": [change] * 5}, old], "trial": trial})
    assert cli.main(["history", "--url", balancer.url]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["ID", "AT", "GENERATION", "FROM", "BY", "AUTHOR", "CHANGES"]
    assert lines[1].endswith("10.0.0.1  ana     ~strategy, ~strategy, ~strategy and 2 more")
    assert lines[2].endswith("why; can't be used any more")
    assert lines[4] == "generation 3 is on trial for another 1 min 1 s: confirm or rollback"
