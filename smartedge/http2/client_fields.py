"""Heads where we are the client: requests of HTTP/1.1 as HTTP/2 has them, and answers the other way round (RFC 9113 section 8).

An answer is checked as one of HTTP/1.1 would be: what it cannot carry would be another answer to a client.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from smartedge.http2.fields import OF_CONNECTION, check_lines, encode_lines
from smartedge.http2.frames import PROTOCOL_ERROR, StreamError, encode_field
from smartedge.http2.stream import Pairs

_STATUS = re.compile(rb"[1-9][0-9]{2}")
_DIGITS = re.compile(rb"[0-9]{1,18}")
_HOST = re.compile(rb"^host:[ \t]*([^\r\n]*)\r\n", re.IGNORECASE | re.MULTILINE)

NO_BODY: Final = frozenset((204, 304))
"""Answers that have none, whatever their fields say (RFC 9110 section 6.4.1)."""


def encode_request(head: bytes, scheme: bytes) -> bytes:
    """Encode a request's head as HTTP/1.1 has it, with its empty line; what is of a connection is left out.

    Of TE goes on what `http.headers` has left of it, `trailers`.
    """
    line, _, block = head.partition(b"\r\n")
    method, target, _ = line.split(b" ", 2)
    host = _HOST.search(block)
    authority = b""
    if host is not None:
        authority = host[1].strip(b" \t")
        block = block[: host.start()] + block[host.end() :]
    return b"".join(
        (
            encode_field(b":method", method),
            encode_field(b":scheme", scheme),
            encode_field(b":authority", authority),
            encode_field(b":path", target),
            encode_lines(block),
        )
    )


@dataclass(frozen=True, slots=True)
class AnswerHead:
    """An answer's head as HTTP/1.1 would have it. block: `name: value CRLF` each. length: of the body, None for unsaid."""

    status: int
    block: bytes
    length: int | None


def answer_head(pairs: Pairs, head_bytes: int) -> AnswerHead:
    """Make an answer's head of the fields that came; raises StreamError for what is none (RFC 9113 section 8.1.1)."""
    if not pairs or pairs[0][0] != b":status" or not _STATUS.fullmatch(pairs[0][1]):
        raise _malformed("it does not begin with a :status of three digits")
    status, rest = int(pairs[0][1]), pairs[1:]
    if status == 101:
        raise _malformed("HTTP/2 has no status 101")
    _check_lines(rest)
    length, lines = None, []
    for name, value in rest:
        if name in OF_CONNECTION or name == b"te":
            raise _malformed(f"{name.decode('latin-1')} is of HTTP/1.1's connections")
        if name == b"content-length":
            if not _DIGITS.fullmatch(value) or length not in (None, int(value)):
                raise _malformed("content-length is not one number")
            if length is not None:
                continue
            length = int(value)
        lines.append(b"%b: %b\r\n" % (name, value))
    block = b"".join(lines)
    if len(block) > head_bytes:
        raise StreamError(PROTOCOL_ERROR, f"the answer's head is longer than {head_bytes} bytes")
    return AnswerHead(status, block, length)


def _check_lines(pairs: Pairs) -> None:
    try:
        check_lines(pairs)
    except StreamError as error:
        raise StreamError(error.code, str(error).replace("request", "answer", 1)) from None


def _malformed(why: str) -> StreamError:
    return StreamError(PROTOCOL_ERROR, f"malformed answer: {why}")
