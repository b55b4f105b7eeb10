"""What goes out to a backend: the head that a request gets for it, and the request ready to be sent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from smartedge.balancer.backend import Backend
from smartedge.balancer.errors import EdgeError
from smartedge.balancer.pool import Lease
from smartedge.http.answer_fields import AnswerFields
from smartedge.http.forwarded import IsTrusted, told_of_client
from smartedge.http.headers import TE_TRAILERS
from smartedge.http.request import Replay, Request
from smartedge.proxy.answer import Conversation


class Told(Protocol):
    """Whoever is told what comes before the answer: an `Attempts`, or its `Race`."""

    def pass_interim(self, status: int, status_line: bytes, fields: AnswerFields) -> None:
        """Pass a 1xx on to the client."""


class Outbound:
    """One try's request, ready to be sent; made by `Attempts`, sent by an `EdgeAdapter`. requests has a PreparedRequest here.

    head: request line and fields with the empty line. repeatable: it may be sent again although the backend may have acted.
    lease: of the try, which is told how long a new connection took. told: is told of every 1xx. on_sent: told when a body
    that was still arriving has gone out. upgrade: a 101 is welcome. connection: the one it went out on, once it did. started:
    when the client's request came, None where it is nobody's. deadline: when the answer has to begin, of a try that is not the
    first. first_byte_s: with a deadline, the longest wait for an answer's first byte, None for the backend's own limit. hasty:
    the event loop has not run since the answer before, so it could not tell of stray bytes behind that one. cancelled: why
    nobody waits for it any more.
    """

    __slots__ = (
        "body",
        "cancelled",
        "connection",
        "deadline",
        "first_byte_s",
        "hasty",
        "head",
        "lease",
        "method",
        "on_sent",
        "repeatable",
        "started",
        "told",
        "upgrade",
    )

    def __init__(self, method: bytes, head: bytes, body: Replay | None, repeatable: bool, lease: Lease | None = None) -> None:
        self.method = method
        self.lease = lease
        self.head = head
        self.body = body
        self.repeatable = repeatable
        self.told: Told | None = None
        self.connection: Conversation | None = None
        self.on_sent: Callable[[], None] | None = None
        self.started: float | None = None
        self.deadline: float | None = None
        self.first_byte_s: float | None = None
        self.hasty = False
        self.upgrade = False
        self.cancelled: EdgeError | None = None

    def cancel(self, error: EdgeError) -> None:
        """Have whoever waits for the answer, or reads it, end with this error; who still waits for a connection sends nothing."""
        self.cancelled = error
        if self.connection is not None:
            self.connection.fail(error)


@dataclass(frozen=True, slots=True)
class Hop:
    """What backends are told of the way that a request came; made by the edge at start and at reload.

    via: what we call ourselves in Via, which tells this edge from others. is_trusted: whether a peer (its address as text) is
    a proxy whose word goes on; None when there are none. forwarded_header: send RFC 7239's Forwarded too.
    """

    via: bytes
    is_trusted: IsTrusted
    forwarded_header: bool


_RECEIVED: Final = {10: b"1.0", 11: b"1.1", 20: b"2"}
"""What Via calls the protocol of a request (RFC 9110 sections 2.5 and 7.6.3)."""


class Onward:
    """What backends are told beside a client's own fields, up to the request's id; made by `head_for`, kept in the fields.

    It is the same for all requests of a connection that send the same fields, until a reload: made for each it would take 3,700
    instructions more (docs/performance.md). peer, version, hop: what it was made of besides. logged: what the access log has made
    of the client (observe/log_asked.py), which is the same for as long.
    """

    __slots__ = ("hop", "lines", "logged", "peer", "version")

    def __init__(self, request: Request, hop: Hop) -> None:
        self.logged: Any = None
        self.hop = hop
        self.peer = request.peer
        self.version = request.version
        client = told_of_client(request, hop.is_trusted, hop.forwarded_header)
        self.lines = b"%bVia: %b %b\r\nX-Request-Id: " % (client, _RECEIVED[request.version], hop.via)


def head_for(backend: Backend, request: Request, request_id: str, hop: Hop) -> bytes:
    """Write the head of a request as this backend gets it, with the empty line: its own name may be the Host, a path its base."""
    said, body, target, block = request.said, request.body, request.target, request.goes_on
    onward: Onward | None = said.onward
    if onward is None or onward.hop is not hop or onward.peer is not request.peer or onward.version != request.version:
        onward = said.onward = Onward(request, hop)
    if backend.rewrites or not said.host:
        spec = backend.spec
        if not said.host_is_set and (not said.host or not spec.preserve_host):
            block = b"Host: %b\r\n%b" % (backend.transport.netloc, request.fields.without(b"host"))
        if spec.base and target != b"*":
            target = spec.base + target
    tail = b"\r\n\r\n"
    if body is not None:
        if body.length is None:
            tail = b"\r\nTransfer-Encoding: chunked\r\n\r\n"
        if request.expects_continue:
            tail = tail[:-2] + b"Expect: 100-continue\r\n\r\n"
    if request.traceparent:
        tail = b"\r\n" + request.traceparent + tail[2:]
    return b"".join((request.method, b" ", target, b" HTTP/1.1\r\n", block, onward.lines, request_id.encode("latin-1"), tail))


def with_offer(head: bytes, offered: bytes) -> bytes:
    """Add the protocols that a client offers to switch to."""
    head = head[:-2].replace(TE_TRAILERS, b"")  # one Connection, and it says this
    return b"%bConnection: Upgrade\r\nUpgrade: %b\r\n\r\n" % (head, offered)
