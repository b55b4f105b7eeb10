"""The way to one backend that speaks HTTP/2: `Http2Adapter`, whose connections carry many requests side by side (RFC 9113).

It is mounted in an `EdgeSession` (session.py) as `EdgeAdapter` is; foreign errors become ours in BackendStream, and here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any, Final

import gevent
from gevent.event import Event

from smartedge.balancer.errors import BackendClosed, BackendTimeout, ConnectFailed, EdgeError, OutOfResources
from smartedge.http.sockets import Address
from smartedge.http.wire import Wire
from smartedge.http2.link import Link, LinkLimits
from smartedge.http2.receive import Receiver
from smartedge.proxy.adapter import BackendAdapter, Limits, blame_deadline
from smartedge.proxy.dialer import H2, Way
from smartedge.proxy.http2_stream import BackendStream, Http2Answer
from smartedge.proxy.outbound import Outbound
from smartedge.proxy.transport import IDLE_POOL_S

STREAMS: Final = 100
"""On one connection at once, fewer where the backend says so; the next opens another."""

WINDOW_BYTES: Final = 131072
"""Of an answer that its client does not take. A connection has room for those of all its streams: none holds up others."""

AGAIN: Final = 3
"""So many connections may refuse a request that none has looked at, before another backend is asked."""


class BackendLink:
    """A connection of an Http2Adapter. way, address: how it was made, and where it leads. on_end: told when it has ended.

    opened_at: when the backend had begun to speak on it.
    """

    __slots__ = ("address", "link", "opened_at", "served", "way", "wire")

    def __init__(self, wire: Wire, way: Way, address: Address, limits: Limits, on_end: Callable[[BackendLink], None]) -> None:
        self.wire = wire
        self.way = way
        self.address = address
        self.served = False
        self.opened_at = 0.0
        most = LinkLimits(
            streams=STREAMS,
            window_bytes=WINDOW_BYTES,
            link_window_bytes=STREAMS * WINDOW_BYTES,
            head_bytes=limits.answer_head_bytes,
            silence_s=IDLE_POOL_S,
        )
        self.link = Link(wire, most, is_server=False)
        self.link.on_end = lambda: on_end(self)
        gevent.spawn(self._run)

    def _run(self) -> None:
        try:
            Receiver(self.link).run()
        finally:
            self.wire.close()

    def settle(self, url: str, left_s: float) -> None:
        """Wait for the backend's settings, the first that it says; raises ConnectFailed. The connection is closed then.

        Settings that allow no stream at all are for a moment (RFC 9113 section 6.5.2): it is waited for others.
        """
        link, until = self.link, monotonic() + max(0.001, left_s)
        try:
            if not link.peer_settled.wait(until - monotonic()):
                raise ConnectFailed(f"{url} did not begin to speak HTTP/2 in time.")
            while link.peer_streams == 0 and not link.closed:
                link.peer_settled.clear()
                if not link.peer_settled.wait(max(0.0, until - monotonic())):
                    raise ConnectFailed(f"{url} allows no request on its connection (SETTINGS_MAX_CONCURRENT_STREAMS 0).")
        except BaseException:
            self.wire.close()  # who is ended here leaves nobody who knows of it
            raise
        if link.closed:
            raise ConnectFailed(f"{url} does not speak HTTP/2: {link.failure}")
        self.opened_at = monotonic()

    def retire(self) -> None:
        """Take no more requests, and end with the last answer."""
        self.link.going = True
        self.leave_if_over()

    def leave_if_over(self) -> None:
        """End the connection if nothing is to come on it any more."""
        if self.link.is_over:
            self.wire.end_wait()


class _Opening:
    """A connection that is being opened, for all that wait for one. error: why it could not be."""

    __slots__ = ("began", "done", "error")

    def __init__(self) -> None:
        self.began = monotonic()
        self.done = Event()
        self.error: EdgeError | None = None


class Http2Adapter(BackendAdapter):
    """Sends requests to one backend as streams of few connections; owned by its EdgeSession.

    A connection is opened when there is none with room for one more stream, one at a time, and closed when it has been idle for
    IDLE_POOL_S.
    """

    __slots__ = ("_links", "_opening", "_scheme")

    def _begin_pool(self) -> None:
        self._scheme = b"https" if self.to.secure else b"http"
        self._links: list[BackendLink] = []
        self._opening: _Opening | None = None

    # ---- requests' adapter interface ----

    def send(
        self,
        request: Outbound,
        stream: bool = True,
        timeout: object = None,
        verify: object = True,
        cert: object = None,
        proxies: object = None,
    ) -> Http2Answer:
        """Send a request and wait for the answer's head; see `EdgeAdapter.send`.

        Raises BackendError, DeadlineExceeded or ClientError.
        """
        first_byte_s = longest_s = self.limits.first_byte_s
        left, refused_at = AGAIN, 0.0
        while True:
            link = self._take(request, refused_at)
            if request.cancelled is not None:  # while it waited for the connection, which is for others
                raise request.cancelled
            if request.deadline is not None:
                longest_s, first_byte_s = self._waits(request, request.deadline)
            was_used, link.served = link.served, True
            conversation = request.connection = BackendStream(request, self.limits, lambda at=link: self._ended(at))  # type: ignore[misc]
            try:
                conversation.send(request, link.link, self._scheme)
                conversation.wait(request, first_byte_s)
                answer = Http2Answer(conversation)
            except BackendClosed as error:
                conversation.close()
                left -= 1
                if not left or not _may_go_again(request, link, was_used, sent=error.sent):
                    raise
                refused_at = monotonic()  # a backend that restarts leaves all connections that it has
            except BackendTimeout as error:
                conversation.close()
                if first_byte_s < longest_s:
                    blame_deadline(error)
                raise
            except BaseException:
                conversation.close()
                raise
            else:
                request.told = request.on_sent = None  # see EdgeAdapter.send
                return answer

    def close(self) -> None:
        """Take no more requests; connections end with their last answer."""
        self._closed = True
        for link in list(self._links):
            link.retire()

    # ---- the way there ----

    def use(self, ips: Sequence[str], context: Any) -> bool:
        """Go to these IP addresses and with these TLS settings from here on; see `EdgeAdapter.use`."""
        is_another = self._dialer.use(ips, context)
        if is_another is None:
            return False
        for link in list(self._links):
            if self._dialer.would_make(link.way, link.address):
                link.way = self._dialer.way
            else:
                link.retire()
        return is_another

    # ---- connections ----

    def close_idle(self, most: int) -> int:
        """Close so many connections at most on which nothing is under way; say how many it were."""
        idle = [link for link in self._links if not link.link.streams][:most]
        for link in idle:
            link.link.going = True
            link.wire.close()
        return len(idle)

    def _take(self, request: Outbound, since: float = 0.0) -> BackendLink:
        """Give a connection that has room for one more stream: one that is there, one that is being opened, or a new one.

        since: only one that has been opened since then will do. An opening that fails and had begun before this request came is
        none of its failures, unless half of the time for one is over: all that wait share another.
        """
        came = monotonic()
        while True:
            for link in self._links:
                if link.link.has_room and link.opened_at >= since:
                    return link
            opening = self._opening
            if opening is None:
                return self._open(request)
            opening.done.wait()
            error = opening.error
            if error is not None and (opening.began >= came or monotonic() - came > self.limits.connect_s / 2):
                raise type(error)(error.detail, retry_after_s=error.retry_after_s)

    def _open(self, request: Outbound) -> BackendLink:
        """Make a new connection; raises ConnectFailed, or OutOfResources when that is our own lack."""
        opening = self._opening = _Opening()
        began = opening.began
        try:
            wire, way, address = self._dialer.open(H2)
            link = BackendLink(wire, way, address, self.limits, self._forget)
            link.settle(self.url, began + self.limits.connect_s - monotonic())
        except (ConnectFailed, OutOfResources) as error:  # others end this request alone: its client has left, or it is hedged
            opening.error = error
            raise
        finally:
            self._opening = None
            opening.done.set()
        self._links.append(link)
        if request.lease is not None:
            request.lease.connect_s = monotonic() - began
        return link

    def _forget(self, link: BackendLink) -> None:
        if link in self._links:
            self._links.remove(link)

    def _ended(self, link: BackendLink) -> None:
        if self._closed:
            link.retire()
        else:
            link.leave_if_over()


def _may_go_again(request: Outbound, link: BackendLink, was_used: bool, *, sent: bool) -> bool:
    """Whether a request that has got no answer may go out on another connection to the same backend.

    The backend has not looked at it (GOAWAY), or it has closed a connection that was kept just as the request went out.
    """
    if not (link.link.going or link.link.closed):
        return False  # this one serves others: it has something against the request
    if sent and not (was_used and request.repeatable):
        return False
    return request.body is None or request.body.rewind()
