"""Attacks on the way from HTTP/2 to HTTP/1.1, as they were published, through a whole edge to a backend that reads by the letter.

Whatever a client sends on one stream, the backend hears of one request at most, and nothing of it is another one. Sources: James
Kettle, "HTTP/2: The Sequel is Always Worse" (2021; K) and "HTTP/1.1 must die" (2025; D); the CVEs of other balancers.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.house import Served, running
from tests.http2.client import END, END_HEADERS, GET, POST, Fields, client, data, having, headers, open_headers, plus
from tests.live.wire import CutOffError, Request, Stream, WireError, read_request
from tests.peers import backend

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: evil\r\nX: "
RST = "RST PROTOCOL_ERROR"
CHUNKED_END = b"0\r\n\r\n"


class Recorder:
    """A backend that answers each request with the request itself. requests: those that came; wrong: what was none; cut: how
    many ended in their middle, with their connection.
    """

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.wrong: list[str] = []
        self.cut = 0

    def __call__(self, sock: Any, _number: int) -> None:
        stream = Stream(sock)
        try:
            while (request := read_request(stream)) is not None:
                if stream.buffer:
                    self.wrong.append(f"more behind a request: {bytes(stream.buffer)!r}")
                self.requests.append(request)
                sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(request.raw), request.raw))
        except CutOffError:
            self.cut += 1
        except WireError as error:
            self.wrong.append(f"{error} in {stream.raw()!r}")


@dataclass(frozen=True)
class Attack:
    """fields, body, trailers: what a stream says. comes: its end, as in house.Case; `either` is 400 or the stream's end.

    sees: what the backend's one request must hold; never: what must not be in it.
    """

    source: str
    what: str
    fields: Fields
    body: bytes | None = None
    trailers: Fields | None = None
    comes: str = RST
    sees: tuple[bytes, ...] = ()
    never: tuple[bytes, ...] = ()

    def __str__(self) -> str:
        return f"{self.source}: {self.what}"

    def frames(self, stream: int) -> list[bytes]:
        """All at once, so that nothing is lost when the stream is ended early."""
        if self.body is None and self.trailers is None:
            return [headers(stream, self.fields)]
        frames = [open_headers(stream, self.fields)]
        if self.body is not None:
            frames.append(data(stream, self.body, end=self.trailers is None))
        if self.trailers is not None:
            frames.append(headers(stream, self.trailers, END | END_HEADERS))
        return frames


def get(source: str, what: str, *more: tuple[bytes, bytes], comes: str = RST, **changes: Any) -> Attack:
    """A GET with other pseudo-header fields, and more fields behind them."""
    kept = {name: changes.pop(name) for name in ("sees", "never", "body", "trailers") if name in changes}
    return Attack(source, what, plus(*more, of=having(GET, **changes)), comes=comes, **kept)


def post(
    source: str, what: str, *more: tuple[bytes, bytes], body: bytes | None = SMUGGLED, comes: str = RST, **rest: Any
) -> Attack:
    """A POST with more fields."""
    return Attack(source, what, plus(*more, of=POST), body=body, comes=comes, **rest)


TE = (b"transfer-encoding", b"chunked")
AS_CHUNKS = b"\r\nTransfer-Encoding: chunked\r\n"
INJECTED = b"b\r\nTransfer-Encoding: chunked"

ATTACKS = [
    # A length that is not the body's
    post("K H2.CL, CVE-2021-21295 netty, CVE-2021-36740 varnish", "no length before a body", (b"content-length", b"0")),
    post("K H2.CL", "a length that is too small", (b"content-length", b"4")),
    post("K H2.CL", "a length that is too large: the next request would be the rest", (b"content-length", b"1000")),
    get("K H2.CL", "a length and no body", (b"content-length", b"30")),
    post("CVE-2023-40225 haproxy", "a length of nothing", (b"content-length", b"")),
    post("CVE-2023-40225 haproxy", "a list that begins with nothing", (b"content-length", b",5")),
    post("RFC 9112 6.3", "two lengths", (b"content-length", b"42"), (b"content-length", b"0")),
    post("RFC 9112 6.3", "two lengths in one", (b"content-length", b"42, 0")),
    post("RFC 9110 8.6", "a length with a sign", (b"content-length", b"+42")),
    post("RFC 9110 8.6", "a length in other digits", (b"content-length", b"0x2a")),
    post("RFC 9110 8.6", "a length with a space", (b"content-length", b"4 2")),
    post("D 0.CL", "a length under a name that some fold", (b"content_length", b"0"),
         comes="200", never=(b"content_length",), sees=(AS_CHUNKS,)),
    post("D, CVE-2019-16869 netty", "a name that ends with a space", (b"content-length ", b"0")),
    post("K", "a name that ends with a tab", (b"content-length\t", b"0")),
    get("D CL.0", "a body with a method that has none", body=SMUGGLED, comes="200", sees=(AS_CHUNKS,)),
    # A coding of HTTP/1.1
    post("K H2.TE", "chunked", TE, body=CHUNKED_END + SMUGGLED),
    post("K H2.TE", "chunked beside a length", TE, (b"content-length", b"5"), body=CHUNKED_END),
    post("K H2.TE", "a coding that is none", (b"transfer-encoding", b"xchunked")),
    post("K H2.TE", "identity", (b"transfer-encoding", b"identity")),
    post("K H2.TE", "in upper case", (b"Transfer-Encoding", b"chunked")),
    post("K H2.TE", "a name with a space behind it", (b"transfer-encoding ", b"chunked")),
    post("K H2.TE", "a name with a vertical tab", (b"transfer-encoding\x0b", b"chunked")),
    post("K H2.TE", "a value with a vertical tab", (b"transfer-encoding", b"\x0bchunked")),
    post("K H2.TE", "a name that some fold", (b"transfer_encoding", b"chunked"), comes="200", never=(b"transfer_encoding",)),
    post("K H2.TE", "in trailers", body=b"x", trailers=(TE,)),
    post("RFC 9110 6.5.1", "a length in trailers", body=b"x", trailers=((b"content-length", b"99887766554433"),),
         comes="200", never=(b"99887766554433",)),
    post("RFC 9110 6.5.1", "a host in trailers", body=b"x", trailers=((b"host", b"evil"),), comes="200", never=(b"evil",)),
    post("K H2.TE", "a line break in trailers", body=b"x", trailers=((b"x", b"y\r\n\r\n" + SMUGGLED),)),
    post("K", "a path in trailers", body=b"x", trailers=((b":path", b"/smuggled"),)),
    # Line breaks, wherever they can be
    get("K H2.X", "in a value", (b"foo", INJECTED)),
    get("K H2.X", "a whole request in a value", (b"foo", b"b\r\n\r\n" + SMUGGLED)),
    get("K H2.X", "LF alone in a value", (b"foo", b"b\nTransfer-Encoding: chunked")),
    get("K H2.X", "CR alone in a value", (b"foo", b"b\rTransfer-Encoding: chunked")),
    get("RFC 9112 5.2", "a folded value", (b"foo", b"a\r\n b")),
    get("K H2.X", "in a name", (b"foo: b\r\ntransfer-encoding", b"chunked")),
    get("K H2.X", "LF alone in a name", (b"foo\ntransfer-encoding", b"chunked")),
    get("K H2.X, CVE-2022-45060 varnish", "in the path", path=b"/ HTTP/1.1\r\nTransfer-Encoding: chunked\r\nX: "),
    get("K H2.X", "in the method", method=b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nX: x"),
    get("K H2.X", "in the scheme", scheme=b"http\r\nTransfer-Encoding: chunked"),
    get("K H2.X", "in the authority", authority=b"h\r\nTransfer-Encoding: chunked", comes="400"),
    get("K H2.X", "in Host", (b"host", b"h\r\nTransfer-Encoding: chunked"), authority=None),
    get("K H2.X", "in a cookie", (b"cookie", b"a=b\r\nX: y")),
    get("CVE-2019-9900 envoy", "NUL in a value", (b"foo", b"a\x00b")),
    get("CVE-2019-9900 envoy", "NUL in the path", path=b"/\x00smuggled"),
    # Names that are more than a name
    get("K", "a colon in a name", (b"transfer-encoding:chunked", b"x")),
    get("K", "a host and a port for a name", (b"host:443", b"h")),
    get("CVE-2023-25725 haproxy", "no name", (b"", b"x")),
    get("CVE-2019-18801 envoy", "a space in a name", (b"foo bar", b"x")),
    # The request line
    get("K, CVE-2021-33193 httpd", "a method that is a request line", method=b"GET /smuggled HTTP/1.1"),
    get("CVE-2021-39241 haproxy", "a space in the method", method=b"GET http://localhost/? HTTP/1.1"),
    get("CVE-2023-25690 httpd", "a space in the path", path=b"/ HTTP/1.1"),
    get("K", "a tab in the path", path=b"/\tHTTP/1.1"),
    get("K", "a path that is a host", path=b"@evil/"),
    get("CVE-2021-39240 haproxy", "a scheme that is an URL", scheme=b"http://evil/"),
    get("K", "a scheme that is a path", scheme=b"https://evil/x?"),
    get("K", "a path that is an URL", path=b"http://evil/"),
    get("K", "a path of two slashes stays a path", path=b"//evil/", comes="200", sees=(b"GET //evil/ HTTP/1.1\r\nHost: h\r\n",)),
    get("K", "a fragment", path=b"/#/smuggled"),
    get("K", "two paths", (b":path", b"/smuggled")),
    get("K", "two methods", (b":method", b"POST")),
    get("K", "two schemes", (b":scheme", b"https")),
    get("K", "two authorities", (b":authority", b"evil")),
    get("K", "a path behind the fields", (b"x", b"y"), (b":path", b"/smuggled")),
    # Who is asked
    get("K, CVE-2021-39242 haproxy", "Host that is not the authority", (b"host", b"evil")),
    get("K", "two Hosts", (b"host", b"h"), (b"host", b"evil"), authority=None),
    get("K", "Host twice, the same", (b"host", b"h"), (b"host", b"h"), comes="200", sees=(b"GET / HTTP/1.1\r\nHost: h\r\n",)),
    get("K", "an authority with a user", authority=b"h@evil", comes="400"),
    get("K", "an authority with a path", authority=b"h/evil", comes="400"),
    get("K", "no authority", authority=None, comes="400"),
    # Fields of a connection
    get("CVE-2024-45410 traefik", "fields that Connection has removed", (b"connection", b"x-forwarded-for")),
    get("K", "Connection that removes Host", (b"connection", b"host")),
    get("RFC 9113 8.2.2", "Proxy-Connection", (b"proxy-connection", b"keep-alive")),
    get("h2c smuggling, J. Miller 2020", "an upgrade", (b"upgrade", b"h2c"), (b"http2-settings", b"AAMAAABkAARAAAAA")),
    get("K", "TE with more than trailers", (b"te", b"trailers, chunked")),
    get("CVE-2020-25097", "TE and trailers are told to the backend as it has to be", (b"te", b"trailers"), comes="200",
        sees=(b"\r\nTE: trailers\r\nConnection: TE\r\n",)),
    # Expect
    post("D", "Expect goes on in our own words", (b"expect", b"100-Continue"),
         comes="200", sees=(b"\r\nExpect: 100-continue\r\n",)),
    post("D", "Expect that is something else", (b"expect", b"y 100-continue"), comes="200", never=(b"xpect",)),
    # Tunnels
    get("RFC 9113 8.5", "CONNECT", method=b"CONNECT", scheme=None, path=None, authority=b"evil:80", comes="501"),
    get("RFC 8441", "CONNECT with a path and no protocol", method=b"CONNECT"),
    get("RFC 8441", "a protocol and no CONNECT", (b":protocol", b"websocket")),
    # What is no attack
    post("K", "a request in a body is a body", (b"content-length", b"%d" % len(SMUGGLED)),
         comes="200", sees=(b"\r\n\r\n" + SMUGGLED,)),
    post("K", "a request in a body without a length is one, too", comes="200", sees=(AS_CHUNKS, SMUGGLED)),
    post("K", "the end of a chunked body in a body is in it", body=CHUNKED_END + SMUGGLED, comes="200",
         sees=(CHUNKED_END + SMUGGLED,)),
]  # fmt: skip


@pytest.fixture(scope="module")
def behind() -> Iterator[tuple[Served, Recorder]]:
    recorder = Recorder()
    with backend(recorder) as url, running(url, h2c=True) as edge:
        yield edge, recorder


@pytest.mark.parametrize("attack", ATTACKS, ids=str)
def test_no_backend_hears_of_more_than_one_request_a_stream(behind: tuple[Served, Recorder], attack: Attack) -> None:
    edge, recorder = behind
    before, wrong = len(recorder.requests), len(recorder.wrong)
    with client(edge.server.server_port) as one:
        for stream in (1, 3):  # twice: what is left of the first would come before the second
            one.send(*attack.frames(stream))
            got = one.answer(stream)
            kind, _, code = attack.comes.partition(" ")
            if kind == "RST":
                assert (got.reset, got.status) == (code, 0), one
            else:
                assert (str(got.status), got.ended) == (kind, True), one
        canary = one.ask(5, having(GET, path=b"/canary"))
        assert canary.body.startswith(b"GET /canary HTTP/1.1\r\n"), "the answer to another request"
        assert not one.goaways
    came = recorder.requests[before:]
    assert recorder.wrong[wrong:] == []
    if attack.comes == "200":
        assert len(came) == 3
    else:  # the head of one that is ended in its body may have gone on, with the length that it had
        assert len(came) == 1 or (len(came) <= 3 and attack.body is not None and not any(one.body for one in came))
    for request in came[:-1]:
        assert request.method == dict(attack.fields)[b":method"]
        assert len(request.all(b"host")) == 1
        for wanted in attack.sees:
            assert wanted in request.raw
        for unwanted in attack.never:
            assert unwanted not in request.raw
    with contextlib.suppress(IndexError):
        assert b"smuggled" not in came[-1].raw
