"""Requests that are refused, and what the answer to one looks like."""

from __future__ import annotations

import json

from tests.live.edges import LiveEdge
from tests.live.peers import parse_answers

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


def assert_refused(edge: LiveEdge, raw: bytes, status: int = 400) -> None:
    """The one answer is a problem document with this status, and then the connection ends."""
    received = edge.raw(raw)
    (answer,) = parse_answers(received, b"GET")
    assert answer.status == status
    assert answer.get(b"connection") == b"close"
    assert answer.get(b"content-type") == b"application/problem+json"
    problem = json.loads(answer.body)
    assert problem["status"] == status
    assert edge.log(request_id=problem["request_id"])["status"] == status
