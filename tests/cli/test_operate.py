"""The commands for single backends and single requests, against a balancer that answers what the test has put down."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from smartedge.cli import main as cli
from tests.small_balancer import SmallBalancer, serving

Start = Callable[..., SmallBalancer]


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("SMARTEDGE_")]:
        monkeypatch.delenv(name)


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
        (["disable", "a/b c"], "a%2Fb%20c/disable", {"persist": False}),
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


@pytest.mark.parametrize("words", [["weight", "b2", "much"], ["weight", "b2"], ["drain"], ["weight", "b2", "²"]])
def test_wrong_words_are_exit_status_2_and_ask_nobody(balancer: Start, words: list[str]) -> None:
    server = balancer({})
    assert cli.main([*words, "--url", server.url]) == 2
    assert server.asked == []


RECORD: dict[str, Any] = {
    "request_id": "r/1",
    "at": 0.0,
    "client": "192.0.2.1",
    "why": ["retry"],
    "method": "GET",
    "path": "/shop",
    "status": 200,
    "outcome": "ok",
    "blame": None,
    "error": None,
    "latency_s": 0.0123,
    "duration_s": 0.02,
    "summary": "b1 was picked (not recorded), and failed; then b2 was picked for the retry: least cost 0.012 of 9 candidates",
    "tries_left_out": 3,
    "tries": [
        {"number": 1, "kind": "first", "after_s": 0.0, "backend": "b1", "recorded": False, "outcome": "failed",
         "error": "It closed."},
        {
            "number": 2,
            "kind": "retry",
            "after_s": 0.0051,
            "backend": "b2",
            "recorded": True,
            "outcome": "ok",
            "status": 200,
            "latency_s": 0.0072,
            "candidate_count": 9,
            "candidates": [
                {"id": "b2", "weight": 2, "effective_weight": 1.5, "in_flight": 3, "ewma_s": 0.01, "pace_s": 0.008,
                 "waiting_s": 0.0, "latency_s": 0.01, "cost": 0.0123456, "turns_ratio": 1.0, "picked": True},
                {"id": "b4", "weight": 1, "effective_weight": 1, "in_flight": 0, "ewma_s": 1.5, "pace_s": None,
                 "waiting_s": 2.0, "latency_s": 2.0, "cost": None, "turns_ratio": 0.009, "picked": False},
            ],
            "left_out": [{"id": "b1", "reason": "tried", "for_s": None}, {"id": "b3", "reason": "breaker_open", "for_s": 3.1}],
            "unseen": 2,
        },
        {"number": 3, "kind": "retry", "after_s": None, "backend": None, "recorded": True, "outcome": "no backend"},
    ],
}  # fmt: skip


def test_a_request_is_explained_as_a_sentence_and_tables(balancer: Start, capsys: pytest.CaptureFixture[str]) -> None:
    server = balancer(RECORD)
    assert cli.main(["explain", "r/1", "--url", server.url]) == 0
    assert server.asked == [("GET", "/smartedge/decisions/r%2F1", None)]
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "GET /shop: status 200, ok, latency 12.3 ms, duration 20.0 ms"
    assert lines[1].endswith(" from 192.0.2.1; recorded because: retry")
    assert lines[2] == f"{RECORD['summary']}."
    assert lines[3:] == [
        "",
        "try 1 (first), after 0.0 ms: b1: failed, It closed.",
        "  what it was picked from was not recorded",
        "",
        "try 2 (retry), after 5.1 ms: b2: ok, status 200, latency 7.2 ms",
        "     CANDIDATE  WEIGHT  EFFECTIVE  IN FLIGHT  EWMA        PACE    WAITING     EXPECTED    COST     TURNS",
        "  *  b2         2       1.5        3          10.0 ms     8.0 ms  0.0 ms      10.0 ms     0.01235  100%",
        "     b4         1       1          0          1,500.0 ms  -       2,000.0 ms  2,000.0 ms  -        0.9%",
        "  and 7 more candidates",
        "  left out: b1  tried",
        "  left out: b3  breaker open for 3.1 s, until -",
        "  and 2 more left out",
        "",
        "try 3 (retry), after -: no backend: no backend",
        "",
        "3 more tries between these",
    ]


def test_an_error_is_told_with_who_is_to_blame(balancer: Start, capsys: pytest.CaptureFixture[str]) -> None:
    server = balancer({"error": "2 unhealthy\x07", "blame": "edge"})
    assert cli.main(["explain", "r-1", "--url", server.url]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "error: 2 unhealthy\\u0007 (blame: edge)"


def test_without_an_id_the_last_ones_are_listed(balancer: Start, capsys: pytest.CaptureFixture[str]) -> None:
    server = balancer({"decisions": [RECORD | {"summary": "b2 was picked"}, "not one"]})
    assert cli.main(["explain", "--backend", "b 2", "--outcome", "ok", "--limit", "5", "--url", server.url]) == 0
    assert server.asked == [("GET", "/smartedge/decisions?backend=b%202&outcome=ok&limit=5", None)]
    head, line = capsys.readouterr().out.splitlines()
    assert head.split() == ["REQUEST", "AT", "STATUS", "OUTCOME", "DURATION", "BECAUSE", "DECISION"]
    assert line.startswith("r/1 ")
    assert line.endswith("20.0 ms   retry    b2 was picked")


@pytest.mark.parametrize("words", [["explain"], ["explain", "r-1"]])
def test_the_whole_answer_may_be_had_as_json(balancer: Start, capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    server = balancer(RECORD)
    assert cli.main([*words, "--json", "--url", server.url]) == 0
    assert json.loads(capsys.readouterr().out) == RECORD
