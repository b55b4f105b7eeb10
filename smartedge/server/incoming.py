"""One client's connection, as it is shared by what reads from it and what answers on it."""

from __future__ import annotations

from collections.abc import Callable

from smartedge.balancer.errors import EdgeError
from smartedge.http.certificates import Certificate
from smartedge.http.request import Request
from smartedge.http.wire import RECV_BYTES, Wire


class Incoming:
    """A client's connection; made by its `EdgeHandler`, used by its `RequestReader`, its `AnswerWriter` and request bodies.

    wire: the connection itself. unread: bytes that have come and that nobody has used. head_read: how much is read for the
    next head at most: little once a long body has come. peer: the client's address as text. secure: it has TLS.
    certificate_lines: header fields that tell of the client's certificate, b"" without one. tls: version, cipher and server
    name, and certificates: what the client was shown, once hands have been shaken. speaks_http2: both sides have agreed to.
    request: the one that is being answered, None between two. keep_alive: another request may follow. idle: it waits for a
    request of which nothing has come. fresh: it has had none yet, so that its client does not expect to see it closed.
    leave: has a connection of HTTP/2 end with the answers that are under way, cut_streams has nobody wait for these; None for
    others.
    """

    __slots__ = (
        "certificate_lines",
        "certificates",
        "cut_streams",
        "fresh",
        "head_read",
        "idle",
        "keep_alive",
        "leave",
        "peer",
        "request",
        "secure",
        "speaks_http2",
        "tls",
        "unread",
        "wire",
    )

    def __init__(self, wire: Wire, peer: bytes, secure: bool) -> None:
        self.wire = wire
        self.peer = peer
        self.secure = secure
        self.certificate_lines = b""
        self.certificates: tuple[Certificate, ...] = ()
        self.tls: tuple[str | None, str | None, str | None] = (None, None, None)
        self.unread = b""
        self.head_read = RECV_BYTES
        self.request: Request | None = None
        self.keep_alive = True
        self.speaks_http2 = False
        self.idle = True
        self.fresh = True
        self.leave: Callable[[], None] | None = None
        self.cut_streams: Callable[[EdgeError], None] | None = None

    def cut_requests(self, why: EdgeError) -> bool:
        """Have nobody wait for what its requests wait for; whether their clients may still be told why."""
        if self.cut_streams is not None:
            self.cut_streams(why)
            return True
        if self.request is None or self.request.waiter is None:
            return False
        self.request.waiter.give_up(why)
        return True
