"""One client's connection: has its requests answered in order and writes the answers in one piece.

A `Request` that `reader` has read becomes a lean environ, the app answers, bytes go out.
"""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from gevent.pywsgi import WSGIHandler

from smartedge.balancer.errors import ClientError, EdgeError
from smartedge.http import problem
from smartedge.http.chunked import chunk
from smartedge.http.environ_keys import HANDLER, REQUEST
from smartedge.http.headers import http_date, last_chunk, without_length
from smartedge.http.lingering import linger
from smartedge.http.request import Request
from smartedge.http.tls_wire import NotTls, TlsWire
from smartedge.http.wire import Wire, WireTimeout
from smartedge.server.reader import RequestReader
from smartedge.server.wsgi import complete_environ

if TYPE_CHECKING:
    from smartedge.server.server import EdgeServer

log = logging.getLogger(__name__)

REFUSAL_S = 1.0
"""How long a client may take to receive the answer to what is no request, in seconds."""


class EdgeHandler(RequestReader, WSGIHandler):  # type: ignore[misc]
    """One client connection: reads requests, has the app answer them in order, keeps alive."""

    def __init__(self, sock: Any, address: Any, server: EdgeServer) -> None:  # the stock one makes a buffered file
        self.server = server
        self.socket = sock
        self.client_address = address
        tls = server.tls()
        wire: Wire = Wire(sock) if tls is None else TlsWire(sock, tls, server_side=True)
        peer = address[0].encode("latin-1") if isinstance(address, tuple) and address else b"unix"
        RequestReader.__init__(self, wire, server.limits, peer.removeprefix(b"::ffff:"), tls is not None)
        self.lean = getattr(server.application, "takes_lean_environ", False)

    @property
    def stopping(self) -> bool:
        """Whether the server takes no more requests."""
        return self.server.stopping

    def base_environ(self) -> dict[str, Any]:
        """Make what the environs of all this connection's requests have in common."""
        address = self.client_address
        return {
            **self.server.environ,
            "REMOTE_ADDR": self.peer.decode("latin-1"),
            "REMOTE_PORT": str(address[1]) if isinstance(address, tuple) and len(address) > 1 else "",
            "wsgi.url_scheme": "https" if self.secure else "http",
        }

    # ---- the connection ----

    trailers: Sequence[tuple[bytes, bytes]] = ()
    """Trailer fields for the end of the answer that is being sent, if it is chunked."""

    def handle(self) -> None:
        """Serve requests until the client or the server has had enough; called once by the server."""
        server = self.server
        server.handlers.add(self)
        try:
            if self.secure:
                self.shake_hands()
            while self.keep_alive:
                request = self.read_request()
                if request is None:
                    break
                self.answer(request)
            self.leave()
        except ClientError as error:
            self.refuse(error)
            self.leave()
        except (OSError, WireTimeout):
            pass  # The client is gone or has stalled; what was open has been closed on the way here.
        finally:
            server.handlers.discard(self)
            self.wire.close()

    def leave(self) -> None:
        """Wait until a close takes nothing away from the client."""
        if not self.wire.closed and not self.wire.may_close():
            linger(self.wire)

    def shake_hands(self) -> None:
        """Begin TLS, within head_s; raises OSError or WireTimeout when that fails, ClientError for plain HTTP."""
        assert isinstance(self.wire, TlsWire)
        try:
            self.wire.handshake(self.limits.head_s)
        except NotTls:
            self.wire = self.wire.without_tls()
            raise ClientError("This port speaks TLS: the URL begins with https://.") from None
        except (OSError, WireTimeout) as error:
            # Scanners and clients that do not trust us: nothing that an operator could mend, so no more than this.
            log.debug("TLS handshake with %s failed: %s", self.peer.decode("latin-1"), error)
            raise

    # ---- the answer ----

    def answer(self, request: Request) -> None:
        """Have the app answer one request and send what it says."""
        environ: dict[str, Any] = {REQUEST: request, HANDLER: self}
        app = self.server.application
        request.interim, request.sock = self.send_interim, self.socket
        if not self.lean:
            complete_environ(environ)
        self.headers_sent = False
        self.wire.on_idle = self._on_client_moved
        result: Any = None
        self.head: bytes | None = None
        try:
            try:
                result = app(environ, self.start_response)
                for piece in result:
                    if piece:
                        self.write(piece)
                    elif self.head is not None:
                        self.flush_head()
                self.finish()
            finally:
                self.wire.on_idle = None
                if result is not None and hasattr(result, "close"):
                    result.close()
        except EdgeError as error:
            if self.headers_sent or self.head is not None:
                self._cut()
            elif isinstance(error, ClientError):
                self.refuse(error)  # the app has read a body that is none
                return
            else:
                self._fail()
        except (OSError, WireTimeout):
            if self.headers_sent:
                self._cut()
            raise
        except Exception:
            self._fail()
        if self.client_body is not None and not self.client_body.complete:
            self.keep_alive = False
        self.request = None

    def start_response(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], None]:
        """Take status and header fields as PEP 3333 has it; raises ValueError for what would break the wire."""
        if exc_info and self.headers_sent:
            raise exc_info[1].with_traceback(exc_info[2])
        lines = []
        length = None
        for name, value in headers:
            line = f"{name}: {value}"
            if "\r" in line or "\n" in line or "\0" in line:
                raise ValueError("a header field holds a line break")
            low = name.lower()
            if low == "content-length":
                length = int(value)
            elif low == "connection":
                self.keep_alive = self.keep_alive and "close" not in value.lower()
                continue
            lines.append(line + "\r\n")
        if "\r" in status or "\n" in status:
            raise ValueError("the status holds a line break")
        dated = any(name.lower() == "date" for name, _ in headers)
        self.begin(int(status[:3]), status.encode("latin-1") + b"\r\n", "".join(lines).encode("latin-1"), length, dated)
        return self.write

    def begin(self, status: int, status_line: bytes, block: bytes, length: int | None, dated: bool) -> None:
        """Prepare an answer's head: it goes out together with the first bytes of the body.

        status_line: code and reason, `200 OK CRLF`. block: `name: value CRLF` each, without hop-by-hop fields.
        length: of the body, None when it is not known beforehand.
        dated: there is a Date among them, else one is added (RFC 9110 section 6.6.1).
        """
        request = self.request
        assert request is not None
        self.chunking = False
        self.status_code = status
        self.left = length
        parts = [b"HTTP/1.1 ", status_line, block]
        if not dated:
            parts.append(b"Date: %b\r\n" % http_date())
        if request.method == b"HEAD" or status in (204, 304):
            self.left = 0
        elif length is None:
            if request.version == 11:
                self.chunking = True
                parts.append(b"Transfer-Encoding: chunked\r\n")
            else:
                self.keep_alive = False
        if self.keep_alive and (self.server.stopping or (self.client_body is not None and not self.client_body.complete)):
            self.keep_alive = False
        option = b"close" if not self.keep_alive else b"keep-alive" if request.version == 10 else b""
        if status == 426 and b"\nupgrade:" in b"\n" + block.lower():  # RFC 9110 section 7.8: whoever sends it names it
            option = b"%b, Upgrade" % option if option else b"Upgrade"
        if option:
            parts.append(b"Connection: %b\r\n" % option)
        parts.append(b"\r\n")
        self.head = b"".join(parts)

    def write(self, piece: bytes) -> None:
        """Send a piece of the body, the head before the first; raises OSError or WireTimeout when the client is gone."""
        left = self.left
        if left is not None and len(piece) > left:
            if left == 0 and (self.request is None or self.request.method == b"HEAD" or self.status_code in (204, 304)):
                return  # The app gave a body where HTTP has none.
            piece = piece[:left]
        if self.chunking:
            piece = chunk(piece)
        elif left is not None:
            self.left = left - len(piece)
        head = self.head
        if head is not None:
            self.head = None
            self.headers_sent = True
            piece = head + piece if len(piece) < 65536 else self._send_head(head, piece)
        self.wire.send(piece, self.limits.idle_s)

    def _send_head(self, head: bytes, piece: bytes) -> bytes:
        self.wire.send(head, self.limits.idle_s)
        return piece

    def flush_head(self) -> None:
        """Send the head alone: the app has said that the body will be some time (PEP 3333: an empty piece)."""
        head, self.head = self.head, None
        if head is not None:
            self.headers_sent = True
            self.wire.send(head, self.limits.idle_s)

    def finish(self) -> None:
        """Send what is still missing of a complete answer."""
        head, self.head = self.head, None
        tail = b""
        if self.chunking:
            tail = last_chunk(self.trailers)
            self.trailers = ()
        if head is not None:
            self.headers_sent = True
            self.wire.send(head + tail, self.limits.idle_s)
        elif tail:
            self.wire.send(tail, self.limits.idle_s)
        if self.left:
            self.keep_alive = False  # Less than Content-Length promised: only the close can say so.

    def send_interim(self, status: int, status_line: bytes, block: bytes) -> None:
        """Pass a 1xx on, to clients that know them (RFC 9110 section 15.2)."""
        request = self.request
        if request is None or request.version == 10 or self.headers_sent:
            return
        if status == 100:
            if not request.expects_continue:
                return
            request.expects_continue = False
        self.wire.send(b"HTTP/1.1 %b%b\r\n" % (status_line, without_length(block)), self.limits.idle_s)

    def take_over(self) -> Wire:
        """Hand the connection to a tunnel: from here on its bytes are not HTTP."""
        self.keep_alive = False
        self.headers_sent = True
        self.head = None
        self.chunking = False
        self.left = None
        self.wire.on_idle = None
        return self.wire

    def _on_client_moved(self) -> None:
        """The client sent, finished or left while its answer is in the making (called in the hub).

        One that has finished sending is answered (RFC 9112 section 9.6); if it has closed, a write or the kernel will tell.
        """
        request = self.request
        if request is None or request.on_gone is None:
            return
        if self.wire.peer_is_gone():
            self.keep_alive = False
            request.on_gone()
        else:
            self.wire.probe_peer()

    # ---- what goes wrong ----

    def refuse(self, error: ClientError) -> None:
        """Answer a request that was refused before the app saw it, and close."""
        self.keep_alive = False
        if error.status == 499:
            return
        request_id = self.server.next_request_id()
        status, fields, body = problem.answer(error, request_id)
        self.server.on_refused(self, error, request_id)
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields).encode("latin-1")
        if self.wants_no_body:
            body = b""
        try:
            self.wire.send(
                b"HTTP/1.1 %d %b\r\n%bDate: %b\r\nConnection: close\r\n\r\n%b"
                % (status, problem.reason(status).encode(), lines, http_date(), body),
                REFUSAL_S,
            )
        except (OSError, WireTimeout):
            pass  # It is gone, and reads nothing any more.

    def _cut(self) -> None:
        """End an answer that can't be completed so that the client can tell: never with a clean end."""
        self.keep_alive = False
        if not self.wire.closed and not self.chunking and self.left is None:
            # Closing is how this answer ends anyway; only a reset says that it is not complete.
            self.wire.break_off()
            self.wire.close()  # now: ending gently, for what of the request still comes, would look like the answer's own end

    def _fail(self) -> None:
        """Answer 500 for an app that raised, if nothing has been sent yet."""
        traceback.print_exc(file=sys.stderr)
        if self.headers_sent:
            self._cut()
            return
        self.keep_alive = False
        self.begin(500, b"500 Internal Server Error\r\n", b"Content-Type: text/plain\r\n", 22, dated=False)
        self.write(b"Internal server error\n")
