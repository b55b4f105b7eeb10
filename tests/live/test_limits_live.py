"""Limits of size and time on the wire: the right status, and never a request that is forwarded."""

from __future__ import annotations

import contextlib
import threading

import pytest

from tests.live.edges import LiveEdge, request
from tests.live.peers import Script, answers
from tests.live.refusals import assert_refused

POST = b"POST / HTTP/1.1\r\nHost: edge.test\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.fixture(scope="module")
def backend() -> object:
    """One backend for many requests that must not reach it."""
    with Script(answers()) as script:
        yield script


def test_a_target_that_is_too_long_is_414(own: LiveEdge, backend: Script) -> None:
    own.configure(backend, limits={"target_bytes": 1024})
    assert_refused(own, request(b"/" + b"x" * 1024), 414)
    assert_refused(own, b"GET /" + b"x" * 10_000, 414)  # before its end has come
    assert own.ask(b"/" + b"x" * 1023).status == 200


def test_a_head_that_is_too_large_is_431(own: LiveEdge, backend: Script) -> None:
    own.configure(backend, limits={"head_bytes": 4096, "headers": 20})
    assert_refused(own, request(headers=b"X: " + b"y" * 5000 + b"\r\n"), 431)
    assert_refused(own, b"GET / HTTP/1.1\r\nX: " + b"y" * 10_000, 431)
    assert_refused(own, request(headers=b"X: y\r\n" * 20), 431)
    assert own.ask(headers=b"X: y\r\n" * 19).status == 200


def test_a_body_that_is_too_large_is_413(own: LiveEdge, backend: Script) -> None:
    own.configure(backend, limits={"body_bytes": 1000})
    before = len(backend.requests)
    assert_refused(own, request(b"/", b"POST", body=b"x" * 1001), 413)
    for chunks in (b"3e8\r\n" + b"x" * 1000 + b"\r\n1\r\nx\r\n0\r\n\r\n", b"3e9\r\n" + b"x" * 1001):
        with own.client() as client:
            client.send(CHUNKED + chunks)
            assert client.answer().status == 413
    assert len(backend.requests) == before
    assert own.ask(b"/", b"POST", body=b"x" * 1000).status == 200


def test_a_head_that_comes_too_slowly_is_408(own: LiveEdge, backend: Script) -> None:
    own.configure(backend, timeouts={"head_s": 0.4})
    with own.client(3) as client:
        for _ in range(3):
            client.send(b"GET / HTTP/1.1\r\n"[:3])
            backend.stopping.wait(0.1)
        answer = client.answer()
        assert (answer.status, answer.get(b"connection")) == (408, b"close")
        assert client.rest() == b""


def test_a_body_that_stops_is_408(own: LiveEdge, backend: Script) -> None:
    own.configure(backend, timeouts={"idle_s": 0.4})
    with own.client(3) as client:
        client.send(POST + b"Content-Length: 10\r\n\r\nhalf")
        assert client.answer().status == 408
        assert client.rest() == b""
    own.settled()
    assert own.backends()[0]["failed"] == 0


def test_an_idle_connection_is_closed_after_keepalive_s_without_a_word(own: LiveEdge, backend: Script) -> None:
    own.configure(backend, timeouts={"keepalive_s": 0.4})
    with own.client(3) as silent, own.client(3) as idle:
        idle.send(request())
        assert idle.answer().status == 200
        assert idle.rest() == b""
        assert silent.rest() == b""


def test_an_expectation_that_is_not_understood_is_417(own: LiveEdge, backend: Script) -> None:
    own.configure(backend)
    assert_refused(own, POST + b"Content-Length: 4\r\nExpect: 200-maybe\r\n\r\nabcd", 417)


def test_a_refused_client_can_read_why_although_it_goes_on_sending(own: LiveEdge, backend: Script) -> None:
    """Closing over unread bytes resets the connection, and the reset takes the answer with it."""
    own.configure(backend, limits={"body_bytes": 1000})
    with own.client() as client:
        client.send(POST + b"Content-Length: 1000000\r\n\r\n")

        def goes_on() -> None:
            with contextlib.suppress(OSError):  # the edge closes when it has lingered for long enough
                client.send(b"x" * 1_000_000)

        sender = threading.Thread(target=goes_on)
        sender.start()
        assert client.answer().status == 413
        sender.join(5)
