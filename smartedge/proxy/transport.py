"""The way to one backend: `EdgeAdapter` and its pooled connections, mounted in an `EdgeSession` (session.py).

requests and urllib3 rewrite paths, add and fold header fields, take a 103 for the answer and cost ten times the bytes' own way
(docs/performance.md). Under the Session an adapter of our own replaces them; foreign errors become ours here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic
from typing import Any, Final

from smartedge.balancer.errors import BackendClosed, BackendTimeout
from smartedge.http.answer_fields import keep_alive_s
from smartedge.http.derivable import mypyc_attr
from smartedge.http.headers import VIA, VIA_10
from smartedge.proxy.adapter import BackendAdapter, blame_deadline
from smartedge.proxy.answer import Answer
from smartedge.proxy.connection import Connection
from smartedge.proxy.outbound import Outbound

FRESH_S: Final = 1.0
"""A request that can't be repeated uses no connection that has been idle for longer, in seconds."""

UNSEEN_S: Final = 0.0005
"""How old the event loop's view of a connection may be for a request to go out on it, in seconds: about as long as bytes are on
their way anyhow. In a longer round (a scrape, many clients) the kernel is asked about the connection itself."""


IDLE_POOL_S: Final = 60.0
"""The longest that a connection waits for its next use; a backend's own `Keep-Alive: timeout=` shortens it."""


class Http1Answer(Answer):
    """A backend's answer by HTTP/1.1; made by its EdgeAdapter. connection: while more of it is to come."""

    __slots__ = ("_adapter", "_body", "connection")

    def __init__(self, adapter: EdgeAdapter, connection: Connection) -> None:
        self._adapter = adapter
        self.connection: Connection | None = connection
        self.status_code = self.counts_as = connection.status
        self.status_line = connection.status_line
        self.fields = connection.fields
        self.via = VIA if connection.version == 11 else VIA_10
        self.trailers = ()
        self.complete = connection.complete
        if connection.complete:
            # A short answer is all here: give the connection back before the client has even been served.
            connection.lends = True  # our own `read` makes bytes of a view
            self._body: Any = connection.read(0)
            self._finish(connection)
        else:
            self._body = b""

    @property
    def at_hand(self) -> bool:
        """Whether `read` would give something, or the end, without waiting."""
        connection = self.connection
        return connection is None or bool(self._body) or connection.at_hand

    def begin_lending(self, *, pipes: bool) -> None:
        """Have the connection lend what it reads; see `Answer.begin_lending`."""
        if self.connection is not None:
            self.connection.lends = True
            self.connection.pipes = pipes

    def read(self) -> Any:
        """Wait for the next piece of the body; see `Answer.read`."""
        if self._body:
            return bytes(self.lend())
        connection = self.connection
        if connection is None:
            return b""
        piece = connection.read(self._adapter.limits.idle_s)
        if connection.complete:
            self._finish(connection)
        return piece

    def lend(self) -> Any:
        """Give what `read` does, though it may be a view of bytes. Raises as that does."""
        if self._body:
            body, self._body = self._body, b""
            return body
        return self.read()

    def _finish(self, connection: Connection) -> None:
        self.connection = None
        self.complete = True
        if self.fields.chunked is not None:
            self.trailers = connection.trailers
        self._adapter.give_back(connection)

    def close(self) -> None:
        """Be done with the answer: a body that was not read to its end takes its connection with it."""
        connection, self.connection = self.connection, None
        self.complete = True
        if connection is not None:
            connection.close()


@mypyc_attr(allow_interpreted_subclasses=True)
class EdgeAdapter(BackendAdapter):
    """Sends requests to one backend over connections that are kept and used again; owned by its EdgeSession.

    Connections belong to a `Way`: when it is replaced (`use`), those to an address that is gone, or with TLS settings of
    before, take no more requests.
    """

    __slots__ = ("_idle",)

    def _begin_pool(self) -> None:
        self._idle: list[Connection] = []

    # ---- requests' adapter interface ----

    def send(
        self,
        request: Outbound,
        stream: bool = True,
        timeout: object = None,
        verify: object = True,
        cert: object = None,
        proxies: object = None,
    ) -> Http1Answer:
        """Send a request and wait for the answer's head.

        The other arguments are requests' own and have no meaning here: the body always streams, `limits` holds the timeouts,
        TLS comes from the backend's configuration. Raises BackendError (ConnectFailed, BackendClosed, BadAnswer,
        BackendTimeout) or, when the client's upload failed, ClientError.
        """
        limits = self.limits
        first_byte_s = longest_s = limits.first_byte_s
        while True:
            connection = request.connection = self._take(request)
            if request.deadline is not None:
                longest_s, first_byte_s = self._waits(request, request.deadline)
            try:
                at_once = connection.reused and not request.repeatable  # of these `_take` has just asked the kernel
                connection.send(request.head, request.body, limits.idle_s, first_byte_s, request.on_sent, at_once)
                connection.receive(
                    request.method == b"HEAD",
                    first_byte_s,
                    limits.answer_head_bytes,
                    request.told,
                    request.upgrade,
                )
                if (lease := request.lease) is not None and connection.wire.sent_at > lease.sent_at:
                    lease.sent_at = connection.wire.sent_at  # it had waited for the end of the round
                # Whoever waited for 1xx waits no more. Kept, they and this request would hold each other, and every request
                # would be left to the garbage collector.
                request.told = request.on_sent = None
                return Http1Answer(self, connection)
            except BackendClosed:
                connection.close()
                # The backend closed an idle connection just as the request went out: its right, and nobody's failure.
                if not (connection.reused and request.repeatable and (request.body is None or request.body.rewind())):
                    raise
                self.drop_idle()
            except BackendTimeout as error:
                connection.close()
                if first_byte_s < longest_s:
                    blame_deadline(error)
                raise
            except BaseException:
                connection.close()
                raise

    def close(self) -> None:
        """Close the idle connections and keep no more; those in use are closed after their answer."""
        self._closed = True
        self.drop_idle()

    # ---- the way there ----

    def use(self, ips: Sequence[str], context: Any) -> bool:
        """Go to these IP addresses and with these TLS settings from here on; whether another server is there than before.

        ips: of the backend's name; none where it has none, or they are not known.
        """
        is_another = self._dialer.use(ips, context)
        if is_another is None:
            return False
        kept = []
        for connection in self._idle:
            if self._fits(connection):
                kept.append(connection)
            else:
                connection.wire.on_idle = None
                connection.close()
        self._idle[:] = kept
        return is_another

    def _fits(self, connection: Connection) -> bool:
        """Whether a connection of an earlier way would be the same if it were made now."""
        if not self._dialer.would_make(connection.way, connection.address):
            return False
        connection.way = self._dialer.way
        return True

    # ---- connections ----

    def close_idle(self, most: int) -> int:
        """Close so many idle connections at most, those that have waited longest; say how many it were."""
        gone, self._idle[:] = self._idle[:most], self._idle[most:]
        for connection in gone:
            connection.close()
        return len(gone)

    def drop_idle(self) -> None:
        """Close every idle connection."""
        while self._idle:
            self._idle.pop().close()

    def _take(self, request: Outbound) -> Connection:
        """Give an idle connection, the one used last, or a new one."""
        idle = self._idle
        while idle:
            connection = idle.pop()
            wire = connection.wire
            wire.on_idle = None
            if wire.readable or wire.closed:
                connection.close()
                continue
            if not request.repeatable and monotonic() - connection.idle_since > FRESH_S:
                connection.close()
                continue
            if (
                request.hasty or connection.doubtful or not request.repeatable or monotonic() - wire.loop.polled_at > UNSEEN_S
            ) and not wire.peer_is_quiet():
                connection.close()
                continue
            connection.reused = True
            return connection
        began = monotonic()
        connection = self._open()
        if request.lease is not None:
            request.lease.connect_s = monotonic() - began
        if request.cancelled is not None:
            connection.close()
            raise request.cancelled
        return connection

    def give_back(self, connection: Connection) -> None:
        """Keep a connection whose answer is complete for the next request, if both sides allow it."""
        idle = self._idle
        if (
            self._closed
            or len(idle) >= self.limits.idle_connections
            or not connection.reusable()
            or (connection.way is not self._dialer.way and not self._fits(connection))
        ):
            connection.close()
            return
        idle_s = IDLE_POOL_S
        if connection.fields.keep_alive is not None:
            said = keep_alive_s(connection.fields.keep_alive)
            if said is not None:
                idle_s = min(idle_s, said - 1 if said > 1 else said / 2)
        wire = connection.wire
        connection.idle_since = wire.watch(idle_s)
        wire.on_idle = connection.on_stale
        idle.append(connection)

    def _open(self) -> Connection:
        """Make a new connection; raises ConnectFailed or OutOfResources."""
        return Connection(*self._dialer.open())
