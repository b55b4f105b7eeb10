"""Long bodies through an edge, both ways: pieces in pipes or buffers that are lent, and not one byte of another's among them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import gevent
import pytest

from smartedge.http import lent, pipes
from tests.house import running
from tests.peers import backend, head_of

SIZE = 3 * lent.LENT_BYTES + 12345
MORE = 24 * lent.LENT_BYTES
"""More than sockets take from one who does not read."""

NEXT = b"GET /last HTTP/1.1\r\nHost: h\r\n\r\n"


@pytest.fixture(autouse=True)
def patience() -> Iterator[None]:
    with gevent.Timeout(60):
        yield


@pytest.fixture(autouse=True, params=["by pipe", "by memory"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipes, "_refused", request.param == "by memory" or not hasattr(os, "splice"))


def body_of(name: bytes, size: int = SIZE) -> bytes:
    """A body that tells who it belongs to wherever it is looked at."""
    return (b"%b, " % name * (size // (len(name) + 2) + 1))[:size]


def exactly(sock: Any, size: int, data: bytes = b"") -> bytes:
    received = bytearray(data)
    while len(received) < size:
        piece = sock.recv(min(1 << 20, size - len(received)))
        assert piece, len(received)
        received += piece
    return bytes(received)


def echoes(sock: Any, _number: int) -> None:
    """A backend whose answer is its request's target, many times, and that reads what comes with it first."""
    while head := head_of(sock):
        head, _, early = head.partition(b"\r\n\r\n")
        target = head.split()[1]
        if b"Content-Length" in head:
            size = int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0])
            same = exactly(sock, size, early) == body_of(target)
            answer = b"same" if same else b"DIFFERENT"
        else:
            answer = b"done" if target == b"/last" else body_of(target, MORE if target == b"/slow" else SIZE)
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(answer) + answer)


def answer_on(sock: Any, size: int) -> bytes:
    head = head_of(sock)
    head, _, early = head.partition(b"\r\n\r\n")
    assert b"Content-Length: %d" % size in head
    return exactly(sock, size, early)


def download(edge: Any, name: bytes) -> bool:
    with contextlib.closing(edge.client()) as sock:
        sock.sendall(b"GET %b HTTP/1.1\r\nHost: h\r\n\r\n" % name)
        return answer_on(sock, SIZE) == body_of(name)


def upload(edge: Any, name: bytes) -> bool:
    """What follows at once on the same connection is the next request."""
    with contextlib.closing(edge.client()) as sock:
        sock.sendall(b"PUT %b HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % (name, SIZE) + body_of(name) + NEXT)
        return answer_on(sock, 4) == b"same" and answer_on(sock, 4) == b"done"


def test_bodies_of_many_at_once_are_not_mixed_up() -> None:
    with backend(echoes) as url, running(url) as edge:
        ways = [gevent.spawn(way, edge, b"/%d" % i) for i in range(6) for way in (download, upload)]
        gevent.joinall(ways, raise_error=True)
        assert [way.value for way in ways] == [True] * 12
    assert lent._Buffer.there <= lent.MOST
    assert pipes.Pipe.there <= pipes.MOST


def test_a_client_that_takes_its_time_keeps_its_piece_for_itself() -> None:
    """Its buffer is not lent to others before the last byte of it has gone."""
    with backend(echoes) as url, running(url) as edge, contextlib.closing(edge.client()) as slow:
        slow.sendall(b"GET /slow HTTP/1.1\r\nHost: h\r\n\r\n")
        head = head_of(slow)
        gevent.sleep(0.05)
        assert all(download(edge, b"/%d" % i) for i in range(3))
        head, _, early = head.partition(b"\r\n\r\n")
        assert exactly(slow, MORE, early) == body_of(b"/slow", MORE)


def test_what_comes_behind_a_long_answer_is_nobodys(way: None) -> None:
    """Bytes that belong to no answer, in one piece with its end, are not the next client's."""

    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE + body_of(b"/mine")

    def says_too_much(sock: Any, _number: int) -> None:
        while head_of(sock):
            sock.sendall(answer + b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")

    with backend(says_too_much) as url, running(url) as edge, contextlib.closing(edge.client()) as sock:
        for _ in range(3):
            sock.sendall(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
            assert answer_on(sock, SIZE) == body_of(b"/mine")
