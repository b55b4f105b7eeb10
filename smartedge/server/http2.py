"""A client's connection that speaks HTTP/2: each of its streams is a request like any other, in a greenlet of its own."""

from __future__ import annotations

import logging
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

from gevent import spawn_later

from smartedge.balancer.errors import ClientError, ClientGone, ClientTimeout, EdgeError
from smartedge.http import problem
from smartedge.http.environ_keys import HANDLER
from smartedge.http.headers import RequestFields
from smartedge.http.memory import remember
from smartedge.http.peer import keep_little_unsent
from smartedge.http.request import Request
from smartedge.http.side import Side, SwitchedHead
from smartedge.http.wire import WireTimeout
from smartedge.http2 import frames as h2
from smartedge.http2.fields import RequestHead, encode_lines, encode_status, request_head
from smartedge.http2.frames import StreamError
from smartedge.http2.link import Link, LinkLimits
from smartedge.http2.receive import Receiver
from smartedge.http2.side import StreamSide
from smartedge.http2.stream import Pairs, Stream, StreamEnded
from smartedge.server.answering import give_answer
from smartedge.server.body import CONTINUE_WAIT_S, check_length
from smartedge.server.front import Front, ServerLimits
from smartedge.server.greenlets import GreenletPool
from smartedge.server.http2_answer import StreamWriter
from smartedge.server.incoming import Incoming

log = logging.getLogger(__name__)

VERSION: Final = 20
"""Of a Request that came by HTTP/2."""

LAST_CALL_S: Final = 1.0
"""Between the word that we stop and the last stream that is taken: about what is on its way already (RFC 9113 section 6.8)."""

HEADS_KEPT: Final = 64
"""Heads of which it is remembered what they say: the same bytes say the same, as long as the connection's table stays."""

_ACCEPT = re.compile(rb"^sec-websocket-accept:[^\n]*\n", re.IGNORECASE | re.MULTILINE)

_NO_FIELDS: Final = RequestFields(b"Host: nobody\r\n")
"""Of a request that is refused before it is one."""

GREENLETS: Final = GreenletPool()


class Http2Connection:
    """Serves one client's connection; made by the `EdgeHandler` that has accepted it, when it is known to be HTTP/2.

    incoming: the connection. base_environ: what the environs of all its requests have in common. forward: see `AppHooks`.
    """

    def __init__(
        self,
        incoming: Incoming,
        front: Front,
        limits: ServerLimits,
        sock: Any,
        forward: Callable[[Request], Any],
        base_environ: Callable[[], dict[str, Any]],
    ) -> None:
        self.incoming = incoming
        self.front = front
        self.limits = limits
        self.sock = sock
        self.forward = forward
        self.base_environ = base_environ
        self._known: dict[int, tuple[Pairs, RequestHead]] = {}
        self._is_leaving = False
        self.stopped: EdgeError | None = None  # what its requests are cut with
        self.link = Link(
            incoming.wire,
            LinkLimits(
                head_bytes=limits.head_bytes,
                headers=limits.headers,
                head_s=limits.head_s,
                silence_s=limits.keepalive_s,
                settings={h2.ENABLE_CONNECT_PROTOCOL: 1},
            ),
            is_server=True,
            on_stream=self._begin,
            on_excess=front.hooks.on_excess,
        )

    def serve(self, early: bytes = b"") -> None:
        """Serve its streams until the connection ends. early: what has been read of it already."""
        incoming = self.incoming
        incoming.leave, incoming.cut_streams = self.leave, self.cut
        keep_little_unsent(incoming.wire.sock._sock)
        try:
            Receiver(self.link).run(early)
        finally:
            incoming.leave = incoming.cut_streams = None

    def leave(self) -> None:
        """Take no more requests after those that are on their way, and end with the last answer."""
        if self._is_leaving:
            return
        self._is_leaving = True
        self.link.say(h2.goaway(h2.MOST_WINDOW, h2.NO_ERROR))
        spawn_later(LAST_CALL_S, self._close_door)

    def cut(self, why: EdgeError) -> None:
        """Have nobody wait for what its requests wait for."""
        self.stopped = why
        for stream in list(self.link.streams.values()):
            if stream.on_gone is not None:
                stream.on_gone()
        self._close_door()

    def _close_door(self) -> None:
        link = self.link
        link.closing, link.last = True, link.highest
        link.say(h2.goaway(link.last_taken, h2.NO_ERROR))
        self._end_if_idle()

    def _end_if_idle(self) -> None:
        link = self.link
        self.incoming.idle = not link.running
        if link.is_over:
            self.incoming.wire.end_wait()

    # ---- streams ----

    def _begin(self, stream: Stream) -> None:
        """Have a request answered that has come; called while frames are read, so nothing here may wait. Raises StreamError."""
        link = self.link
        try:
            handler = StreamHandler(self, stream, self._head_of(stream))
            self.front.hooks.on_stream(handler.request)
            work: Callable[[], None] = handler.answer
        except ClientError as error:
            work = StreamHandler(self, stream).refuser(error)
        link.running += 1
        self.incoming.fresh = self.incoming.idle = False
        GREENLETS.spawn(self._run, work)

    def _head_of(self, stream: Stream) -> RequestHead:
        pairs, limits = stream.pairs, self.limits
        assert pairs is not None
        known = self._known.get(id(pairs))
        if known is None:
            try:
                head = request_head(pairs, limits.target_bytes, limits.head_bytes, limits.headers)
            except StreamError as error:
                raise self._refused(error) from None
            if self.incoming.certificate_lines:
                head = replace(head, fields=head.fields.with_certificate(self.incoming.certificate_lines))
            if head.protocol is None:
                remember(self._known, id(pairs), (pairs, head), HEADS_KEPT)  # the pairs, too, so that nothing else gets their id
        else:
            head = known[1]
        stream.length = head.length
        if stream.has_ended and head.length:
            raise self._refused(StreamError(h2.PROTOCOL_ERROR, "a body that is not as long as its content-length"))
        return head

    def _refused(self, error: StreamError) -> StreamError:
        self._tell(ClientError(f"{error}."))
        return error

    def _run(self, work: Callable[[], None]) -> None:
        try:
            work()
        finally:
            self.link.running -= 1
            self._end_if_idle()

    def _tell(self, error: ClientError) -> str:
        request_id = self.front.hooks.next_request_id()
        self.front.hooks.on_refused(self.incoming.peer, error, request_id)
        self.front.hooks.on_stream(None)
        return request_id


class StreamHandler:
    """Answers one stream; made by its connection. It travels in the environ, as an `EdgeHandler` does."""

    def __init__(self, connection: Http2Connection, stream: Stream, head: RequestHead | None = None) -> None:
        self._connection = connection
        self.forward = connection.forward
        self._stream = stream
        of_all = connection.incoming
        incoming = self._incoming = Incoming(of_all.wire, of_all.peer, of_all.secure)
        self.writer = StreamWriter(stream, incoming, connection.front, connection.limits.idle_s)
        if head is not None:
            self.request = incoming.request = self._made(head)
            if head.protocol is None:
                self._add_body(self.request)

    def _made(self, head: RequestHead) -> Request:
        connection, stream, of_all = self._connection, self._stream, self._connection.incoming
        fields = head.fields
        request = Request(head.method, head.target, VERSION, head.block, fields, of_all.peer, of_all.secure)
        request.interim, request.sock = self.writer.send_interim, connection.sock
        if of_all.secure:
            request.certificates, request.tls = of_all.certificates, of_all.tls

        def on_gone() -> None:
            if request.waiter is not None:
                request.waiter.give_up(ClientGone() if connection.stopped is None else connection.stopped)

        stream.on_gone = on_gone
        return request

    def _add_body(self, request: Request) -> None:
        """Have the request bring a body, if one is to come; raises PayloadTooLarge."""
        stream, expect = self._stream, request.said.expect
        if not stream.has_ended:
            request.body = StreamBody(stream, request, self._connection.limits)
            request.expects_continue = expect is not None and expect.lower() == b"100-continue"

    def answer(self) -> None:
        """Have the app answer, and send what it says."""
        writer = self.writer
        try:
            give_answer(self.request, writer, self._connection.front, self)
        except EdgeError as error:
            if writer.head_sent or writer.head is not None:
                writer.cut_answer()
            elif isinstance(error, ClientError):
                self._refuse(error)
            else:
                self._fail()
        except (OSError, WireTimeout):
            writer.cut_answer()  # it has left, or takes nothing
        except Exception:
            self._fail()
        self._stream.on_gone = None
        self._incoming.request = None

    def refuser(self, error: ClientError) -> Callable[[], None]:
        """Give what answers a request that is refused as it stands."""
        return lambda: self._refuse(error)

    def take_over(self) -> tuple[Side, bytes]:
        """Hand the stream to a tunnel, which knows it as a connection (RFC 8441)."""
        self._stream.on_gone = None
        self.writer.reset()
        self.writer.head_sent = True
        return StreamSide(self._stream), b""

    def say_switched(self, _side: Side, head: SwitchedHead, timeout_s: float) -> None:
        """Tell the client that the backend has switched: by a 200, which has no Upgrade (RFC 8441 section 5)."""
        block = _ACCEPT.sub(b"", head[1]) + head[2]
        self._stream.send_head(encode_status(200) + encode_lines(block), timeout_s)

    def base_environ(self) -> dict[str, Any]:
        """Make what the environs of all its requests have in common, with itself."""
        return {**self._connection.base_environ(), HANDLER: self}

    def _refuse(self, error: ClientError) -> None:
        """Answer a request that was refused before the app answered it."""
        if error.status == 499:
            self.writer.cut_answer()
            return
        status, fields, body = problem.answer(error, self._connection._tell(error))
        self._say(status, fields, body)

    def _fail(self) -> None:
        """Answer 500 for an app that raised, if nothing has been sent yet."""
        traceback.print_exc(file=sys.stderr)
        if self.writer.head_sent:
            self.writer.cut_answer()
        else:
            self._say(500, [("Content-Type", "text/plain"), ("Content-Length", "22")], b"Internal server error\n")

    def _say(self, status: int, fields: Sequence[tuple[str, str]], body: bytes) -> None:
        writer = self.writer
        pairs = self._stream.pairs or ()
        is_head = (b":method", b"HEAD") in pairs
        if self._incoming.request is None:
            method = b"HEAD" if is_head else b"GET"
            nothing = RequestHead(method, b"/", b"", _NO_FIELDS, None, None)
            self._incoming.request = self._made(nothing)
        try:
            writer.start_response(f"{status} {problem.reason(status)}", list(fields))
            if not is_head:
                writer.write(body)
            writer.finish_answer()
        except (OSError, WireTimeout):
            writer.cut_answer()


class StreamBody:
    """A request's body as a stream brings it; made by its `StreamHandler`, read by the exchange. See http.Body."""

    __slots__ = ("_idle_s", "_limit_bytes", "_request", "_stream", "length", "received_bytes")

    def __init__(self, stream: Stream, request: Request, limits: ServerLimits) -> None:
        self._stream = stream
        self._request = request
        self._idle_s = limits.idle_s
        self._limit_bytes = limits.body_bytes
        self.length = stream.length
        self.received_bytes = 0
        if limits.body_bytes:
            self.limit(limits.body_bytes)

    def limit(self, most_bytes: int) -> None:
        """Take no more than so many bytes; see Body.limit."""
        self._limit_bytes = most_bytes
        check_length(self.length, most_bytes)

    @property
    def complete(self) -> bool:
        """Whether nothing is left to read."""
        return self._stream.is_read

    @property
    def trailers(self) -> Pairs:
        """The fields behind it, once it is complete."""
        return self._stream.trailers

    def buffered(self) -> bytes | None:
        """Give the whole body if it is here; see Body.buffered."""
        if self.received_bytes or not self._stream.has_ended:
            return None
        return self.read()

    def read(self) -> bytes:
        """Give the next piece; see Body.read."""
        stream, request = self._stream, self._request
        try:
            if request.expects_continue and not stream.at_hand:
                try:
                    stream.wait_for_news(CONTINUE_WAIT_S)
                except WireTimeout:
                    assert request.interim is not None
                    request.interim(100, b"100 Continue\r\n", b"")
            piece = stream.read(self._idle_s)
        except WireTimeout:
            raise ClientTimeout(f"The request body stopped for {self._idle_s:g} s.") from None
        except StreamEnded as error:
            raise ClientGone("The client left in the middle of its request.") from error
        return self._counted(piece)

    def _counted(self, piece: bytes) -> bytes:
        self.received_bytes += len(piece)
        if self._limit_bytes:
            check_length(self.received_bytes, self._limit_bytes)
        return piece

    def lend(self, by_pipe: bool = False) -> bytes:
        """Give the next piece; nothing is lent here."""
        return self.read()
