"""Draining, disabling and weighing backends of a running edge: at once, in all workers, over reloads and restarts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.live.edges import GEVENT, OWN, WORKER, LiveEdge, first_piece, request, start_edge
from tests.live.peers import Call, Script, answers
from tests.live.processes import ROOT, wait_until


@pytest.fixture
def pair() -> Iterator[tuple[Script, Script]]:
    with Script(answers(body=b"one")) as one, Script(answers(body=b"two")) as two:
        yield one, two


def act(edge: LiveEdge, what: str, body: Any = None) -> dict[str, Any]:
    answer = edge.admin(f"/smartedge/backends/{what}", "POST", body=None if body is None else json.dumps(body))
    assert answer.status == 200, answer.text
    document: dict[str, Any] = answer.json()
    return document


def who(edge: LiveEdge, count: int = 20) -> Counter[bytes]:
    """Who answers so many requests, each on a connection of its own."""
    return Counter(edge.ask().body for _ in range(count))


def smartedge(edge: LiveEdge, *words: str) -> subprocess.CompletedProcess[str]:
    """A command, as an operator types it."""
    command = [sys.executable, "-m", "smartedge", *words, "--url", edge.url]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=20)


def test_a_drained_backend_ends_what_it_has_and_gets_nothing_more(own: LiveEdge, pair: tuple[Script, Script]) -> None:
    halfway: list[bool] = []

    def slow(call: Call) -> None:
        if call.request():
            call.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst")
            wait_until(lambda: halfway, 10)
            call.send(b"last.")

    with Script(slow) as backend:
        own.configure({"url": backend, "id": "slow"}, {"url": pair[0], "id": "quick"})
        act(own, "quick/drain")
        with own.client() as client:
            client.send(request())
            first_piece(client, b"first")
            act(own, "quick/enable")
            told = act(own, "slow/drain")
            assert (told["after"]["state"], told["in_flight"], told["warning"]) == ("draining", 1, None)
            assert who(own) == {b"one": 20}
            slow_one, _ = own.backends()
            assert (slow_one["state"], slow_one["why_not"], slow_one["in_flight"]) == ("draining", "draining", 1)
            assert 'smartedge_backend_state{backend="slow",service="default",state="draining"} 1.0' in own.admin("/metrics").text
            halfway.append(True)
            assert client.answer().body == b"firstlast."
        wait_until(lambda: own.admin("/smartedge/backends/slow").json()["in_flight"] == 0, 5, "the last request to end")


def test_a_disabled_backend_gets_nothing_even_when_nobody_else_is_left(own: LiveEdge, pair: tuple[Script, Script]) -> None:
    own.configure({"url": pair[0], "id": "one"}, {"url": pair[1], "id": "two"})
    act(own, "one/disable")
    pair[1].refuse()
    wait_until(lambda: own.backends()[1]["health"] == "unhealthy", 10, "the other one to be down")
    answer = own.ask()
    assert (answer.status, answer.get(b"content-type")) == (503, b"application/problem+json")
    assert pair[0].requests == []
    assert act(own, "one/enable")["warning"] is None
    assert who(own, 5) == {b"one": 5}


def test_a_weight_is_in_force_with_the_next_request(own: LiveEdge, pair: tuple[Script, Script]) -> None:
    own.configure({"url": pair[0], "id": "one"}, {"url": pair[1], "id": "two"}, strategy="round_robin")
    act(own, "one/weight", {"weight": 3})
    assert who(own, 40) == {b"one": 30, b"two": 10}
    act(own, "one/weight", {"weight": None})
    assert who(own, 40) == {b"one": 20, b"two": 20}


@pytest.mark.parametrize("server", [OWN, GEVENT])
def test_one_word_is_enough_for_all_workers(tmp_path: Path, server: str, pair: tuple[Script, Script]) -> None:
    backends = [{"url": one.url, "id": name} for one, name in zip(pair, ("one", "two"), strict=True)]
    arguments = ("--workers", "3") if server == OWN else ("-w", "3")
    with start_edge(tmp_path, *backends, server=server, arguments=arguments) as edge:
        wait_until(lambda: len(edge.status()["workers"]) == 3, 20, "all workers")
        for _ in range(3):
            act(edge, "one/drain")
            assert who(edge, 30) == {b"two": 30}
            assert {edge.backends()[0]["state"] for _ in range(10)} == {"draining"}
            act(edge, "one/enable")
            act(edge, "two/disable")
            assert who(edge, 30) == {b"one": 30}
            act(edge, "two/enable")
        act(edge, "one/weight", {"weight": 1000})
        assert who(edge, 30)[b"one"] >= 27


def test_sticky_sessions_stay_while_their_backend_drains_and_leave_when_it_is_disabled(
    own: LiveEdge, pair: tuple[Script, Script]
) -> None:
    own.configure({"url": pair[0], "id": "one"}, {"url": pair[1], "id": "two"}, sticky={"cookie": "stay"})
    answer = own.ask()
    cookie = (answer.get(b"set-cookie") or b"").partition(b";")[0]
    mine = {b"one": "one", b"two": "two"}[answer.body]
    other = {b"one": b"two", b"two": b"one"}[answer.body]

    def again() -> set[bytes]:
        return {own.ask(headers=b"Cookie: %b\r\n" % cookie).body for _ in range(10)}

    act(own, f"{mine}/drain")
    assert again() == {answer.body}
    assert set(who(own)) == {other}
    act(own, f"{mine}/disable")
    assert again() == {other}


def test_the_commands_do_what_they_say(own: LiveEdge, pair: tuple[Script, Script]) -> None:
    own.configure({"url": pair[0], "id": "one"}, {"url": pair[1], "id": "two"})
    done = smartedge(own, "drain", "one", "--wait", "--timeout", "5")
    said = "one is draining: no new requests but those of sticky sessions; 0 in flight\none is drained\n"
    assert (done.returncode, done.stdout, done.stderr) == (0, said, "")
    assert who(own) == {b"two": 20}
    last = smartedge(own, "disable", "two")
    assert (last.returncode, last.stdout) == (0, "two is disabled: no new requests; 0 in flight\n")
    assert "answered with 503" in last.stderr
    assert smartedge(own, "enable", "one").stdout == "one is enabled; 0 in flight\n"
    assert smartedge(own, "enable", "two").returncode == 0
    assert smartedge(own, "weight", "one", "3").stdout == "one has weight 3; 0 in flight\n"
    assert smartedge(own, "weight", "one", "default").stdout == "one has weight 1; 0 in flight\n"
    unknown = smartedge(own, "drain", "three")
    assert (unknown.returncode, unknown.stdout) == (1, "")
    assert "There are: one, two." in unknown.stderr


def test_what_is_persisted_outlives_a_restart(tmp_path: Path, pair: tuple[Script, Script]) -> None:
    backends = [{"url": one.url, "id": name} for one, name in zip(pair, ("one", "two"), strict=True)]
    with start_edge(tmp_path, *backends) as edge:
        act(edge, "one/disable")
        assert act(edge, "two/weight", {"weight": 5, "persist": True})["persisted"] is True
    with start_edge(tmp_path) as edge:
        assert [(one["state"], one["weight"]) for one in edge.backends()] == [("enabled", 1), ("enabled", 5)]
        done = smartedge(edge, "disable", "one", "--persist")
        assert (done.returncode, done.stderr) == (0, "")
    with start_edge(tmp_path, probed=False) as edge:
        assert [(one["state"], one["weight"]) for one in edge.backends()] == [("disabled", 1), ("enabled", 5)]
        edge.wait_probed()
        assert who(edge, 5) == {b"two": 5}


def test_a_worker_that_comes_later_obeys_what_was_said_before(tmp_path: Path, pair: tuple[Script, Script]) -> None:
    backends = [{"url": one.url, "id": name} for one, name in zip(pair, ("one", "two"), strict=True)]
    with start_edge(tmp_path, *backends, server=WORKER, arguments=("-w", "2")) as edge:
        wait_until(lambda: len(edge.status()["workers"]) == 2, 20, "both workers")
        act(edge, "one/drain")
        before = {worker["pid"] for worker in edge.status()["workers"]}
        for old in before:  # one after the other, so that the edge lives on

            def replaced(old: int = old) -> bool:
                now = {worker["pid"] for worker in edge.status()["workers"]}
                return len(now) == 2 and old not in now

            os.kill(old, signal.SIGKILL)
            wait_until(replaced, 30, "another worker")
        assert {one["id"]: one["state"] for one in edge.backends()} == {"one": "draining", "two": "enabled"}
        assert who(edge) == {b"two": 20}
