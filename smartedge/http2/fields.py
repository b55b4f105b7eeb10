"""Heads of HTTP/2 and those of HTTP/1.1, one as the other (RFC 9113 section 8): checked, so that nothing is smuggled.

Past this file a request is what one of HTTP/1.1 is, so whatever HTTP/1.1 could not carry is refused here: what broke out of a
field or a request line would be another request to a backend.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from secrets import token_bytes
from typing import Final

from smartedge.balancer.errors import ClientError, HeadersTooLarge, MethodRefused, TargetTooLong
from smartedge.http.headers import HOST, RequestFields, kept_trailers
from smartedge.http.memory import remember
from smartedge.http.request import check_fields
from smartedge.http2.frames import PROTOCOL_ERROR, StreamError, encode_field
from smartedge.http2.stream import Pairs

_NAMES = re.compile(rb"(?:[!#$%&'*+.^_`|~0-9a-z-]+\n)*")
"""Lower-case tokens: no colon, no space, no capital (RFC 9113 section 8.2.1)."""

_VALUE = rb"(?:[!-~\x80-\xff](?:[\t -~\x80-\xff]*[!-~\x80-\xff])?)?"
_VALUES = re.compile(rb"(?:%b\n)*" % _VALUE)
_METHOD = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}")
_PATH = re.compile(rb"/[!-\"$-~\x80-\xff]*")
_DIGITS = re.compile(rb"[0-9]{1,18}")

OF_CONNECTION: Final = frozenset((b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"))
"""What says something of an HTTP/1.1 connection, and has no meaning here (RFC 9113 section 8.2.2)."""

_PSEUDO = {b":method": 0, b":scheme": 1, b":authority": 2, b":path": 3, b":protocol": 4}


@dataclass(frozen=True, slots=True)
class RequestHead:
    """A request's head as HTTP/1.1 would have it. protocol: what an extended CONNECT asks for (RFC 8441 section 4), of
    which HTTP/1.1 has a GET with Upgrade (RFC 6455 section 4.1); None for others.

    block: the fields as they came, Host first. fields: what they say. length: of the body, as the client says, None where it
    does not.
    """

    method: bytes
    target: bytes
    block: bytes
    fields: RequestFields
    length: int | None
    protocol: bytes | None


def _malformed(why: str) -> StreamError:
    return StreamError(PROTOCOL_ERROR, f"malformed request: {why}")


def request_head(pairs: Pairs, target_bytes: int, head_bytes: int, headers: int) -> RequestHead:
    """Make a request's head of what a stream began with.

    Raises StreamError for what is no request, and ClientError (400, 414, 431, 501) for one that is refused.
    """
    pseudo, rest = _split(pairs)
    check_lines(rest)
    method, path, host, protocol = _request_line(pseudo, target_bytes)
    cookies, length, lines = [], None, []
    for name, value in rest:
        if name == b"host":
            if host is not None and host.lower() != value.lower():
                raise _malformed("Host and :authority differ")
            host = value
        elif name == b"cookie":
            cookies.append(value)
        elif name == b"sec-websocket-key" and protocol is not None:
            pass  # of HTTP/1.1, where this is the edge's own
        elif name in OF_CONNECTION or (name == b"te" and value.lower() != b"trailers"):
            raise _malformed(f"{name.decode('latin-1')} is of HTTP/1.1's connections")
        elif name == b"content-length":
            if not _DIGITS.fullmatch(value) or length not in (None, int(value)):
                raise _malformed("content-length is not one number")
            if length is None:
                lines.append(b"%b: %b\r\n" % (name, value))
            length = int(value)
        else:
            lines.append(b"%b: %b\r\n" % (name, value))
    if not host or not HOST.fullmatch(host):
        raise ClientError("A request has exactly one host, in :authority or Host (RFC 9113 section 8.3.1).")
    if protocol is not None:
        lines.append(b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: %b\r\n" % b64encode(token_bytes(16)))
    if cookies:
        lines.append(b"cookie: %b\r\n" % b"; ".join(cookies))  # RFC 9113 section 8.2.3
    if len(rest) > headers:
        raise HeadersTooLarge(f"The request has more than {headers} header fields.")
    block = b"Host: %b\r\n%b" % (host, b"".join(lines))
    if len(block) + len(path) > head_bytes:
        raise HeadersTooLarge(f"The request head is longer than {head_bytes} bytes.")
    fields = check_fields(RequestFields(block), http11=True)
    return RequestHead(method, path, block, fields, length, protocol)


def _split(pairs: Pairs) -> tuple[list[bytes | None], Pairs]:
    """Give the values of the pseudo-header fields, at their places in _PSEUDO, and the fields behind them."""
    pseudo: list[bytes | None] = [None, None, None, None, None]
    at = 0
    for name, value in pairs:
        if name[:1] != b":":
            break
        which = _PSEUDO.get(name)
        if which is None or pseudo[which] is not None:
            raise _malformed(f"the pseudo-header field {name.decode('latin-1')} is unknown, or there twice")
        pseudo[which] = value
        at += 1
    return pseudo, pairs[at:]


def _request_line(pseudo: list[bytes | None], target_bytes: int) -> tuple[bytes, bytes, bytes | None, bytes | None]:
    """Check the pseudo-header fields, which are what HTTP/1.1 has in its request line (RFC 9113 section 8.3.1).

    Given are method, target, authority and protocol. Raises as `request_head`.
    """
    method, scheme, authority, path, protocol = pseudo
    if method is None or not _METHOD.fullmatch(method):
        raise _malformed("the method is not a token")
    if method == b"CONNECT" and protocol is None:
        if scheme is not None or path is not None or not authority:
            raise _malformed("CONNECT has an authority and nothing else")
        raise MethodRefused("CONNECT is for forward proxies.")
    if protocol is not None:
        if method != b"CONNECT":
            raise _malformed("only CONNECT has :protocol")
        if protocol.lower() != b"websocket":
            raise MethodRefused("The only protocol that CONNECT is understood for is 'websocket' (RFC 8441).")
        method = b"GET"
    if scheme is None or path is None:
        raise _malformed("it has no scheme, or no path")
    if scheme not in (b"http", b"https"):
        raise _malformed("the scheme is neither http nor https")
    if len(path) > target_bytes:
        raise TargetTooLong(f"The request target is longer than {target_bytes} bytes.")
    if not _PATH.fullmatch(path) and not (path == b"*" and method == b"OPTIONS"):
        raise _malformed("the path does not begin with '/', or holds what no path holds")
    return method, path, authority, protocol


def check_lines(pairs: Pairs) -> None:
    """Check names and values of fields that are no pseudo-header fields; raises StreamError."""
    names = b"".join([b"%b\n" % name for name, _ in pairs])
    values = b"".join([b"%b\n" % value for _, value in pairs])
    if not _NAMES.fullmatch(names) or names.count(b"\n") != len(pairs):
        raise _malformed("the name of a field is not a token in lower case")
    if not _VALUES.fullmatch(values) or values.count(b"\n") != len(pairs):
        raise _malformed("a field's value holds what no value holds")


def check_trailers(pairs: Pairs) -> None:
    """Check the fields behind a body, which has no pseudo-header fields (RFC 9113 section 8.1); raises StreamError."""
    check_lines(pairs)
    for name, _ in pairs:
        if name in OF_CONNECTION:
            raise _malformed(f"{name.decode('latin-1')} is of HTTP/1.1's connections")


# ---- what we say ----

MOST_KNOWN: Final = 4096
MOST_KNOWN_BYTES: Final = 256
_known: dict[bytes, bytes] = {}
"""Lines of HTTP/1.1 as header blocks have them: backends say the same again and again."""


def encode_lines(block: bytes) -> bytes:
    """Encode `name: value CRLF` lines; what is of a connection is left out (RFC 9113 section 8.2.2)."""
    parts = []
    for line in block.split(b"\r\n"):
        part = _known.get(line)
        if part is None:
            part = _encode_line(line)
            if len(line) <= MOST_KNOWN_BYTES:
                remember(_known, line, part, MOST_KNOWN)
        parts.append(part)
    return b"".join(parts)


def _encode_line(line: bytes) -> bytes:
    name, colon, value = line.partition(b":")
    name = name.lower()
    if not colon or name in OF_CONNECTION:
        return b""
    return encode_field(name, value.strip(b" \t"))


def encode_trailers(trailers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Encode those trailer fields that may go on."""
    return b"".join([encode_field(name.lower(), value) for name, value in kept_trailers(trailers)])


def encode_status(status: int) -> bytes:
    """Encode an answer's first field."""
    return encode_field(b":status", b"%d" % status)
