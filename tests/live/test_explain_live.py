"""Why a request went where it went: asked of a running edge, in the answer, as a page and on the command line."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.live.edges import OWN, LiveEdge, request, start_edge
from tests.live.peers import Script, answers, closes_without_answer, echo
from tests.live.processes import ROOT, wait_until


def asked(edge: LiveEdge, request_id: bytes, headers: bytes = b"X-SmartEdge-Explain: 1\r\n") -> Any:
    """One request of an operator on this machine."""
    data = b"GET /shop?q=1 HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Request-Id: %b\r\n%b\r\n" % (request_id, headers)
    with edge.client() as client:
        client.send(data)
        return client.answer()


def decision(edge: LiveEdge, request_id: str) -> dict[str, Any]:
    """What is kept of a request; it is written down after its last byte."""

    def found() -> dict[str, Any] | None:
        answer = edge.admin(f"/smartedge/decisions/{request_id}")
        return answer.json() if answer.status == 200 else None

    return wait_until(found, 5, f"a record of {request_id}")


def test_who_asks_is_told_in_the_answer_and_can_look_it_up(own: LiveEdge) -> None:
    with Script(echo()) as one, Script(health=answers(500)) as down:
        own.configure({"url": one, "id": "one"}, {"url": down, "id": "down"}, strategy="ewma")
        answer = asked(own, b"told-1")
        told = answer.get(b"x-smartedge-decision")
        assert told.startswith(b"told-1; one was picked: least cost ")
        assert told.endswith(b", the only candidate; down left out: unhealthy")
        assert b"explain" not in answer.body.lower()  # the backend does not hear of it

        found = decision(own, "told-1")
        assert (found["why"], found["status"], found["outcome"], found["path"]) == (["asked"], 200, "ok", "/shop")
        assert found["summary"].encode() in told
        (candidate,) = found["tries"][0]["candidates"]
        assert (candidate["id"], candidate["weight"], candidate["picked"]) == ("one", 1, True)


def test_a_stranger_is_not_told(own: LiveEdge) -> None:
    with Script(echo()) as one:
        own.configure(one, explain={"sample_ratio": 0})
        answer = asked(own, b"stranger-1", b"X-SmartEdge-Explain: 1\r\nX-Forwarded-For: 192.0.2.1\r\n")
        assert (answer.status, answer.get(b"x-smartedge-decision")) == (200, None)
        assert b"explain" not in answer.body.lower()
        own.settled()
        assert own.admin("/smartedge/decisions/stranger-1").status == 404


def test_a_try_that_failed_is_kept_with_the_ones_after_it(own: LiveEdge) -> None:
    with Script(closes_without_answer()) as bad, Script(answers()) as good:
        own.configure({"url": bad, "id": "bad"}, {"url": good, "id": "good"}, explain={"sample_ratio": 0})
        for number in range(2):
            own.ask(headers=b"X-Request-Id: kept-%d\r\n" % number)
        own.settled()
        kept = own.admin("/smartedge/decisions?backend=bad").json()["decisions"]
        assert len([one for one in kept if one["request_id"].startswith("kept-")]) == 1
        found = decision(own, kept[0]["request_id"])
        first, second = found["tries"]
        assert (first["backend"], first["recorded"], first["outcome"], first["blame"]) == ("bad", False, "failed", "backend")
        assert "closed" in first["error"]
        assert (second["backend"], second["kind"], second["status"]) == ("good", "retry", 200)
        assert second["left_out"][0] == {"id": "bad", "reason": "tried", "for_s": None, "until": None}


def test_an_open_breaker_is_told_with_its_end(own: LiveEdge) -> None:
    with Script(closes_without_answer()) as bad, Script(answers()) as good:
        breaker = {"failures": 1, "open_s": 30}
        own.configure({"url": bad, "id": "bad"}, {"url": good, "id": "good"}, breaker=breaker)
        for _ in range(2):
            own.ask()
        asked(own, b"open-1")
        (left_out,) = decision(own, "open-1")["tries"][0]["left_out"]
        assert (left_out["id"], left_out["reason"]) == ("bad", "breaker_open")
        assert 10 < left_out["for_s"] <= 30
        assert time.time() < left_out["until"] <= time.time() + 30


def test_a_hedge_is_kept(own: LiveEdge) -> None:
    def hangs(call: Any) -> None:
        if call.request():
            call.stall()

    with Script(hangs) as bad, Script(answers()) as good:
        hung = {"url": bad, "id": "hung"}
        own.configure(hung, {"url": good, "id": "good"}, retry={"hedge": True}, explain={"sample_ratio": 0})
        for number in range(2):
            assert own.ask(headers=b"X-Request-Id: late-%d\r\n" % number).status == 200
        own.settled()
        (kept,) = own.admin("/smartedge/decisions?backend=hung").json()["decisions"]
        assert kept["why"] == ["hedge"]
        first, second = decision(own, kept["request_id"])["tries"]
        assert (first["backend"], first["recorded"], first["outcome"]) == ("hung", False, "outrun")
        assert (second["backend"], second["kind"], second["outcome"]) == ("good", "hedge", "ok")


@pytest.mark.parametrize("server", [OWN])
def test_any_worker_answers_for_all_of_them(tmp_path: Path, server: str) -> None:
    arguments = ("--workers", "3") if server == OWN else ("-w", "3")
    with (
        Script(answers()) as one,
        start_edge(tmp_path, one, server=server, arguments=arguments, explain={"sample_ratio": 1}) as edge,
    ):
        wait_until(lambda: len(edge.status()["workers"]) == 3, 20, "all workers")
        ids: list[str] = []

        def kept() -> list[dict[str, Any]]:
            found = edge.admin("/smartedge/decisions?limit=1000").json()["decisions"]
            return found if {one["request_id"] for one in found} >= set(ids) else []

        def by_several() -> bool:
            """Ask thirty times at once, and see whether more than one worker has answered by now."""
            with contextlib.ExitStack() as stack:
                clients = [stack.enter_context(edge.client()) for _ in range(30)]
                for client in clients:
                    ids.append(f"many-{len(ids)}")
                    client.send(request(headers=b"X-Request-Id: %b\r\n" % ids[-1].encode()))
                for client in clients:
                    assert client.answer().status == 200
            return len({one["slot"] for one in wait_until(kept, 5, "all records")}) > 1

        wait_until(by_several, 20, "another worker to answer")
        for id_ in ids[::7]:
            assert decision(edge, id_)["request_id"] == id_


def test_what_workers_hold_is_written_down_when_somebody_asks(tmp_path: Path) -> None:
    """More than a worker writes by itself in that time, and whoever asks is told of all of them."""
    with (
        Script(answers()) as one,
        start_edge(tmp_path, one, arguments=("--workers", "2"), explain={"sample_ratio": 1}) as edge,
    ):
        wait_until(lambda: len(edge.status()["workers"]) == 2, 20, "both workers")
        ids = []
        for number in range(40):
            with edge.client() as client:
                for one_of in range(15):
                    ids.append(f"held-{number}-{one_of}")
                    client.send(request(headers=b"X-Request-Id: %b\r\n" % ids[-1].encode()))
                    assert client.answer().status == 200
        found = edge.admin("/smartedge/decisions?limit=1000").json()["decisions"]
        assert {one["request_id"] for one in found} >= set(ids)
        assert len({one["slot"] for one in found}) == 2


def test_the_command_tells_it_to_people(own: LiveEdge) -> None:
    def explain(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "smartedge", "explain", *words, "--url", own.url]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=20)

    with Script(answers()) as one, Script(answers()) as two:
        own.configure({"url": one, "id": "one", "weight": 3}, {"url": two, "id": "two"})
        own.admin("/smartedge/backends/two/drain", "POST")
        asked(own, b"shown-1")
        decision(own, "shown-1")
        told = explain("shown-1")
        assert (told.returncode, told.stderr) == (0, "")
        lines = told.stdout.splitlines()
        assert lines[2] == "one was picked: next in turn, the only candidate; two left out: draining."
        assert lines[-2].split()[:3] == ["*", "one", "3"]
        assert lines[-1] == "  left out: two  draining"
        assert json.loads(explain("shown-1", "--json").stdout)["request_id"] == "shown-1"
        assert "shown-1" in explain().stdout
        unknown = explain("nobody-1")
        assert (unknown.returncode, unknown.stdout) == (1, "")
        assert "Unknown request" in unknown.stderr
