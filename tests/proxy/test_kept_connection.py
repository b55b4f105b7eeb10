"""Requests that share a connection: each is answered, and reaches its backend, as it would on a connection of its own."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any

import gevent
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.examples import examples
from tests.house import Served, running
from tests.peers import backend, head_of

TOKEN = "the admin token of the test"
GET = b"GET /%b HTTP/1.1\r\nHost: h\r\n"


@pytest.fixture(autouse=True)
def patience() -> Iterator[None]:
    with gevent.Timeout(60):
        yield


def read_message(sock: Any, *, bodiless: bool = False) -> bytes:
    """A head and a body of its Content-Length, or of chunks whose end nothing else looks like."""
    data = head_of(sock)
    head, _, body = data.partition(b"\r\n\r\n")
    if head.startswith(b"HTTP/1.1 100"):
        return body or read_message(sock, bodiless=bodiless)
    length = re.search(rb"\ncontent-length: (\d+)", head.lower())
    while not bodiless and length and len(body) < int(length[1]):
        body += sock.recv(65536)
    while b"chunked" in head and not body.endswith(b"0\r\n\r\n"):
        body += sock.recv(65536)
    return head + b"\r\n\r\n" + body


def echoes(name: bytes) -> Any:
    """A backend that says its name and what it received, without what differs from request to request."""

    def play(sock: Any, _number: int) -> None:
        while raw := read_message(sock):
            seen = re.sub(rb"X-Request-Id: [^\r]*", b"", raw)
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nX-Name: %b\r\n\r\n" % (len(seen), name))
            if not raw.startswith(b"HEAD"):
                sock.sendall(seen)

    return play


@contextlib.contextmanager
def edge_of(names: bytes, **settings_: Any) -> Iterator[Served]:
    with contextlib.ExitStack() as stack:
        urls = [stack.enter_context(backend(echoes(names[i : i + 1]))) for i in range(len(names))]
        document = [{"url": url, "id": chr(name)} for url, name in zip(urls, names, strict=True)]
        yield stack.enter_context(running(*document, **settings_))  # type: ignore[arg-type]


def ask(sock: Any, raw: bytes) -> bytes:
    sock.sendall(raw)
    return read_message(sock, bodiless=raw.startswith(b"HEAD"))


def test_a_sticky_session_holds_for_every_request_of_a_kept_connection() -> None:
    """The same GET with c's cookie went to c, a, b, c, d, a, b, c, with seven new cookies: only the first one was read."""
    with edge_of(b"abcd", sticky={"cookie": "SRV"}) as edge, contextlib.closing(edge.client()) as client:
        cookie = b""
        while b"X-Name: c\r\n" not in cookie:
            cookie = ask(client, GET % b"find" + b"\r\n")
        cookie = re.search(rb"Set-Cookie: (SRV=[^;]+)", cookie)[1]  # type: ignore[index]
        answers = [ask(client, GET % b"" + b"Cookie: a=1; %b\r\n\r\n" % cookie) for _ in range(8)]
        assert [re.search(rb"X-Name: (\w)", answer)[1] for answer in answers] == [b"c"] * 8  # type: ignore[index]
        assert not any(b"Set-Cookie" in answer or b"SRV=" in answer for answer in answers)


FEATURES = [
    b"",
    b"Cookie: SRV=forged; a=1\r\n",
    b"Cookie: SRV=forged\r\n",
    b"Cookie: id=7\r\n",
    b"X-SmartEdge-Explain: 1\r\nAuthorization: Bearer %b\r\n" % TOKEN.encode(),
    b"X-SmartEdge-Explain: Bearer %b\r\nAuthorization: Basic eDp5\r\n" % TOKEN.encode(),
    b"X-SmartEdge-Explain: no\r\nAuthorization: Bearer %b\r\n" % TOKEN.encode(),
    b"Connection: X-Gone, keep-alive\r\nX-Gone: 1\r\n",
    b"X-Gone: 1\r\n",
    b"TE: trailers\r\nConnection: TE\r\n",
    b"Connection: Upgrade\r\nUpgrade: other\r\n",
    b"Connection: Upgrade\r\nUpgrade: other\r\nTE: trailers\r\n",
    b"X-Forwarded-For: 1.1.1.1\r\nForwarded: for=1.1.1.1\r\nX-Forwarded-Proto: https\r\n",
    b"X_Forwarded_For: 1.1.1.1\r\n",
    b"Proxy-Authorization: Basic eDp5\r\n",
    b"X-User: ann\r\n",
]
LINES = [
    b"GET /a HTTP/1.1\r\nHost: h\r\n",
    b"HEAD /a HTTP/1.1\r\nHost: h\r\n",
    b"GET http://other.test/b HTTP/1.1\r\nHost: h\r\n",
]
LINES += [b"OPTIONS http://other.test HTTP/1.1\r\nHost: h\r\n", b"OPTIONS * HTTP/1.1\r\nHost: h\r\nMax-Forwards: 3\r\n"]
BODIES = [
    b"\r\n",
    b"Content-Length: 4\r\n\r\nbody",
    b"Content-Length: 4\r\nExpect: 100-continue\r\n\r\nbody",
    b"Transfer-Encoding: chunked\r\nTrailer: X-Sum, Host\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
]
requests = st.builds(
    lambda line, features, body: (line if body == b"\r\n" else b"POST /a HTTP/1.1\r\nHost: h\r\n") + b"".join(features) + body,
    st.sampled_from(LINES),
    st.lists(st.sampled_from(FEATURES), max_size=2, unique=True),
    st.sampled_from(BODIES),
)
EVERYTHING = {
    "sticky": {"cookie": "SRV"},
    "strategy": "consistent_hash",
    "hash": {"by": "cookie:id"},
    "trusted_proxies": ["127.0.0.0/8"],
    "forwarded_header": True,
}


def without_chance(answer: bytes) -> bytes:
    """An answer without what is new each time: the date, the request id, and the numbers in what was decided."""
    answer = re.sub(rb'"request_id": "[^"]*"', b"", answer)
    return re.sub(rb"(X-SmartEdge-Decision|Date|Content-Length): [^\r]*", rb"\1", answer)


@pytest.fixture(scope="module")
def everything() -> Iterator[Served]:
    with edge_of(b"a", token=TOKEN, **EVERYTHING) as edge:
        yield edge


@settings(max_examples=examples(60))
@given(st.lists(requests, min_size=1, max_size=4))
@example([LINES[0] + feature + b"\r\n" for feature in FEATURES])
@example([b"POST /a HTTP/1.1\r\nHost: h\r\n" + feature + body for feature in FEATURES for body in BODIES[1:]])
@example([line + b"\r\n" for line in LINES])
def test_every_request_twice_on_one_connection_is_what_it_is_on_a_fresh_one(everything: Served, raws: list[bytes]) -> None:
    with contextlib.ExitStack() as stack:
        kept = stack.enter_context(contextlib.closing(everything.client()))
        for raw in [raw for raw in raws for _ in range(2)]:
            with contextlib.closing(everything.client()) as fresh:
                expected = without_chance(ask(fresh, raw))
            assert without_chance(ask(kept, raw)) == expected
            if b"Connection: close" in expected:
                kept = stack.enter_context(contextlib.closing(everything.client()))
