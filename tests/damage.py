"""Bytes as they should not be, and what they mean all the same: for tests that send anything at all."""

from __future__ import annotations

import contextlib
import re

from tests.live.wire import Answer, Request, Stream, WireError, read_answer, read_request

ODDITIES = [
    # Bytes that end, separate or have no place at all.
    b"", b"\r", b"\n", b"\r\n", b"\r\n\r\n", b"\n\n", b"\r\r\n", b"\n\r\n", b"\r\n ", b"\r\n\t", b" \r\n", b" ", b"\t", b"  ",
    b":", b",", b";", b"#", b"/", b"_", b"\0", b"\x01", b"\x0b", b"\x7f", b"\x80", b"\xff", b"\x1f\x8b", b"x" * 450, b"x" * 2100,
    # Numbers that are none, or too large.
    b"0", b"-1", b"+1", b"0x1", b"1_0", b"18446744073709551615", b"99999999999999999999",
    # Fields that decide where a message ends and where it goes.
    b"\r\nContent-Length: 3", b"\r\nContent-Length: 5\r\n", b"\r\nTransfer-Encoding: chunked", b"\r\nTransfer-Encoding: gzip",
    b"\r\nTransfer-Encoding : chunked", b"chunked", b"\r\nHost: evil", b"\r\nConnection: close",
    b"\r\nConnection: host, content-length",
    # Messages inside messages.
    b"0\r\n\r\n", b"HTTP/1.0", b"HTTP/1.1 ", b"GET /smuggled HTTP/1.1\r\nHost: evil\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nstray",
]  # fmt: skip

KINDS = ["put", "put", "put", "flip", "drop", "double", "line twice", "no line", "bare", "cut"]


def damaged(data: bytes, damages: list[tuple[str, int, int, bytes]]) -> bytes:
    """Do to the bytes what is listed: one of KINDS, place, size and oddity each."""
    for kind, place, size, oddity in damages:
        at = place % (len(data) + 1)
        line = data.rfind(b"\r\n", 0, at) + 2 if b"\r\n" in data[:at] else 0
        line_end = data.find(b"\r\n", at) + 2 if b"\r\n" in data[at:] else len(data)
        if kind == "put":
            data = data[:at] + oddity + data[at + size % 3 :]
        elif kind == "flip" and at < len(data):
            data = data[:at] + bytes([data[at] ^ (1 << size % 8)]) + data[at + 1 :]
        elif kind == "drop":
            data = data[:at] + data[at + size :]
        elif kind == "double":
            data = data[: at + size] + data[at:]
        elif kind == "line twice":
            data = data[:line_end] + data[line:]
        elif kind == "no line":
            data = data[:line] + data[line_end:]
        elif kind == "bare":
            data = data[:at] + data[at:].replace(b"\r\n", [b"\n", b"\r"][size % 2], 1)
        elif kind == "cut":
            data = data[:at]
    return data


def any_case(data: bytes) -> bytes:
    """The strict reader knows `chunked` in small letters only; the name of a coding has any case (RFC 9112 section 7)."""
    return re.sub(rb"(?i)(\ntransfer-encoding:[ \t]*)chunked", rb"\1chunked", data)


def reference(data: bytes) -> list[Request]:
    """The whole requests in these bytes, up to the first that is none."""
    stream = Stream(None, any_case(data))
    found: list[Request] = []
    with contextlib.suppress(WireError, ValueError):
        while True:
            while stream.buffer.startswith(b"\r\n"):
                stream.take(2)
            request = read_request(stream)
            if request is None:
                break
            found.append(request)
    return found


def answers_in(received: bytes, asked: list[Request]) -> list[Answer]:
    """The answers to these requests; the last one may be to something that is none. Raises WireError when they are not HTTP."""
    methods = [request.method for request in asked]
    for whole in range(len(methods), -1, -1):
        for last in (b"GET", b"HEAD"):
            with contextlib.suppress(WireError):
                stream, answers = Stream(None, received), []
                while stream.buffer:
                    answers.append(read_answer(stream, methods[len(answers)] if len(answers) < whole else last))
                return answers
    raise WireError(f"these are no answers to {methods}: {received!r}")
