"""The wire itself, by RFC 9112: what is not HTTP is refused and never forwarded, limits hold, order is kept."""

from __future__ import annotations

import re
import threading

import pytest

from tests.live.edges import LiveEdge, request
from tests.live.peers import Call, Script, answers, echo, message, serves
from tests.live.processes import wait_until
from tests.live.refusals import assert_refused
from tests.live.wire import Stream, read_request

HOST = b"Host: edge.test\r\n"
POST = b"POST / HTTP/1.1\r\n" + HOST
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
NEXT = b"GET /smuggled HTTP/1.1\r\nHost: evil\r\n\r\n"

REFUSED: dict[str, bytes] = {
    "length and chunked": POST + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + NEXT,
    "chunked and length": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n" + NEXT,
    "two lengths": POST + b"Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcde" + NEXT,
    "the same length twice": POST + b"Content-Length: 4\r\nContent-Length: 4\r\n\r\nabcd" + NEXT,
    "a list of lengths": POST + b"Content-Length: 4, 4\r\n\r\nabcd" + NEXT,
    "a length with a plus": POST + b"Content-Length: +4\r\n\r\nabcd" + NEXT,
    "a negative length": POST + b"Content-Length: -4\r\n\r\nabcd" + NEXT,
    "a hexadecimal length": POST + b"Content-Length: 0x4\r\n\r\nabcd" + NEXT,
    "an empty length": POST + b"Content-Length: \r\n\r\nabcd" + NEXT,
    "a length with a space": POST + b"Content-Length: 4 4\r\n\r\nabcd" + NEXT,
    "a length with an underscore": POST + b"Content-Length: 1_0\r\n\r\nabcdefghij" + NEXT,
    "a length beyond 64 bits": POST + b"Content-Length: 18446744073709551620\r\n\r\nabcd" + NEXT,
    "chunked twice": POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n" + NEXT,
    "chunked not last": POST + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n" + NEXT,
    "identity": POST + b"Transfer-Encoding: identity\r\nContent-Length: 4\r\n\r\nabcd" + NEXT,
    "quoted chunked": POST + b'Transfer-Encoding: "chunked"\r\n\r\n0\r\n\r\n' + NEXT,
    "chunked with a tab inside": POST + b"Transfer-Encoding: chun\tked\r\n\r\n0\r\n\r\n" + NEXT,
    "chunked with a vertical tab": POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n" + NEXT,
    "an empty coding": POST + b"Transfer-Encoding: \r\n\r\n" + NEXT,
    "chunked in HTTP/1.0": b"POST / HTTP/1.0\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + NEXT,
    "space before the colon": b"GET / HTTP/1.1\r\nHost : edge.test\r\n\r\n",
    "space before the colon of a length": POST + b"Content-Length : 4\r\n\r\nabcd" + NEXT,
    "tab before the colon": b"GET / HTTP/1.1\r\n" + HOST + b"X\t: 1\r\n\r\n",
    "obs-fold": b"GET / HTTP/1.1\r\n" + HOST + b"X: a\r\n b\r\n\r\n",
    "obs-fold of a coding": POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n" + NEXT,
    "space before the first field": b"GET / HTTP/1.1\r\n " + HOST + b"\r\n",
    "bare LF": b"GET / HTTP/1.1\nHost: edge.test\n\n",
    "one bare LF": b"GET / HTTP/1.1\r\nX: 1\n" + HOST + b"\r\n",
    "bare LF at the end": b"GET / HTTP/1.1\r\n" + HOST + b"\n",
    "bare CR": b"GET / HTTP/1.1\r\nX: a\rb\r\n" + HOST + b"\r\n",
    "bare CR as a line end": b"GET / HTTP/1.1\rX: a\r\n" + HOST + b"\r\n",
    "NUL in a value": b"GET / HTTP/1.1\r\nX: a\0b\r\n" + HOST + b"\r\n",
    "NUL in a name": b"GET / HTTP/1.1\r\nX\0: a\r\n" + HOST + b"\r\n",
    "a control byte in a value": b"GET / HTTP/1.1\r\nX: a\x01b\r\n" + HOST + b"\r\n",
    "DEL in a value": b"GET / HTTP/1.1\r\nX: a\x7fb\r\n" + HOST + b"\r\n",
    "a name that is no token": b"GET / HTTP/1.1\r\nX(: a\r\n" + HOST + b"\r\n",
    "an empty name": b"GET / HTTP/1.1\r\n: a\r\n" + HOST + b"\r\n",
    "a line without a colon": b"GET / HTTP/1.1\r\nnonsense\r\n" + HOST + b"\r\n",
    "no Host": b"GET / HTTP/1.1\r\n\r\n",
    "two Hosts": b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "the same Host twice": b"GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n",
    "a Host with a path": b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
    "a Host with userinfo": b"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n",
    "a list of Hosts": b"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n",
    "a Host with a space": b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
    "a port that is none": b"GET / HTTP/1.1\r\nHost: a:http\r\n\r\n",
    "no version": b"GET /\r\n" + HOST + b"\r\n",
    "HTTP/0.9": b"GET / HTTP/0.9\r\n" + HOST + b"\r\n",
    "HTTP/2.0": b"GET / HTTP/2.0\r\n" + HOST + b"\r\n",
    "HTTP/11": b"GET / HTTP/11\r\n" + HOST + b"\r\n",
    "http in small letters": b"GET / http/1.1\r\n" + HOST + b"\r\n",
    "two spaces": b"GET  / HTTP/1.1\r\n" + HOST + b"\r\n",
    "two spaces before the version": b"GET /  HTTP/1.1\r\n" + HOST + b"\r\n",
    "a tab for a space": b"GET\t/\tHTTP/1.1\r\n" + HOST + b"\r\n",
    "a space in the target": b"GET /a b HTTP/1.1\r\n" + HOST + b"\r\n",
    "a space at the start": b" GET / HTTP/1.1\r\n" + HOST + b"\r\n",
    "a space at the end of the line": b"GET / HTTP/1.1 \r\n" + HOST + b"\r\n",
    "a control byte in the target": b"GET /a\x01 HTTP/1.1\r\n" + HOST + b"\r\n",
    "a fragment": b"GET /a#b HTTP/1.1\r\n" + HOST + b"\r\n",
    "a target without a slash": b"GET a/b HTTP/1.1\r\n" + HOST + b"\r\n",
    "a target of another scheme": b"GET ftp://a/ HTTP/1.1\r\n" + HOST + b"\r\n",
    "an absolute target without a host": b"GET http:///a HTTP/1.1\r\n" + HOST + b"\r\n",
    "an absolute target with userinfo": b"GET http://u:p@a/ HTTP/1.1\r\n" + HOST + b"\r\n",
    "a star that is not for OPTIONS": b"GET * HTTP/1.1\r\n" + HOST + b"\r\n",
    "a method that is no token": b"GE(T / HTTP/1.1\r\n" + HOST + b"\r\n",
    "an empty method": b" / HTTP/1.1\r\n" + HOST + b"\r\n",
    "an HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "garbage": b"\xff\xfe\xfd\r\n\r\n",
}

UNKNOWN: dict[str, bytes] = {
    "gzip, chunked": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n" + NEXT,
    "gzip then chunked": POST + b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + NEXT,
    "identity alone": POST + b"Transfer-Encoding: identity\r\n\r\n" + NEXT,
    "xchunked": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + NEXT,
    "a coding of one's own": POST + b"Transfer-Encoding: own;a=b, chunked\r\n\r\n0\r\n\r\n" + NEXT,
}
"""Transfer codings that are none of ours: 501 (RFC 9112 section 6.1)."""

BAD_CHUNKS: dict[str, bytes] = {
    "no hexadecimal": b"zz\r\nabc\r\n0\r\n\r\n",
    "0x": b"0x3\r\nabc\r\n0\r\n\r\n",
    "a sign": b"+3\r\nabc\r\n0\r\n\r\n",
    "a minus": b"-1\r\nabc\r\n0\r\n\r\n",
    "an underscore": b"1_0\r\nabcdefghijklmnop\r\n0\r\n\r\n",
    "a space before": b" 3\r\nabc\r\n0\r\n\r\n",
    "empty": b"\r\nabc\r\n0\r\n\r\n",
    "bare LF": b"3\nabc\n0\n\n",
    "bare LF behind the data": b"3\r\nabc\n0\r\n\r\n",
    "bare CR": b"3\rabc\r\n0\r\n\r\n",
    "data that is too long": b"3\r\nabcd\r\n0\r\n\r\n",
    "data that is too short": b"3\r\nab\r\n0\r\n\r\n",
    "a size beyond 64 bits": b"fffffffffffffffff\r\nabc\r\n0\r\n\r\n",
    "a size that wraps": b"10000000000000003\r\nabc\r\n0\r\n\r\n",
    "an extension with a bare LF": b"3;a\nb\r\nabc\r\n0\r\n\r\n",
    "an endless extension": b"3;" + b"x" * 100_000 + b"\r\nabc\r\n0\r\n\r\n",
    "extensions without end": b"1;" + b"x" * 1000 + b"\r\na\r\n" + (b"1;" + b"x" * 1000 + b"\r\na\r\n") * 200,
    "endless trailers": b"0\r\n" + b"X: y\r\n" * 100_000,
    "a trailer that is folded": b"0\r\nX: a\r\n b\r\n\r\n",
    "a NUL in a trailer": b"0\r\nX: \0\r\n\r\n",
}


@pytest.fixture(scope="module")
def backend() -> object:
    """One backend for many requests that must not reach it."""
    with Script(answers()) as script:
        yield script


@pytest.mark.parametrize("raw", REFUSED.values(), ids=REFUSED.keys())
def test_what_is_not_http_is_refused_with_400_and_never_forwarded(exact: LiveEdge, backend: Script, raw: bytes) -> None:
    exact.configure(backend)
    before = len(backend.requests)
    assert_refused(exact, raw)
    assert len(backend.requests) == before


@pytest.mark.parametrize("raw", UNKNOWN.values(), ids=UNKNOWN.keys())
def test_an_unknown_transfer_coding_is_refused_with_501_and_never_forwarded(exact: LiveEdge, backend: Script, raw: bytes) -> None:
    exact.configure(backend)
    before = len(backend.requests)
    assert_refused(exact, raw, 501)
    assert len(backend.requests) == before


@pytest.mark.parametrize("raw", BAD_CHUNKS.values(), ids=BAD_CHUNKS.keys())
def test_a_chunked_body_that_is_none_is_refused_with_all_behind_it(exact: LiveEdge, backend: Script, raw: bytes) -> None:
    exact.configure(backend)
    before = len(backend.requests)
    received = exact.raw(CHUNKED + raw + NEXT)
    assert re.match(rb"HTTP/1\.1 (400|413|431) ", received)
    assert received.count(b"HTTP/1.1 ") == 1
    assert not any(b"smuggled" in seen for seen in backend.requests[before:])
    assert len(backend.requests) == before


@pytest.mark.parametrize("piece", [1, 2, 3, 7])
def test_a_request_may_arrive_in_pieces(exact: LiveEdge, piece: int) -> None:
    raw = CHUNKED + b"5;e=1\r\nhello\r\n6\r\n world\r\n0\r\nT: 1\r\n\r\n"
    with Script(serves(lambda _call, seen: message(body=seen.body))) as backend, exact.client() as client:
        exact.configure(backend)
        for start in range(0, len(raw), piece):
            client.send(raw[start : start + piece])
        assert client.answer().body == b"hello world"


def test_pipelined_requests_are_answered_in_order(exact: LiveEdge) -> None:
    with Script(echo()) as backend, exact.client() as client:
        exact.configure(backend)
        client.send(
            b"".join(request(b"/%d" % i, b"POST", body=b"body %d" % i) if i % 2 else request(b"/%d" % i) for i in range(20))
        )
        for i in range(20):
            assert client.answer().body.startswith((b"POST" if i % 2 else b"GET") + b" /%d " % i)


def test_what_follows_a_chunked_body_is_the_next_request(exact: LiveEdge) -> None:
    with Script(echo()) as backend, exact.client() as client:
        exact.configure(backend)
        client.send((CHUNKED + b"3\r\n\r\n\r\r\n0\r\nX: y\r\n\r\n") * 3 + request(b"/last"))
        for _ in range(3):
            assert client.answer().status == 200
        assert b"GET /last " in client.answer().body


def test_nothing_of_a_request_sticks_to_the_next_one_on_its_connection(exact: LiveEdge) -> None:
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
    with Script(answers()) as backend, exact.client() as client:
        exact.configure(backend)
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


def test_empty_lines_before_a_request_are_ignored(exact: LiveEdge) -> None:
    with Script(answers()) as backend, exact.client() as client:
        exact.configure(backend)
        client.send(b"\r\n\r\n" + request() + b"\r\n" + request())
        assert [client.answer().status for _ in range(2)] == [200, 200]


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


def test_http_1_0_needs_no_host(exact: LiveEdge) -> None:
    with Script(answers()) as backend:
        exact.configure(backend)
        assert exact.raw(b"GET / HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 200 ")
        assert f"\r\nHost: 127.0.0.1:{backend.port}\r\n".encode() in backend.requests[-1]
        assert b"\r\nVia: 1.0 smartedge (" in backend.requests[-1]


def test_connect_is_refused(exact: LiveEdge, backend: Script) -> None:
    exact.configure(backend)
    before = len(backend.requests)
    assert_refused(exact, b"CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n", 501)
    assert len(backend.requests) == before


def test_a_small_answer_goes_out_in_one_write_and_without_delay(own: LiveEdge) -> None:
    """With Nagle's algorithm on, a keep-alive answer in two writes takes 44 ms."""
    with Script(answers()) as backend, own.client() as client:
        own.configure(backend)
        client.send(request())
        whole = client.sock.recv(65536)
        assert whole.endswith(b"\r\n\r\nhello\n")


def test_answers_that_are_late_do_not_hold_up_other_clients(exact: LiveEdge) -> None:
    go_on = threading.Event()

    def act(call: Call) -> None:
        while seen := call.request():
            if seen.target == b"/late":
                go_on.wait(5)
            call.send(message(body=seen.target))

    with Script(act) as backend, exact.client() as late:
        exact.configure(backend)
        late.send(request(b"/late"))
        wait_until(lambda: backend.requests, 5, "the late request")
        assert exact.ask(b"/quick").body == b"/quick"
        go_on.set()
        assert late.answer().body == b"/late"
