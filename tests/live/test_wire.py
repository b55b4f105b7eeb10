"""The wire itself, by RFC 9112: what is not HTTP is refused and never forwarded, limits hold, order is kept."""

from __future__ import annotations

import threading

import pytest

from tests.live.edges import LiveEdge, request
from tests.live.peers import Call, Script, answers, echo, message, serves
from tests.live.processes import wait_until
from tests.live.refusals import assert_refused
from tests.live.wire import Stream, read_request
from tests.refused import CHUNKED, HOST, REFUSED


@pytest.fixture(scope="module")
def backend() -> object:
    """One backend for many requests that must not reach it."""
    with Script(answers()) as script:
        yield script


@pytest.mark.parametrize("name", ["length and chunked", "bare LF", "TLS"])
def test_what_is_not_http_is_refused_with_400_and_never_forwarded(own: LiveEdge, backend: Script, name: str) -> None:
    """All of REFUSED is in tests/server/test_refusals.py."""
    own.configure(backend)
    before = len(backend.requests)
    assert_refused(own, REFUSED[name])
    assert len(backend.requests) == before


@pytest.mark.parametrize("piece", [1, 7])
def test_a_request_may_arrive_in_pieces(own: LiveEdge, piece: int) -> None:
    raw = CHUNKED + b"5;e=1\r\nhello\r\n6\r\n world\r\n0\r\nT: 1\r\n\r\n"
    with Script(serves(lambda _call, seen: message(body=seen.body))) as backend, own.client() as client:
        own.configure(backend)
        for start in range(0, len(raw), piece):
            client.send(raw[start : start + piece])
        assert client.answer().body == b"hello world"


def test_pipelined_requests_are_answered_in_order(own: LiveEdge) -> None:
    with Script(echo()) as backend, own.client() as client:
        own.configure(backend)
        client.send(
            b"".join(request(b"/%d" % i, b"POST", body=b"body %d" % i) if i % 2 else request(b"/%d" % i) for i in range(20))
        )
        for i in range(20):
            assert client.answer().body.startswith((b"POST" if i % 2 else b"GET") + b" /%d " % i)


def test_what_follows_a_chunked_body_is_the_next_request(own: LiveEdge) -> None:
    with Script(echo()) as backend, own.client() as client:
        own.configure(backend)
        client.send((CHUNKED + b"3\r\n\r\n\r\r\n0\r\nX: y\r\n\r\n") * 3 + request(b"/last"))
        for _ in range(3):
            assert client.answer().status == 200
        assert b"GET /last " in client.answer().body


def test_nothing_of_a_request_sticks_to_the_next_one_on_its_connection(own: LiveEdge) -> None:
    """What was read of a head is kept for the next that looks the same: it must be the same."""
    raws = [
        request(b"/1"),
        request(b"/2"),
        b"GET http://other.test/3 HTTP/1.1\r\n" + HOST + b"\r\n",
        request(b"/4"),
        request(b"/5", b"POST", body=b"five"),
        request(b"/6", b"POST", body=b"six!"),
        request(b"/7", b"HEAD"),
        request(b"/8", headers=b"X-Request-Id: mine\r\n"),
        request(b"/9", headers=b"Connection: X-Gone\r\nX-Gone: 1\r\n"),
        request(b"/10", headers=b"X-Gone: 1\r\n"),
        b"GET /11 HTTP/1.0\r\n" + HOST + b"Connection: keep-alive\r\n\r\n",
        request(b"/12"),
    ]
    with Script(answers()) as backend, own.client() as client:
        own.configure(backend)
        for raw in raws * 2:
            client.send(raw)
            assert client.answer(raw.split(b" ")[0]).status == 200
        seen = [read_request(Stream(None, raw)) for raw in backend.requests]
        assert [found.target for found in seen if found] == [b"/%d" % i for i in range(1, 13)] * 2
        for found in seen:
            assert found is not None
            number = int(found.target[1:])
            assert found.get(b"host") == (b"other.test" if number == 3 else b"edge.test")
            assert found.get(b"x-forwarded-host") == found.get(b"host")
            assert found.body == {5: b"five", 6: b"six!"}.get(number, b"")
            assert (found.get(b"x-request-id") == b"mine") == (number == 8)
            assert found.get(b"x-gone") == (b"1" if number == 10 else None)
            assert (found.get(b"via") or b"").startswith(b"1.0 smartedge (" if number == 11 else b"1.1 smartedge (")


@pytest.mark.parametrize(
    ("line", "fields", "stays"),
    [
        (b"HTTP/1.1", b"", True),
        (b"HTTP/1.1", b"Connection: close\r\n", False),
        (b"HTTP/1.1", b"Connection: Close\r\n", False),
        (b"HTTP/1.1", b"Connection: keep-alive\r\n", True),
        (b"HTTP/1.0", b"", False),
        (b"HTTP/1.0", b"Connection: keep-alive\r\n", True),
        (b"HTTP/1.0", b"Connection: Keep-Alive\r\n", True),
    ],
)
def test_a_connection_stays_open_as_its_client_says(edge: LiveEdge, line: bytes, fields: bytes, stays: bool) -> None:
    with Script(answers()) as backend, edge.client(2) as client:
        edge.configure(backend)
        raw = b"GET / " + line + b"\r\n" + HOST + fields + b"\r\n"
        client.send(raw)
        answer = client.answer()
        said = (answer.get(b"connection") or b"").lower()
        if stays:
            assert said != b"close"
            assert said == b"keep-alive" or line == b"HTTP/1.1"
            client.send(raw)
            assert client.answer().status == 200
        else:
            assert said == b"close"
            assert client.rest() == b""


def test_http_1_0_needs_no_host(own: LiveEdge) -> None:
    with Script(answers()) as backend:
        own.configure(backend)
        assert own.raw(b"GET / HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 200 ")
        assert f"\r\nHost: 127.0.0.1:{backend.port}\r\n".encode() in backend.requests[-1]
        assert b"\r\nVia: 1.0 smartedge (" in backend.requests[-1]


def test_connect_is_refused(own: LiveEdge, backend: Script) -> None:
    own.configure(backend)
    before = len(backend.requests)
    assert_refused(own, b"CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n", 501)
    assert len(backend.requests) == before


def test_a_small_answer_goes_out_in_one_write_and_without_delay(own: LiveEdge) -> None:
    """With Nagle's algorithm on, a keep-alive answer in two writes takes 44 ms."""
    with Script(answers()) as backend, own.client() as client:
        own.configure(backend)
        client.send(request())
        whole = client.sock.recv(65536)
        assert whole.endswith(b"\r\n\r\nhello\n")


def test_answers_that_are_late_do_not_hold_up_other_clients(own: LiveEdge) -> None:
    go_on = threading.Event()

    def act(call: Call) -> None:
        while seen := call.request():
            if seen.target == b"/late":
                go_on.wait(5)
            call.send(message(body=seen.target))

    with Script(act) as backend, own.client() as late:
        own.configure(backend)
        late.send(request(b"/late"))
        wait_until(lambda: backend.requests, 5, "the late request")
        assert own.ask(b"/quick").body == b"/quick"
        go_on.set()
        assert late.answer().body == b"/late"
