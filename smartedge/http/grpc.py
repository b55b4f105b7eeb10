"""gRPC as a proxy must know it: what is a call, how long it may take, and what its status means. Pure functions.

github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import quote

from smartedge.balancer.errors import EdgeError
from smartedge.http.own_answer import OwnAnswer

_IS_CALL = re.compile(rb"\ncontent-type:[ \t]*application/grpc(?:[+;][^\r]*)?[ \t]*\r", re.IGNORECASE)
_TIMEOUT = re.compile(rb"\ngrpc-timeout:[ \t]*([0-9]{1,8})([HMSmun])[ \t]*\r", re.IGNORECASE)
_UNITS: Final = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_STATUS = re.compile(rb"[0-9]{1,4}")

CANCELLED: Final = 1
UNKNOWN: Final = 2
DEADLINE_EXCEEDED: Final = 4
PERMISSION_DENIED: Final = 7
RESOURCE_EXHAUSTED: Final = 8
UNIMPLEMENTED: Final = 12
INTERNAL: Final = 13
UNAVAILABLE: Final = 14
UNAUTHENTICATED: Final = 16

COUNTS_AS: Final = {
    0: 200,
    CANCELLED: 499,
    UNKNOWN: 500,
    3: 400,
    DEADLINE_EXCEEDED: 504,
    5: 404,
    6: 409,
    PERMISSION_DENIED: 403,
    RESOURCE_EXHAUSTED: 429,
    9: 400,
    10: 409,
    11: 400,
    UNIMPLEMENTED: 404,
    INTERNAL: 500,
    UNAVAILABLE: 503,
    15: 500,
    UNAUTHENTICATED: 401,
}
"""The status of HTTP that a call's outcome counts as, as google/rpc/code.proto has it and Envoy's outlier detection uses it.

With one exception: UNIMPLEMENTED is 501 there. A client that asks for a method that nobody has would have backends ejected, so it
counts as what it is, not found; linkerd takes it for no failure either.
"""

_OF_OURS: Final = {
    400: INTERNAL,
    401: UNAUTHENTICATED,
    403: PERMISSION_DENIED,
    404: UNIMPLEMENTED,
    408: DEADLINE_EXCEEDED,
    413: RESOURCE_EXHAUSTED,
    429: RESOURCE_EXHAUSTED,
    431: RESOURCE_EXHAUSTED,
    499: CANCELLED,
    500: INTERNAL,
    501: UNIMPLEMENTED,
    502: UNAVAILABLE,
    503: UNAVAILABLE,
    504: DEADLINE_EXCEEDED,
}
"""What our own errors are to a client of gRPC; all others UNKNOWN (doc/http-grpc-status-mapping.md, but for 504 and 429)."""


def is_call(block: bytes) -> bool:
    """Whether these header fields, `name: value CRLF` each, are those of a call (gRPC-Web is none)."""
    return b"application/grpc" in block and _IS_CALL.search(b"\n" + block) is not None


def timeout_s(block: bytes) -> float | None:
    """Give how long a call may take, in seconds; None where its client does not say, or not understandably."""
    found = _TIMEOUT.search(b"\n" + block)
    return None if found is None else int(found[1]) * _UNITS[found[2]]


def pairs_of(block: bytes) -> list[tuple[bytes, bytes]]:
    """Take fields, `name: value CRLF` each, apart."""
    lines = [line.partition(b":") for line in block.split(b"\r\n") if line]
    return [(name, value.strip(b" \t")) for name, _, value in lines]


def status_in(fields: Iterable[tuple[bytes, bytes]]) -> int | None:
    """Find a call's status among fields; None where there is none, UNKNOWN for one that is no number."""
    for name, value in fields:
        if name.lower() == b"grpc-status":
            return int(value) if _STATUS.fullmatch(value) else UNKNOWN
    return None


def status_of(error: EdgeError) -> int:
    """Give what an error of ours is to a client of gRPC."""
    return _OF_OURS.get(error.status, UNKNOWN)


def fields_of(error: EdgeError) -> list[tuple[str, str]]:
    """Write what tells a client of gRPC of an error of ours, as trailers or in a head that is all there is."""
    message = quote(f"{error.title}: {error.detail}"[:1000], safe=" !\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~")
    return [("grpc-status", str(status_of(error))), ("grpc-message", message)]


def answer(error: EdgeError, request_id: str) -> OwnAnswer:
    """Turn an error into an answer without a body whose head says all ("Trailers-Only")."""
    return 200, [("Content-Type", "application/grpc"), *fields_of(error), ("X-Request-Id", request_id)], b""
