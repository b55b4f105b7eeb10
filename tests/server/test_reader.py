"""The edges of a request: what stands before and behind it, versions and codings that are not ours, how far it may go."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterator
from typing import Any

import gevent
import httptools
import pytest

from smartedge.server.front import ServerLimits
from smartedge.server.reader import _KNOWN_METHODS, _PLAIN_LINE, AGAIN_BYTES, past_empty_lines
from tests.house import Served, running
from tests.live.wire import Answer, Request, parse_answers, read_request
from tests.live.wire import Stream as WireStream
from tests.peers import App, backend, edge_server, head_of, talk

HOST = b"Host: h\r\n"
GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
LAST = b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbody"
LIMITS = ServerLimits(head_s=0.2, keepalive_s=5)


@pytest.fixture(autouse=True)
def patience() -> Iterator[None]:
    with gevent.Timeout(20):
        yield


class Seen:
    """What a backend has got to see; it answers 200."""

    def __init__(self) -> None:
        self.raw: list[bytes] = []

    def play(self, sock: Any, _number: int) -> None:
        while head := head_of(sock):
            self.raw.append(head)
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    def last(self) -> Request:
        request = read_request(WireStream(None, self.raw[-1]), body=False)
        assert request is not None
        return request


@contextlib.contextmanager
def edge() -> Iterator[tuple[Served, Seen]]:
    seen = Seen()
    with backend(seen.play) as url, running(url) as made:
        yield made, seen


def ask(made: Served, raw: bytes, method: bytes = b"GET") -> Answer:
    (answer,) = parse_answers(talk(made.server, raw), method)
    return answer


def hello(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Length", "5")])
    return [b"hello"]


# Empty lines.


@pytest.mark.parametrize("behind", [b"\r\n", b"\r\n\r\n", b"\r", b""])
def test_an_empty_line_behind_a_post_is_not_the_beginning_of_a_request(behind: bytes) -> None:
    """Such a connection was answered 408 after head_s, although nobody had asked for anything."""
    with edge_server(App(hello, limits=LIMITS)) as server:
        received = talk(server, POST + behind, b"" if behind else b"\r\n", b"\n" * (behind == b"\r") + LAST, pause_s=0.3)
    assert [answer.status for answer in parse_answers(received, b"POST", b"GET")] == [200, 200]


def test_a_client_that_sends_nothing_but_empty_lines_has_keepalive_s_in_all() -> None:
    with edge_server(App(hello, limits=ServerLimits(keepalive_s=0.3))) as server:
        assert talk(server, *[b"\r\n"] * 20, pause_s=0.05) == b""


def test_a_million_empty_lines_take_no_time() -> None:
    """Each was cut off alone, and the rest copied."""
    assert past_empty_lines(b"\r\n" * 1_000_000 + b"\rGET") == b"\rGET"


# Versions.


@pytest.mark.parametrize("version", [b"HTTP/1.2", b"HTTP/1.9"])
def test_a_later_minor_version_is_served_as_1_1(version: bytes) -> None:
    """RFC 9110 section 2.5; it was 400."""
    with edge() as (made, seen):
        raw = b"GET /a %b\r\nHost: h\r\n" % version
        answers = parse_answers(talk(made.server, raw + b"\r\n" + raw + b"Connection: close\r\n\r\n"))
        assert [answer.status for answer in answers] == [200, 200]
        assert seen.raw[-1].startswith(b"GET /a HTTP/1.1\r\n")


@pytest.mark.parametrize("version", [b"HTTP/0.9", b"HTTP/2.0", b"HTTP/1.10", b"HTTP/1.x", b"HTTP/1.", b"http/1.2"])
def test_others_are_refused(version: bytes) -> None:
    with edge() as (made, seen):
        assert ask(made, b"GET / %b\r\nHost: h\r\n\r\n" % version).status == 400
        assert seen.raw == []


# What is no request line.


def test_a_client_that_takes_the_port_for_one_with_tls_is_told_so() -> None:
    received, sent = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = ssl.create_default_context().wrap_bio(received, sent, server_hostname="shop.example")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    with edge() as (made, seen):
        answer = ask(made, sent.read())
        assert (answer.status, seen.raw) == (400, [])
        assert b"This port does not speak TLS" in answer.body


@pytest.mark.parametrize(
    ("method", "status", "said"),
    [(b"M" * 64, 200, b""), (b"M" * 65, 400, b"longer than 64 bytes"), (b"GE(T", 400, b"not a token")],
)
def test_a_method_is_a_token_of_64_bytes_at_most_and_which_it_is_not_is_said(method: bytes, status: int, said: bytes) -> None:
    with edge() as (made, seen):
        answer = ask(made, method + b" / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        assert (answer.status, len(seen.raw)) == (status, status == 200)
        assert said in answer.body


# Transfer codings.


@pytest.mark.parametrize(
    ("coding", "status"),
    [
        (b"own", 501),
        (b"gzip, chunked", 501),
        (b"gzip\r\nTransfer-Encoding: chunked", 501),
        (b"own;a=b, chunked", 501),
        (b"identity", 501),
        (b"chunked, own", 400),
        (b"chunked, chunked", 400),
        (b"chunked, gzip, chunked", 400),
        (b'"chunked"', 400),
        (b"", 400),
        (b"own\r\nContent-Length: 4", 400),
        (b"chunked\r\nX : y", 400),
    ],
)
def test_an_unknown_transfer_coding_is_501_and_an_unclear_end_of_the_body_400(coding: bytes, status: int) -> None:
    """RFC 9112 sections 6.1 and 6.3; all of them were 400."""
    with edge() as (made, seen):
        assert ask(made, b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: %b\r\n\r\n0\r\n\r\n" % coding).status == status
        assert seen.raw == []


def test_http_1_0_has_no_transfer_codings() -> None:
    with edge() as (made, _seen):
        assert ask(made, b"POST / HTTP/1.0\r\nTransfer-Encoding: own\r\n\r\n").status == 400


# OPTIONS about the whole server, TRACE, and how far they may go.


@pytest.mark.parametrize(
    ("method", "target", "expected", "host"),
    [
        (b"OPTIONS", b"http://a.test", b"*", b"a.test"),
        (b"OPTIONS", b"https://a.test:8443", b"*", b"a.test:8443"),
        (b"OPTIONS", b"http://a.test/", b"/", b"a.test"),
        (b"OPTIONS", b"http://a.test?q", b"/?q", b"a.test"),
        (b"OPTIONS", b"*", b"*", b"h"),
        (b"GET", b"http://a.test", b"/", b"a.test"),
    ],
)
def test_options_of_a_host_is_about_the_whole_server(method: bytes, target: bytes, expected: bytes, host: bytes) -> None:
    """RFC 9112 section 3.2.4; it asked about the root."""
    with edge() as (made, seen):
        assert ask(made, b"%b %b HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n" % (method, target)).status == 200
        assert (seen.last().target, seen.last().get(b"host")) == (expected, host)


def test_max_forwards_means_nothing_in_other_methods() -> None:
    with edge() as (made, seen):
        assert ask(made, LAST[:-2] + b"Max-Forwards: 0\r\n\r\n").status == 200
        assert seen.last().get(b"max-forwards") == b"0"


def test_a_trace_that_may_go_no_further_is_answered_by_the_edge() -> None:
    """RFC 9110 section 7.6.2; tests/http/test_max_forwards.py has what is in the answer."""
    with edge() as (made, seen):
        answer = ask(made, b"TRACE /a?b HTTP/1.1\r\nHost: h\r\nMax-Forwards: 0\r\nConnection: close\r\n\r\n")
        assert (answer.status, answer.get(b"content-type")) == (200, b"message/http")
        assert ask(made, b"TRACE / HTTP/1.1\r\nHost: h\r\nMax-Forwards: 1\r\nConnection: close\r\n\r\n").status == 200
        assert [seen.last().get(b"max-forwards"), len(seen.raw)] == [b"0", 1]
        assert [exchange.status for exchange in made.ended(2)] == [200, 200]


# Fields that are the same as those of the request before are not checked again; the line of theirs is, by a pattern.


def is_fine(head: bytes) -> bool:
    try:
        httptools.HttpRequestParser(None).feed_data(head)
    except httptools.HttpParserError:
        return False
    return True


@pytest.mark.parametrize("method", sorted(_KNOWN_METHODS))
def test_the_parser_has_nothing_against_a_plain_line_and_the_pattern_nothing_for_what_it_refuses(method: bytes) -> None:
    for byte in range(256):
        for target in (b"/a%cb", b"/?a%cb"):
            line = b"%b %b HTTP/1.1\r\n" % (method, target % byte)
            assert bool(_PLAIN_LINE.match(line)) == (is_fine(line + HOST + b"\r\n") and byte != ord("#")), line
    for line in (b"%b a HTTP/1.1\r\n", b"%b / HTTP/1.2\r\n", b"%b  / HTTP/1.1\r\n", b"%b /  HTTP/1.1\r\n", b" %b / HTTP/1.1\r\n"):
        assert not _PLAIN_LINE.match(line % method)
    assert not _PLAIN_LINE.match(b"%bX / HTTP/1.1\r\n" % method)


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"POST /b?c HTTP/1.1", 200),
        (b"BREW /b HTTP/1.1", 200),
        (b"GET http://other/ HTTP/1.1", 200),
        (b"GET /b HTTP/1.0", 200),
        (b"CONNECT /b HTTP/1.1", 501),
        (b"GET b HTTP/1.1", 400),
        (b"GET /b c HTTP/1.1", 400),
        (b"GET /b#c HTTP/1.1", 400),
        (b"GET /\x80 HTTP/1.1", 400),
        (b"G@T /b HTTP/1.1", 400),
        (b"GET /b HTTP/2.0", 400),
        (b"GET /%b HTTP/1.1" % (b"b" * 9000), 414),
    ],
)
def test_a_line_is_judged_alike_whether_its_fields_are_known_or_not(line: bytes, status: int) -> None:
    with edge() as (made, seen):
        alone = ask(made, line + b"\r\nHost: h\r\nConnection: close\r\n\r\n")
        raw = seen.raw[-1:]
        with contextlib.closing(made.client()) as sock:
            sock.sendall(GET)
            assert sock.recv(65536).endswith(b"ok")
            sock.sendall(line + b"\r\nHost: h\r\n\r\n")
            (second,) = parse_answers(sock.recv(65536), b"GET")
        assert alone.status == second.status == status
        if status == 200:
            assert seen.raw[-1].partition(b"X-Request-Id")[0] == raw[0].partition(b"X-Request-Id")[0]


# The same head again.

OTHER = b"GET /other HTTP/1.1\r\nHost: h\r\n\r\n"
WITH_COOKIE = b"GET / HTTP/1.1\r\nHost: h\r\nCookie: a=b\r\n\r\n"
OLD = b"GET / HTTP/1.0\r\nHost: h\r\nConnection: keep-alive\r\n\r\n"
LONG = b"GET /%b HTTP/1.1\r\nHost: h\r\n\r\n" % (b"l" * AGAIN_BYTES)


@pytest.mark.parametrize(
    "heads",
    [
        (GET, GET, GET, OTHER, OTHER, GET, GET),
        (GET, GET, WITH_COOKIE, GET, WITH_COOKIE, WITH_COOKIE, GET),
        (OLD, OLD, OLD),
        (LONG, LONG, LONG, GET, LONG),
    ],
)
def test_whoever_sends_the_same_head_again_and_again_is_understood_each_time(heads: tuple[bytes, ...]) -> None:
    with edge() as (made, seen), contextlib.closing(made.client()) as sock:
        for number, head in enumerate(heads, 1):
            sock.sendall(head)
            assert sock.recv(65536).endswith(b"ok")
            assert len(seen.raw) == number
            line, _, fields = head.partition(b" HTTP/1.")
            assert seen.raw[-1].startswith(line + b" HTTP/1.1\r\nHost: h\r\n")
            assert (b"Cookie: a=b\r\n" in seen.raw[-1]) == (b"Cookie" in fields)
            assert (b"Via: 1.0 " in seen.raw[-1]) == (head is OLD)


def test_the_same_head_in_pieces_and_with_a_body_or_another_request_behind_it_is_understood() -> None:
    post = POST.removesuffix(b"body")
    with backend_that_echoes() as url, running(url) as made, contextlib.closing(made.client()) as sock:
        for pieces, bodies in [
            ((post, b"body"), [b"body"]),
            ((post, b"soul"), [b"soul"]),
            ((post + b"mind",), [b"mind"]),
            ((post[:20], post[20:], b"b", b"ody"), [b"body"]),
            ((post, b"next" + post + b"last"), [b"next", b"last"]),
        ]:
            received = b""
            for piece in pieces:
                sock.sendall(piece)
                gevent.idle()  # the edge has taken it then, so that it comes alone
            while received.count(b"\r\n\r\n") < len(bodies) or not received.endswith(bodies[-1]):
                received += sock.recv(65536)
            assert [answer.body for answer in parse_answers(received)] == bodies


@contextlib.contextmanager
def backend_that_echoes() -> Iterator[str]:
    def play(sock: Any, _number: int) -> None:
        while head := head_of(sock):
            body = head.partition(b"\r\n\r\n")[2]
            while len(body) < 4:
                body += sock.recv(4 - len(body))
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n" + body)

    with backend(play) as url:
        yield url
