"""The commands for single backends and single requests, against a balancer that answers what the test has put down."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from smartedge.admin.named import AmbiguousBackend
from smartedge.cli import main as cli
from tests.small_balancer import SmallBalancer, serving

Start = Callable[..., SmallBalancer]


@pytest.fixture
def balancer() -> Iterator[Callable[..., SmallBalancer]]:
    with contextlib.ExitStack() as running:

        def start(*answers: Any) -> SmallBalancer:
            given = [answer if isinstance(answer, tuple) else (200, answer) for answer in answers]
            return running.enter_context(serving(SmallBalancer(*given)))

        yield start


@pytest.mark.parametrize(
    ("words", "path", "body"),
    [
        (["drain", "b2"], "b2/drain", {"persist": False}),
        (["enable", "b2", "--persist"], "b2/enable", {"persist": True}),
        (["disable", "b1/10.0.0.5"], "b1%2F10.0.0.5/disable", {"persist": False}),
        (["weight", "b2", "7"], "b2/weight", {"weight": 7, "persist": False}),
        (["weight", "b2", "default", "--persist"], "b2/weight", {"weight": None, "persist": True}),
    ],
)
def test_a_command_is_a_request_and_its_answer_one_line(
    balancer: Start, capsys: pytest.CaptureFixture[str], words: list[str], path: str, body: Any
) -> None:
    server = balancer({"message": "b2 is so\x1b[2J; 3 in flight", "warning": None})
    assert cli.main([*words, "--url", server.url]) == 0
    assert (server.asked, server.bodies) == ([("POST", f"/smartedge/backends/{path}", None)], [body])
    said = capsys.readouterr()
    assert (said.out, said.err) == ("b2 is so\\u001b[2J; 3 in flight\n", "")


@pytest.mark.parametrize(
    ("named", "path"),
    [
        ("web/b2", "services/web/backends/b2"),
        ("web/b1/10.0.0.5", "services/web/backends/b1%2F10.0.0.5"),
        ("a b/c d", "services/a%20b/backends/c%20d"),
        ("b1/fd00::5", "backends/b1%2Ffd00%3A%3A5"),
    ],
)
def test_a_backend_may_be_named_with_its_service(balancer: Start, named: str, path: str) -> None:
    server = balancer({"message": "done"})
    assert cli.main(["drain", named, "--url", server.url]) == 0
    assert server.asked == [("POST", f"/smartedge/{path}/drain", None)]


@pytest.mark.parametrize("words", [["drain", "b1"], ["weight", "b1", "2"], ["explain", "--backend", "b1"]])
def test_an_id_that_several_services_have_is_exit_status_2_and_names_them(
    balancer: Start, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    said = 'Several services have a backend "b1": say web/b1, api/b1.'
    server = balancer((AmbiguousBackend.status, {"title": AmbiguousBackend.title, "detail": said}))
    assert cli.main([*words, "--url", server.url]) == 2
    assert capsys.readouterr().err == f"smartedge: {said}\n"


def test_a_warning_is_told_on_standard_error(balancer: Start, capsys: pytest.CaptureFixture[str]) -> None:
    server = balancer({"message": "done", "warning": "No backend is left."})
    assert cli.main(["drain", "b2", "--url", server.url]) == 0
    said = capsys.readouterr()
    assert (said.out, said.err) == ("done\n", "smartedge: No backend is left.\n")


def test_drain_waits_until_the_last_request_has_ended(balancer: Start, capsys: pytest.CaptureFixture[str]) -> None:
    server = balancer({"message": "draining"}, {"in_flight": 2}, {"in_flight": 1}, {"in_flight": 0})
    assert cli.main(["drain", "b2", "--wait", "--url", server.url]) == 0
    assert [asked[:2] for asked in server.asked[1:]] == [("GET", "/smartedge/backends/b2")] * 3
    assert capsys.readouterr().out == "draining\nb2 is drained\n"


def test_drain_with_json_prints_one_document_when_all_is_done(balancer: Start, capsys: pytest.CaptureFixture[str]) -> None:
    server = balancer({"message": "draining", "in_flight": 2}, {"in_flight": 2}, {"in_flight": 0})
    assert cli.main(["drain", "b2", "--wait", "--json", "--url", server.url]) == 0
    assert json.loads(capsys.readouterr().out) == {"message": "draining", "in_flight": 0}


def test_drain_does_not_wait_for_ever(balancer: Start, capsys: pytest.CaptureFixture[str]) -> None:
    server = balancer({"message": "draining"}, {"in_flight": 2})
    assert cli.main(["drain", "b2", "--wait", "--timeout", "0", "--url", server.url]) == 1
    assert capsys.readouterr().err == "smartedge: after 0 s b2 still has 2 in flight\n"


@pytest.mark.parametrize("words", [["drain", "b9"], ["weight", "b9", "2"], ["explain", "r-9"]])
def test_a_refusal_is_exit_status_1(balancer: Start, capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    server = balancer((404, {"title": "Unknown backend", "detail": "There are: b1, b2."}))
    assert cli.main([*words, "--url", server.url]) == 1
    assert capsys.readouterr().err == "smartedge: refused with status 404: Unknown backend: There are: b1, b2.\n"


@pytest.mark.parametrize(
    "words",
    [
        ["weight", "b2", "much"],
        ["weight", "b2"],
        ["drain"],
        ["weight", "b2", "²"],
        ["drain", "web/"],
        ["weight", "/b1", "2"],
        ["enable", ""],
    ],
)
def test_wrong_words_are_exit_status_2_and_ask_nobody(balancer: Start, words: list[str]) -> None:
    server = balancer({})
    assert cli.main([*words, "--url", server.url]) == 2
    assert server.asked == []


def test_one_request_or_the_last_ones_are_asked_for(balancer: Start, capsys: pytest.CaptureFixture[str]) -> None:
    server = balancer({"summary": "b2 was picked"}, {"decisions": []})
    assert cli.main(["explain", "r/1", "--url", server.url]) == 0
    assert cli.main(["explain", "--backend", "b 2", "--outcome", "ok", "--limit", "5", "--url", server.url]) == 0
    assert server.asked == [
        ("GET", "/smartedge/decisions/r%2F1", None),
        ("GET", "/smartedge/decisions?backend=b%202&outcome=ok&limit=5", None),
    ]
    assert "b2 was picked.\nNo request is kept that fits" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["explain"], ["explain", "r-1"]])
def test_the_whole_answer_may_be_had_as_json(balancer: Start, capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    server = balancer({"method": "GET", "tries": []})
    assert cli.main([*words, "--json", "--url", server.url]) == 0
    assert json.loads(capsys.readouterr().out) == {"method": "GET", "tries": []}
