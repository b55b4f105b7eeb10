"""A request body as it is read off its client's connection."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gevent
import pytest

from smartedge.balancer.errors import ClientError, ClientGone, ClientTimeout, PayloadTooLarge
from smartedge.http.headers import RequestFields
from smartedge.http.request import Request
from smartedge.server import body as bodies
from smartedge.server.body import ChunkedBody, ClientBody, LengthBody
from smartedge.server.front import ServerLimits
from smartedge.server.incoming import Incoming
from tests.peers import wire_pair

LIMITS = ServerLimits(idle_s=0.2, body_bytes=100)
NEXT = b"GET / HTTP/1.1\r\n"


class Client:
    """A client's connection, and what has come of it already."""

    def __init__(self, unread: bytes = b"") -> None:
        wire, self.sock = wire_pair()
        self.incoming = Incoming(wire, b"192.0.2.1", secure=False)
        self.incoming.unread = unread

    def body(self, kind: str, length: int = 11) -> ClientBody:
        return ChunkedBody(self.incoming, LIMITS) if kind == "chunked" else LengthBody(self.incoming, length, LIMITS)


@pytest.fixture(autouse=True)
def patience() -> Iterator[None]:
    with gevent.Timeout(10):
        yield


FRAMED = [("length", b"hello world"), ("chunked", b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n")]


@pytest.mark.parametrize(("kind", "raw"), FRAMED)
def test_a_body_that_came_with_its_head_is_at_hand_and_what_lies_behind_it_is_left(kind: str, raw: bytes) -> None:
    client = Client(raw + NEXT)
    body = client.body(kind)
    assert body.buffered() == b"hello world"
    assert (body.complete, body.received_bytes, body.read()) == (True, 11, b"")
    assert client.incoming.unread == NEXT


@pytest.mark.parametrize(("kind", "raw"), FRAMED)
def test_a_body_that_comes_later_is_read_piece_by_piece(kind: str, raw: bytes) -> None:
    client = Client(raw[:4])
    body = client.body(kind)
    assert body.buffered() is None
    read = gevent.spawn(lambda: b"".join(iter(body.read, b"")))
    for at in range(4, len(raw)):
        client.sock.sendall(raw[at : at + 1])
        gevent.sleep(0)
    assert read.get() == b"hello world"
    assert (body.complete, body.received_bytes, client.incoming.unread) == (True, 11, b"")


@pytest.mark.parametrize(("kind", "raw"), FRAMED)
def test_a_client_that_leaves_or_stops_in_the_middle_is_told_apart(kind: str, raw: bytes) -> None:
    client = Client(raw[:6])
    body = client.body(kind)
    body.read()
    with pytest.raises(ClientTimeout, match=r"stopped for 0.2 s"):
        body.read()
    assert client.incoming.keep_alive
    client.sock.close()
    with pytest.raises(ClientGone):
        body.read()
    assert not client.incoming.keep_alive
    assert not body.complete


def test_a_body_that_is_too_long_is_refused_before_it_is_read_or_as_soon_as_it_is() -> None:
    with pytest.raises(PayloadTooLarge):
        Client().body("length", 101)
    with pytest.raises(PayloadTooLarge):
        Client(b"65\r\n" + b"x" * 101 + b"\r\n").body("chunked").read()


def test_a_body_that_is_not_chunked_though_it_says_so_is_the_clients_error() -> None:
    with pytest.raises(ClientError, match="Malformed chunked body"):
        Client(b"zz\r\n").body("chunked").read()


def test_trailers_are_known_at_the_end() -> None:
    body = Client(b"1\r\nx\r\n0\r\nX-Sum: 1\r\n\r\n").body("chunked")
    assert body.buffered() == b"x"
    assert body.trailers == [(b"X-Sum", b"1")]


def test_a_client_that_waits_for_a_100_is_asked_to_go_on_when_nobody_else_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """The backend's own 100 may come first; a client that gets none goes on waiting."""
    monkeypatch.setattr(bodies, "CONTINUE_WAIT_S", 0.01)
    client = Client()
    block = b"Host: h\r\n"
    request = client.incoming.request = Request(b"POST", b"/", 11, block, RequestFields(block), b"192.0.2.1", secure=False)
    request.expects_continue = True
    said: list[Any] = []

    def interim(*what: Any) -> None:
        said.append(what)
        client.sock.sendall(b"hello world")

    request.interim = interim
    assert client.body("length").read() == b"hello world"
    assert said == [(100, b"100 Continue\r\n", b"")]
