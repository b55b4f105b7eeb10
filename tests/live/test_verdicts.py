"""One suite of verdicts under all three servers: what becomes of a request may differ only where docs/deployment.md says so."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.live.edges import LiveEdge, request
from tests.live.peers import Call, Script, cuts_mid_chunk, head, message
from tests.live.processes import wait_until

HOST = b"Host: edge.test\r\n"
GET = b"GET / HTTP/1.1\r\n" + HOST
POST = b"POST / HTTP/1.1\r\n" + HOST
CLOSE = b"Connection: close\r\n\r\n"
LIMIT_BYTES = 1_000_000


@dataclass
class Case:
    """raw: what the client sends before it half-closes. statuses: of the answers. seen: what a backend's last request must
    hold, None when it must get none.
    """

    raw: bytes
    statuses: list[int]
    seen: bytes | None = None


CASES: dict[str, Case] = {
    "a request": Case(GET + CLOSE, [200], b"GET / HTTP/1.1\r\n"),
    "HTTP/1.0 without Host": Case(b"GET / HTTP/1.0\r\n\r\n", [200], b"Via: 1.0 smartedge ("),
    "HTTP/1.1 without Host": Case(b"GET / HTTP/1.1\r\n\r\n", [400]),
    "two Hosts": Case(GET + HOST + b"\r\n", [400]),
    "HTTP/1.2": Case(b"GET / HTTP/1.2\r\n" + HOST + CLOSE, [200], b"GET / HTTP/1.1\r\n"),
    "bare LF": Case(b"GET / HTTP/1.1\nHost: edge.test\n\n", [400]),
    "CONNECT": Case(b"CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n", [501]),
    "an unknown coding": Case(POST + b"Transfer-Encoding: own\r\n\r\n0\r\n\r\n", [501]),
    "an unknown coding before chunked": Case(POST + b"Transfer-Encoding: own, chunked\r\n\r\n0\r\n\r\n", [501]),
    "length and chunked": Case(POST + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", [400]),
    "a chunk with blanks": Case(
        POST + b"Transfer-Encoding: chunked\r\n" + CLOSE + b"2 ; a=b\r\nhi\r\n0\r\n\r\n", [200], b"hi\r\n"
    ),
    "chunks that are none": Case(POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n\r\n", [400]),
    "a body that is too long": Case(POST + b"Content-Length: %d\r\n\r\n" % (LIMIT_BYTES + 1) + bytes(LIMIT_BYTES + 1), [413]),
    "a chunked one": Case(POST + b"Transfer-Encoding: chunked\r\n\r\n1e8480\r\n" + bytes(2_000_000) + b"\r\n0\r\n\r\n", [413]),
    "an empty line behind a POST": Case(
        POST + b"Content-Length: 2\r\n\r\nhi\r\n" + GET + CLOSE, [200, 200], b"GET / HTTP/1.1\r\n"
    ),
    "nothing but an empty line behind it": Case(POST + b"Content-Length: 2\r\n\r\nhi\r\n", [200], b"hi"),
    "TE": Case(GET + b"TE: trailers, deflate\r\nConnection: TE\r\n\r\n", [200], b"TE: trailers\r\nConnection: TE\r\n"),
    "OPTIONS of a host": Case(b"OPTIONS http://a.test HTTP/1.1\r\n" + HOST + CLOSE, [200], b"OPTIONS * HTTP/1.1\r\n"),
    "Max-Forwards": Case(b"TRACE / HTTP/1.1\r\n" + HOST + b"Max-Forwards: 2\r\n" + CLOSE, [200], b"Max-Forwards: 1\r\n"),
    "no more forwards": Case(b"OPTIONS / HTTP/1.1\r\n" + HOST + b"Max-Forwards: 0\r\n" + CLOSE, [200]),
    "a fragment": Case(b"GET /a#b HTTP/1.1\r\n" + HOST + b"\r\n", [400]),
    "another scheme": Case(b"GET ftp://a/ HTTP/1.1\r\n" + HOST + b"\r\n", [400]),
    "a long request line": Case(b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", [414]),
}


@pytest.fixture(scope="module")
def backend() -> Iterator[Script]:
    def act(call: Call) -> None:
        while call.request():
            call.send(message(body=b"hello\n"))

    with Script(act) as script:
        yield script


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_every_server_comes_to_the_same_verdict(edge: LiveEdge, backend: Script, case: Case) -> None:
    if backend.url not in str(edge.status()):
        edge.configure(backend, limits={"body_bytes": LIMIT_BYTES})
    before = len(backend.requests)
    with edge.client() as client:
        client.send(case.raw)
        client.half_close()
        received = client.rest()
    assert not client.stream.was_reset
    assert [int(status) for status in re.findall(rb"HTTP/1\.[01] (\d{3}) ", received)] == case.statuses, received
    seen = backend.requests[before:]
    assert seen == [] if case.seen is None else case.seen in seen[-1]


def test_a_426_says_what_to_upgrade_to(edge: LiveEdge) -> None:
    def act(call: Call) -> None:
        while call.request():
            call.send(head(426, [("Upgrade", "own/1"), ("Connection", "Upgrade"), ("Content-Length", "0")]))

    with Script(act) as backend:
        edge.configure(backend)
        answer = edge.ask()
        assert (answer.status, answer.get(b"upgrade")) == (426, b"own/1")
        assert b"upgrade" in (answer.get(b"connection") or b"").lower()


def test_a_chunked_answer_that_breaks_off_is_a_reset_where_a_close_would_be_its_end(edge: LiveEdge) -> None:
    """Under plain `-k gevent` an HTTP/1.0 client got a clean end, and took half of it for the whole."""
    with Script(cuts_mid_chunk(b"half")) as backend, edge.client() as client:
        edge.configure(backend)
        client.send(b"GET / HTTP/1.0\r\n\r\n")
        client.rest()
        assert client.stream.was_reset


@pytest.mark.parametrize("behind", [b"\r\n", request(b"/2")], ids=["an empty line", "a request"])
def test_a_close_over_unread_bytes_takes_nothing_of_the_answer(edge: LiveEdge, behind: bytes) -> None:
    body = b"x" * 3_000_000

    def act(call: Call) -> None:
        while call.request():
            call.send(message(body=body))

    with Script(act) as backend, edge.client() as client:
        edge.configure(backend)
        client.send(GET + CLOSE)
        wait_until(lambda: backend.requests, 5)
        client.stream.fill()
        client.send(behind)
        backend.stopping.wait(0.3)
        assert client.rest().endswith(body)
        assert not client.stream.was_reset


def test_a_client_that_half_closes_is_served(edge: LiveEdge) -> None:
    """`printf ... | nc`."""

    def act(call: Call) -> None:
        call.request()
        call.pause(0.4)
        call.send(message(body=b"late"))

    with Script(act) as backend, edge.client() as client:
        edge.configure(backend)
        client.send(request())
        client.half_close()
        assert client.answer().body == b"late"
        edge.settled()
        assert edge.log(path="/")["status"] == 200


def test_the_trailer_field_names_only_what_follows(edge: LiveEdge) -> None:
    def act(call: Call) -> None:
        while call.request():
            start = head(200, [("Transfer-Encoding", "chunked"), ("Trailer", "X-Sum, Content-Length")])
            call.send(start + b"2\r\nhi\r\n0\r\nX-Sum: abc\r\nContent-Length: 2\r\n\r\n")

    with Script(act) as backend:
        edge.configure(backend)
        answer = edge.ask()
        assert (answer.body, answer.trailers) == (b"hi", [(b"X-Sum", b"abc")])
        assert answer.get(b"trailer") == b"X-Sum"
