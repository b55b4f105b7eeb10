"""A request's body that is still coming while its backend answers: no other backend ever gets a part of it for the whole."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import gevent
import gevent.event
import gevent.socket
import pytest

from smartedge.http.wire import Wire
from smartedge.proxy.connection import Connection
from smartedge.proxy.dialer import Way
from tests.fakes import Pieces
from tests.house import running, until
from tests.peers import backend, head_of

HEAD = b"PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture(autouse=True)
def patience() -> Iterator[None]:
    with gevent.Timeout(20):
        yield


def test_an_early_answer_that_could_be_bettered_is_the_answer_while_the_body_still_comes() -> None:
    """The second backend was sent what came after the first one's 503, as the whole body, and its 200 was the client's."""
    go_on = gevent.event.Event()
    got: list[bytes] = []

    def refuses(sock: Any, _: int) -> None:
        head_of(sock)
        sock.sendall(b"HTTP/1.1 503 Sorry\r\nContent-Length: 10\r\n\r\nlater")
        go_on.wait()
        sock.sendall(b"later")

    def takes(sock: Any, _: int) -> None:
        got.append(head_of(sock))
        while not got[-1].endswith(b"0\r\n\r\n"):
            got[-1] += sock.recv(65536)
        sock.sendall(OK)

    with backend(refuses) as one, backend(takes) as two, running(one, two, strategy="round_robin") as edge:
        client = edge.client()
        client.sendall(HEAD + b"3\r\nabc\r\n")
        client.settimeout(2)
        answer = head_of(client)
        assert answer.startswith(b"HTTP/1.1 503 ")
        go_on.set()
        while not answer.endswith(b"laterlater"):
            answer += client.recv(100)
        client.close()
        assert got == []
        (ended,) = edge.ended()
        assert ended.attempts.tries == 1


def test_an_early_answer_that_no_other_backend_can_better_leaves_the_upload_as_it_is() -> None:
    """It went back to what had been kept, for a try that was not made, and the backend got a piece twice."""
    got: list[bytes] = []

    def refuses(sock: Any, _: int) -> None:
        got.append(head_of(sock).partition(b"\r\n\r\n")[2])
        sock.sendall(b"HTTP/1.1 503 Sorry\r\nContent-Length: 5\r\n\r\n")
        while not got[-1].endswith(b"0\r\n\r\n"):
            got[-1] += sock.recv(65536)
        sock.sendall(b"later")

    with backend(refuses) as only, running(only) as edge:
        client = edge.client()
        client.sendall(HEAD + b"3\r\nabc\r\n")
        assert head_of(client).startswith(b"HTTP/1.1 503 ")
        client.sendall(b"3\r\ndef\r\n")
        client.sendall(b"0\r\n\r\n")
        assert client.recv(100) == b"later"
        client.close()
    assert got == [b"3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n"]


def test_an_upload_that_is_abandoned_in_mid_write_takes_nothing_more_from_the_client() -> None:
    """What it read then was missing from the next try, which begins again with what has been kept."""
    ours, theirs = gevent.socket.socketpair()
    connection = Connection(Wire(ours, urgent=True), Way((), None), None)
    body = Pieces(b"x" * 300_000, b"next")
    connection.send(HEAD, body, 5, 5)
    until(lambda: connection.wire._writer is not None)

    def answer() -> None:
        """Make room and answer, in one round of the loop: the reader of the answer is told first."""
        with contextlib.suppress(BlockingIOError):
            while True:
                theirs._sock.recv(65536)
        theirs._sock.send(OK)

    gevent.spawn(answer)
    connection.receive(False, 5, 65536, None, False)
    connection.close()
    assert body.pieces == [b"next"]
    theirs.close()
