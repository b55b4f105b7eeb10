"""One client's connection, from its first byte to its close: each request that comes is answered by the app, in order."""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from smartedge.balancer.errors import ClientError, ClientGone, EdgeError
from smartedge.http import problem
from smartedge.http.client_certificate import certificate_lines
from smartedge.http.date import http_date
from smartedge.http.environ_keys import ADMIN, HANDLER
from smartedge.http.lingering import linger
from smartedge.http.request import Request
from smartedge.http.resources import HOLDERS, NO_ROOM, is_own
from smartedge.http.tls_wire import NotTls, TlsWire
from smartedge.http.wire import Wire, WireTimeout
from smartedge.server.answer import AnswerWriter
from smartedge.server.answering import give_answer
from smartedge.server.front import Front
from smartedge.server.incoming import Incoming
from smartedge.server.reader import PriorKnowledge, RequestReader

log = logging.getLogger(__name__)

REFUSAL_S: Final = 1.0
"""How long a client may take to receive the answer to what is no request, in seconds."""


class EdgeHandler:
    """Serves one client's connection; made by `EdgeServer`, which calls `handle` once, in a greenlet of its own.

    It travels in the environ (http/environ_keys.py): the exchange writes the answer with its `writer`, and an upgrade takes
    the connection over.
    """

    def __init__(self, sock: Any, address: Any, front: Front) -> None:
        self._sock = sock
        self._address = address
        self._front = front
        tls = front.tls()
        wire: Wire = Wire(sock) if tls is None else TlsWire(sock, tls, server_side=True)
        peer = address[0].encode("latin-1") if isinstance(address, tuple) and address else b"unix"
        limits = front.hooks.limits()
        self._limits = limits
        self.incoming = Incoming(wire, peer.removeprefix(b"::ffff:"), tls is not None)
        self.writer = AnswerWriter(self.incoming, front, limits.idle_s)
        self._send_interim = self.writer.send_interim
        self._reader = RequestReader(self.incoming, front, limits)
        self.forward: Callable[[Request], Any] = front.hooks.forward if ADMIN not in front.environ else lambda _: None

    def handle(self) -> None:
        """Serve requests until the client or the server has had enough; the connection is closed then."""
        incoming = self.incoming
        self._front.open.add(incoming)
        try:
            if incoming.secure:
                self._shake_hands()
            if incoming.speaks_http2:
                self._serve_http2(b"")
            on_moved = self._on_client_moved  # made once: a bound method takes as long as a call (docs/performance.md)
            while incoming.keep_alive:
                request = self._reader.read_request()
                if request is None:
                    break
                self._answer(request, on_moved)
            self._leave()
        except PriorKnowledge as found:
            if self._front.hooks.h2c() and not incoming.secure and incoming.fresh:
                self._serve_http2(found.early)
            else:
                self._refuse(found)
            self._leave()
        except ClientError as error:
            self._refuse(error)
            self._leave()
        except (OSError, WireTimeout):
            pass  # The client is gone or has stalled; what was open has been closed on the way here.
        except MemoryError as error:
            self._turn_away(error)
            self._leave()
        finally:
            self._front.open.discard(incoming)
            incoming.wire.close()

    def _serve_http2(self, early: bytes) -> None:
        """Go on as HTTP/2, of which this has come already."""
        from smartedge.server.http2 import Http2Connection  # late: its memory is for those who speak it

        incoming = self.incoming
        incoming.keep_alive = False
        Http2Connection(incoming, self._front, self._limits, self._sock, self.forward, self.base_environ).serve(early)

    def take_over(self) -> tuple[Wire, bytes]:
        """Hand the connection to a tunnel, with what has come behind the request: from here on its bytes are not HTTP."""
        incoming = self.incoming
        incoming.keep_alive = False
        self.writer.reset()
        self.writer.head_sent = True
        incoming.wire.on_idle = None
        early, incoming.unread = incoming.unread, b""
        return incoming.wire, early

    def _shake_hands(self) -> None:
        """Begin TLS, within head_s; raises OSError or WireTimeout when that fails, ClientError for plain HTTP."""
        incoming = self.incoming
        assert isinstance(incoming.wire, TlsWire)
        try:
            incoming.wire.handshake(self._limits.head_s)
            self._front.hooks.on_handshake(incoming.wire.resumed)
            incoming.certificate_lines = certificate_lines(incoming.wire.peer_certificate())
            incoming.certificates, incoming.tls = incoming.wire.certificates, incoming.wire.facts
            incoming.speaks_http2 = incoming.wire.protocol == "h2"
        except NotTls:
            incoming.wire = incoming.wire.without_tls()
            raise ClientError("This port speaks TLS: the URL begins with https://.") from None
        except (OSError, WireTimeout) as error:
            self._front.hooks.on_handshake(None)
            # Scanners and clients that do not trust us: nothing that an operator could mend, so no more than this.
            log.debug("TLS handshake with %s failed: %s", incoming.peer.decode("latin-1"), error)
            raise

    def base_environ(self) -> dict[str, Any]:
        """Make what the environs of all this connection's requests have in common."""
        address = self._address
        return {
            **self._front.environ,
            HANDLER: self,
            "REMOTE_ADDR": self.incoming.peer.decode("latin-1"),
            "REMOTE_PORT": str(address[1]) if isinstance(address, tuple) and len(address) > 1 else "",
            "wsgi.url_scheme": "https" if self.incoming.secure else "http",
        }

    def _answer(self, request: Request, on_moved: Callable[[], None]) -> None:
        """Have the app answer one request and send what it says. on_moved: `_on_client_moved`."""
        incoming, writer = self.incoming, self.writer
        request.interim, request.sock = self._send_interim, self._sock
        if incoming.secure:
            request.certificates, request.tls = incoming.certificates, incoming.tls
        writer.reset()
        incoming.wire.on_idle = on_moved
        try:
            try:
                give_answer(request, writer, self._front, self)
            finally:
                incoming.wire.on_idle = None
        except EdgeError as error:
            if writer.head_sent or writer.head is not None:
                writer.cut_answer()
            elif isinstance(error, ClientError):
                self._refuse(error)  # the app has read a body that is none
            else:
                self._fail()
        except (OSError, WireTimeout) as error:
            if is_own(error) and not writer.head_sent:
                self._turn_away(error)
            else:
                if writer.head_sent:
                    writer.cut_answer()
                raise
        except Exception as error:
            if is_own(error):
                self._turn_away(error)
            else:
                self._fail()
        if request.body is not None and not request.body.complete:
            incoming.keep_alive = False
        incoming.request = None

    def _on_client_moved(self) -> None:
        """The client sent, finished or left while its answer is in the making (called in the hub).

        One that has finished sending may wait for its answer, as `printf ... | nc` does, or has closed, as most: a word that
        says nothing is refused at once by the kernel of one that has closed.
        """
        incoming = self.incoming
        request = incoming.request
        if request is None or request.waiter is None:
            return
        if incoming.wire.peer_is_gone():
            incoming.keep_alive = False
            request.waiter.give_up(ClientGone())
        else:
            incoming.wire.probe_peer(self.writer.word_before_answer())

    def _leave(self) -> None:
        """Wait until a close takes nothing away from the client."""
        wire = self.incoming.wire
        if not wire.closed and not wire.may_close():
            linger(wire)

    def _refuse(self, error: ClientError) -> None:
        """Answer a request that was refused before the app answered it; the connection ends behind that."""
        incoming, hooks = self.incoming, self._front.hooks
        incoming.keep_alive = False
        if error.status == 499:
            return
        request_id = hooks.next_request_id()
        status, fields, body = problem.answer(error, request_id)
        hooks.on_refused(incoming.peer, error, request_id)
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields).encode("latin-1")
        if self._reader.wants_no_body:
            body = b""
        try:
            incoming.wire.send(
                b"HTTP/1.1 %d %b\r\n%bDate: %b\r\nConnection: close\r\n\r\n%b"
                % (status, problem.reason(status).encode(), lines, http_date(), body),
                REFUSAL_S,
            )
        except (OSError, WireTimeout):
            pass  # It is gone, and reads nothing any more.

    def _turn_away(self, error: BaseException) -> None:
        """Answer that the edge itself is short of something, if nothing has been sent yet; the connection ends behind that."""
        HOLDERS.make_room(error, "answering a request")
        self.incoming.keep_alive = False
        if self.writer.head_sent:
            self.writer.cut_answer()
            return
        self.writer.head_sent = True
        with suppress(OSError, WireTimeout):  # else it is gone, and reads nothing any more
            self.incoming.wire.send(NO_ROOM, REFUSAL_S)

    def _fail(self) -> None:
        """Answer 500 for an app that raised, if nothing has been sent yet."""
        traceback.print_exc(file=sys.stderr)
        writer = self.writer
        if writer.head_sent:
            writer.cut_answer()
            return
        self.incoming.keep_alive = False
        writer.begin_answer(500, b"500 Internal Server Error\r\n", b"Content-Type: text/plain\r\n", 22, dated=False)
        writer.write(b"Internal server error\n")
