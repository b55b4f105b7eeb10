"""A connection that begins with the header fields that another one began with: they are known, and all else is its own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import gevent
import gevent.socket
import pytest

from smartedge.http.wire import Wire
from smartedge.server.front import KNOWN_BLOCK_BYTES, KNOWN_BLOCKS, Front, ServerLimits
from smartedge.server.incoming import Incoming
from smartedge.server.reader import RequestReader
from tests.house import Served, running, said
from tests.live.wire import parse_answers
from tests.peers import backend, head_of

LIMITS = ServerLimits()


@pytest.fixture(autouse=True)
def patience() -> Iterator[None]:
    with gevent.Timeout(20):
        yield


def first_request(front: Front, head: bytes, limits: ServerLimits = LIMITS, certificate_lines: bytes = b"") -> Any:
    """What a new connection's reader makes of this head."""
    ours, theirs = gevent.socket.socketpair()
    with contextlib.closing(ours):
        wire = Wire(theirs)
        incoming = Incoming(wire, b"192.0.2.1", False)
        incoming.certificate_lines = certificate_lines
        ours.sendall(head)
        try:
            return RequestReader(incoming, front, limits).read_request()
        finally:
            wire.close()


def front() -> Front:
    return Front(None, lambda: None)


@pytest.mark.parametrize(
    "lines",
    [
        b"",
        b"User-Agent: a\r\nAccept: */*\r\n",
        b"Connection: close\r\n",
        b"Connection: keep-alive, x-own\r\nX-Own: 1\r\nTE: trailers\r\n",
        b"Content-Length: 3\r\nX-Request-Id: one\r\n",
        b"Authorization: Basic eA==\r\nCookie: a=1\r\nX_Forwarded_For: 9.9.9.9\r\n",
        b"X-Forwarded-For: 1.1.1.1\r\nForwarded: for=2.2.2.2\r\nVia: 1.1 other\r\n",
        b"Connection: upgrade\r\nUpgrade: websocket\r\nExpect: 100-continue\r\n",
        b"traceparent: 00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01\r\nX-SmartEdge-Explain: 1\r\n",
    ],
)
def test_fields_that_are_known_say_what_they_say_when_they_are_read(lines: bytes) -> None:
    head = b"POST /a HTTP/1.1\r\nHost: h\r\n%b\r\n" % lines
    shared = front()
    read = first_request(shared, head + b"abc").fields
    assert list(shared.known_blocks) == [b"Host: h\r\n" + lines]
    known = first_request(shared, head.replace(b"POST /a", b"POST /other") + b"abc").fields
    assert said(known) == said(read)
    assert known is not read  # what is kept in them for one connection is not for another


def test_known_fields_are_not_looked_at_again() -> None:
    shared = front()
    head = b"GET / HTTP/1.1\r\nHost: h\r\nX-A: 1\r\n\r\n"
    first_request(shared, head)
    limits, fields = shared.known_blocks[b"Host: h\r\nX-A: 1\r\n"]
    shared.known_blocks[b"Host: h\r\nX-A: 1\r\n"] = limits, fields.with_host(b"told-apart")
    assert first_request(shared, head).fields.host == b"told-apart"


def test_they_are_read_anew_under_other_limits() -> None:
    """A reload may have made them stricter, or gunicorn have its own."""
    shared = front()
    head = b"GET / HTTP/1.1\r\nHost: h\r\nX-A: 1\r\nX-B: 2\r\n\r\n"
    assert first_request(shared, head) is not None
    assert first_request(shared, head, replace(LIMITS)) is not None
    with pytest.raises(Exception, match="more than 2 header fields"):
        first_request(shared, head, replace(LIMITS, headers=2))


def test_what_is_said_of_a_clients_certificate_is_no_other_clients() -> None:
    shared = front()
    head = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
    own = b"X-SSL-Client-Verify: SUCCESS\r\n"
    assert own in first_request(shared, head, certificate_lines=own).fields.block
    assert not shared.known_blocks
    assert first_request(shared, head).fields.block == b"Host: h\r\n"
    assert own in first_request(shared, head, certificate_lines=own).fields.block


@pytest.mark.parametrize(
    "lines",
    [b"Host: g\r\n", b"Transfer-Encoding: chunked\r\n", b"X-Long: %b\r\n" % (b"x" * KNOWN_BLOCK_BYTES)],
    ids=["two hosts", "a coding, which depends on the version", "long ones"],
)
def test_what_is_not_kept(lines: bytes) -> None:
    shared = front()
    with contextlib.suppress(Exception):
        first_request(shared, b"POST / HTTP/1.1\r\nHost: h\r\n%b\r\n0\r\n\r\n" % lines)
    assert not shared.known_blocks


def test_they_are_bounded() -> None:
    shared = front()
    for number in range(3 * KNOWN_BLOCKS):
        first_request(shared, b"GET / HTTP/1.1\r\nHost: h\r\nX-N: %d\r\n\r\n" % number)
        assert len(shared.known_blocks) <= KNOWN_BLOCKS
    assert b"Host: h\r\nX-N: %d\r\n" % (3 * KNOWN_BLOCKS - 1) in shared.known_blocks


@contextlib.contextmanager
def edge() -> Iterator[tuple[Served, list[bytes]]]:
    seen: list[bytes] = []

    def play(sock: Any, _number: int) -> None:
        while head := head_of(sock):
            seen.append(head)
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    with backend(play) as url, running(url) as made:
        yield made, seen


def test_each_client_is_told_of_by_its_own_address() -> None:
    """Clients that send the same: what backends are told of one is not what they were told of the other."""
    with edge() as (made, seen):
        for address in ("127.0.0.2", "127.0.0.3", "127.0.0.2"):
            there = ("127.0.0.1", made.server.server_port)
            with contextlib.closing(gevent.socket.create_connection(there, source_address=(address, 0))) as sock:
                for _ in range(2):
                    sock.sendall(b"GET / HTTP/1.1\r\nHost: h\r\nX-A: 1\r\n\r\n")
                    (answer,) = parse_answers(sock.recv(65536), b"GET")
                    assert answer.status == 200
                    assert b"\r\nX-Forwarded-For: %b\r\n" % address.encode() in seen[-1]
        assert list(made.server.front.known_blocks) == [b"Host: h\r\nX-A: 1\r\n"]
        assert len({head.partition(b"X-Forwarded-For")[0] for head in seen}) == 1
