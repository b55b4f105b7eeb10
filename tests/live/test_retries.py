"""Backends that fail: what the client hears, what is tried again, and what must never run twice."""

from __future__ import annotations

import json
import time

import pytest

from tests.live.acts import Act
from tests.live.edges import LiveEdge, request
from tests.live.peers import (
    Answer,
    Script,
    answers,
    closes_idle,
    closes_without_answer,
    drips,
    endless_head,
    garbage,
    message,
    never_answers,
    refused_port,
    says,
    sequence,
)
from tests.live.processes import wait_until


def assert_problem(edge: LiveEdge, answer: Answer, status: int) -> dict[str, object]:
    """The answer is a problem document (RFC 9457) whose request id the log has too; gives the log's line."""
    assert answer.status == status
    assert answer.get(b"content-type") == b"application/problem+json"
    problem = json.loads(answer.body)
    assert problem["status"] == status
    assert problem["title"]
    assert problem["detail"]
    line = edge.log(request_id=problem["request_id"])
    assert line["status"] == status
    return line


# Connections that are refused.


@pytest.mark.parametrize("method", [b"POST", b"GET"], ids=lambda method: method.decode())
def test_a_refused_connection_goes_to_the_next_backend_and_nobody_notices(own: LiveEdge, method: bytes) -> None:
    with refused_port() as nowhere, Script(answers()) as backend:
        own.configure(f"http://127.0.0.1:{nowhere}", backend, wait=False)  # not yet known to be down
        for _ in range(4):
            assert own.ask(b"/", method, body=b"x" * 1000).status == 200
        assert len(backend.requests) == 4
        assert all(seen.endswith(b"\r\n\r\n" + b"x" * 1000) for seen in backend.requests)


def test_every_refused_backend_is_tried_before_the_client_hears_of_it(own: LiveEdge) -> None:
    with refused_port() as one, refused_port() as two, refused_port() as three, refused_port() as four:
        own.configure(*(f"http://127.0.0.1:{port}" for port in (one, two, three, four)), wait=False)
        answer = own.ask()
        line = assert_problem(own, answer, 503)
        assert int(answer.get(b"retry-after") or b"0") >= 1
        assert line["try_count"] in (0, 1, 2, 3, 4)  # what the probes found before it came is not tried


def test_no_backend_is_503_with_retry_after(own: LiveEdge) -> None:
    with refused_port() as nowhere:
        own.configure(f"http://127.0.0.1:{nowhere}")
        answer = own.ask(b"/nobody")
        line = assert_problem(own, answer, 503)
        assert int(answer.get(b"retry-after") or b"0") >= 1
        assert (line["path"], line["backend"], line["try_count"]) == ("/nobody", None, 0)


# Requests that a backend may have acted on.

BREAKS: list[tuple[Act, int]] = [
    (closes_without_answer(), 502),
    (closes_without_answer(reset=True), 502),
    (garbage(), 502),
    (endless_head(), 502),
    (never_answers(), 504),
    (drips(every_s=0.05), 504),
]
NAMES = ["close", "reset", "garbage", "endless", "silent", "drips"]
"""What else is no answer is in tests/proxy/test_connection.py."""


@pytest.mark.parametrize(("act", "status"), BREAKS, ids=NAMES)
def test_a_post_that_may_have_been_acted_on_is_not_repeated(own: LiveEdge, act: Act, status: int) -> None:
    with Script(act) as bad, Script(act) as worse:
        own.configure(bad, worse, timeouts={"first_byte_s": 0.3})
        answer = own.ask(b"/order", b"POST", body=b"one pizza")
        line = assert_problem(own, answer, status)
        assert line["try_count"] == 1
        assert len(bad.requests) + len(worse.requests) == 1
        own.settled()
        assert sum(backend["failed"] for backend in own.backends()) == 1


@pytest.mark.parametrize(("act", "status"), BREAKS, ids=NAMES)
def test_a_get_is_tried_again_on_another_backend(own: LiveEdge, act: Act, status: int) -> None:
    with Script(act) as bad, Script(answers(body=b"good")) as good:
        own.configure(bad, good, strategy="round_robin", timeouts={"first_byte_s": 0.3})
        assert [own.ask().body for _ in range(2)] == [b"good", b"good"]
        assert len(bad.requests) == 1
        assert sum(backend["retries"] for backend in own.backends()) == 1


def test_a_small_body_is_sent_again_whole_and_a_large_one_only_once(own: LiveEdge) -> None:
    with Script(sequence(closes_without_answer())) as bad, Script(answers()) as good:
        own.configure({"url": bad, "weight": 1}, {"url": good, "weight": 1})
        for _ in range(2):
            assert own.ask(b"/", b"PUT", body=b"s" * 60_000).status == 200
        assert all(seen.endswith(b"\r\n\r\n" + b"s" * 60_000) for seen in good.requests)
        statuses = sorted(own.ask(b"/", b"PUT", body=b"l" * 200_000).status for _ in range(2))
        assert statuses == [200, 502]


# Answers that count as failures.


@pytest.mark.parametrize("status", [503])
def test_a_failure_answered_to_a_get_is_tried_elsewhere(own: LiveEdge, status: int) -> None:
    with Script(answers(status, body=b"sorry")) as bad, Script(answers(body=b"good")) as good:
        own.configure(bad, good, strategy="round_robin")
        assert [own.ask().status for _ in range(4)] == [200] * 4
        assert len(bad.requests) == 2


@pytest.mark.parametrize("status", [503])
def test_a_failure_answered_to_a_post_is_passed_on(own: LiveEdge, status: int) -> None:
    with Script(answers(status, [("Retry-After", "7")], b"sorry")) as one, Script(answers(status, body=b"sorry")) as two:
        own.configure(one, two)
        answer = own.ask(b"/", b"POST", body=b"order")
        assert (answer.status, answer.body) == (status, b"sorry")
        assert len(one.requests) + len(two.requests) == 1


@pytest.mark.parametrize(("method", "tries"), [(b"GET", 2), (b"PUT", 1)])
def test_a_500_is_tried_elsewhere_once_when_nothing_was_to_be_changed(own: LiveEdge, method: bytes, tries: int) -> None:
    with Script(answers(500)) as one, Script(answers(500)) as two, Script(answers(500)) as three:
        own.configure(one, two, three)
        assert own.ask(b"/", method).status == 500
        assert len(one.requests) + len(two.requests) + len(three.requests) == tries


def test_on_the_defaults_a_500_reaches_nobody_is_a_failure_everywhere_and_ejects_its_backend(own: LiveEdge) -> None:
    """Status, metrics and explain knew nothing of it: `healthy closed FAILED 0`."""
    with Script(answers(500)) as bad, Script(answers(body=b"good")) as good:
        own.configure(bad, good)
        wait_until(lambda: own.ask().status != 200 or own.backends()[0]["breaker"] == "open", 10, "its ejection")
        assert {own.ask().status for _ in range(30)} == {200}
        first = own.backends()[0]
        assert (first["why_not"], first["failed"]) == ("breaker_open", len(bad.requests))
        assert first["failed"] <= 7


def test_when_all_fail_alike_nobody_is_ejected_and_nothing_is_asked_twice(own: LiveEdge) -> None:
    with Script(answers(500)) as one, Script(answers(500)) as two:
        own.configure(one, two)
        assert {own.ask().status for _ in range(30)} == {500}
        assert [backend["breaker"] for backend in own.backends()] == ["closed", "closed"]
        assert len(one.requests) + len(two.requests) <= 32


def test_a_failing_backend_is_ejected_and_comes_back(own: LiveEdge) -> None:
    with Script(closes_without_answer()) as bad, Script(answers(body=b"good")) as good, Script(answers(body=b"good")) as other:
        own.configure(bad, good, other, breaker={"failures": 3, "open_s": 0.4})
        assert {own.ask().status for _ in range(30)} == {200}
        ejected = own.backends()[0]
        assert (ejected["breaker"], ejected["why_not"]) == ("open", "breaker_open")
        assert len(bad.requests) == 3
        bad.act = answers(body=b"mended")
        wait_until(lambda: own.ask().body == b"mended", 5, "the probe that readmits it")
        assert own.backends()[0]["breaker"] == "closed"


# Connections that went stale.


@pytest.mark.parametrize(
    "act",
    [closes_idle(at_once=True), closes_idle(), closes_idle(reset=True)],
    ids=["at once", "with the next request", "reset by it"],
)
def test_a_backend_that_closes_idle_connections_never_costs_a_get_a_502(own: LiveEdge, act: Act) -> None:
    """The backend's right, and its clients see a 502 in half of the proxies there are."""
    with Script(act) as backend:
        own.configure(backend)
        for _ in range(10):
            answer = own.ask(body=b"x")
            assert (answer.status, answer.body) == (200, b"hello\n")
        assert own.backends()[0]["failed"] == 0


def test_a_post_is_not_sent_on_a_connection_that_the_backend_has_closed(own: LiveEdge) -> None:
    with Script(closes_idle(at_once=True)) as backend:
        own.configure(backend, health={"interval_s": 60})
        for _ in range(10):
            assert own.ask(b"/", b"POST", body=b"x").status == 200
            wait_until(lambda: backend.open_connections == 0, 5, "the backend to close")
        assert len(backend.requests) == 10


def test_a_pool_full_of_stale_connections_is_one_request_without_a_502(own: LiveEdge) -> None:
    def slow(call: object) -> None:
        if call.request():  # type: ignore[attr-defined]
            call.pause(0.2)  # type: ignore[attr-defined]
            call.send(message(body=b"slow"))  # type: ignore[attr-defined]
            call.request()  # type: ignore[attr-defined]

    with Script(slow) as backend:
        own.configure(backend)
        clients = [own.client() for _ in range(8)]
        for client in clients:
            client.send(request())
        for client in clients:
            assert client.answer().status == 200
            client.close()
        assert backend.connections == 8
        assert own.ask().status == 200  # its connection is closed under it, and so would be the seven others


def test_a_backends_keep_alive_timeout_is_kept(own: LiveEdge) -> None:
    told = message(headers=[("Connection", "keep-alive"), ("Keep-Alive", "timeout=1")], body=b"one")
    with Script(says(told)) as backend:
        own.configure(backend, health={"interval_s": 60})
        assert own.ask().body == b"one"
        started = time.monotonic()
        wait_until(lambda: backend.open_connections == 0, 5, "the edge to close it")
        assert time.monotonic() - started < 1  # before the backend would
