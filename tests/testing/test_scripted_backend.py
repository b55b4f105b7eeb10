"""A scripted backend: each of its words, seen by a plain client."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from smartedge.testing.scripted_backend import PROBE, ScriptedBackend


@pytest.fixture
def backend() -> Iterator[ScriptedBackend]:
    with ScriptedBackend("b") as made:
        yield made


def get(backend: ScriptedBackend, path: str = "/", **more: Any) -> requests.Response:
    return requests.get(backend.url + path, timeout=5, **more)


def test_what_was_said_with_times_comes_in_turn_and_then_what_holds(backend: ScriptedBackend) -> None:
    backend.replies(503, times=2).replies(418, "tea", headers={"X-Pot": "1"}, times=1)
    answers = [get(backend) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [503, 503, 418, 200]
    assert (answers[2].text, answers[2].headers["X-Pot"]) == ("tea", "1")


def test_a_body_may_be_json(backend: ScriptedBackend) -> None:
    assert get(backend.replies(body={"a": [1]})).json() == {"a": [1]}


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD", "PURGE"])
def test_requests_are_recorded_as_they_came(backend: ScriptedBackend, method: str) -> None:
    requests.request(method, backend.url + "/a%2Fb?x=1&x=2", data=b'{"q": 1}', headers={"X-A": "b"}, timeout=5)
    (seen,) = backend.requests
    assert (seen.method, seen.target, seen.path, seen.query) == (method, "/a%2Fb?x=1&x=2", "/a%2Fb", {"x": ["1", "2"]})
    assert (seen.body, seen.json, seen.headers["x-a"]) == (b'{"q": 1}', {"q": 1}, "b")


def test_a_chunked_body_is_read(backend: ScriptedBackend) -> None:
    requests.post(backend.url, data=iter([b"ab", b"c" * 70_000]), timeout=5)
    assert backend.requests[0].body == b"ab" + b"c" * 70_000


def test_probes_are_counted_apart_and_answered_well(backend: ScriptedBackend) -> None:
    backend.replies(500)
    assert get(backend, headers={"User-Agent": PROBE}).status_code == 200
    assert (backend.probes, backend.requests) == (1, [])
    assert get(backend.fails_probes(), headers={"User-Agent": PROBE}).status_code == 503
    assert get(backend.recovers(), headers={"User-Agent": PROBE}).status_code == 200


def test_it_cuts_after_so_many_bytes(backend: ScriptedBackend) -> None:
    answer = get(backend.cuts_after(10, body=b"0123456789abc"), stream=True)
    assert answer.headers["Content-Length"] == "13"
    with pytest.raises(requests.exceptions.ChunkedEncodingError, match="10 bytes read, 3 more"):
        answer.content  # noqa: B018


def test_it_resets_before_an_answer(backend: ScriptedBackend) -> None:
    with pytest.raises(requests.ConnectionError):
        get(backend.resets(times=1))
    assert get(backend).status_code == 200


def test_it_hangs_until_the_other_side_leaves(backend: ScriptedBackend) -> None:
    with pytest.raises(requests.Timeout):
        requests.get(backend.hangs(times=1).url, timeout=0.2)
    assert get(backend).status_code == 200
    assert len(backend.requests) == 2


def test_it_is_slow(backend: ScriptedBackend) -> None:
    began = time.monotonic()
    get(backend.slow(0.2, times=1))
    assert time.monotonic() - began >= 0.2


def test_it_is_not_there_and_comes_back_on_the_same_port(backend: ScriptedBackend) -> None:
    with requests.Session() as kept:
        kept.get(backend.url, timeout=5)
        backend.refuses()
        with pytest.raises(requests.ConnectionError):
            kept.get(backend.url, timeout=5)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(backend.url.rpartition(":")[2])))
    assert get(backend.accepts()).status_code == 200


def test_who_waits_for_requests_gets_them_or_is_told_how_many_came(backend: ScriptedBackend) -> None:
    threading.Timer(0.05, get, (backend, "/late")).start()
    assert [one.path for one in backend.wait_for(1)] == ["/late"]
    with pytest.raises(TimeoutError, match=r"asked 1 times within 0\.05 s, not 2"):
        backend.wait_for(2, 0.05)


def test_its_repr_says_its_state(backend: ScriptedBackend) -> None:
    assert repr(backend) == f"<ScriptedBackend b {backend.url}: replies 200, asked 0 times>"
    assert "refuses" in repr(backend.refuses())
