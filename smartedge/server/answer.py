"""An answer on its way to the client: its head goes out together with the first bytes of its body."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from smartedge.http.chunked import chunk
from smartedge.http.date import http_date
from smartedge.http.headers import last_chunk, without_length
from smartedge.http.pipes import Pipe
from smartedge.http.pipes import send as send_piped
from smartedge.http.wire import Wire
from smartedge.server.front import Front
from smartedge.server.incoming import Incoming

TOGETHER_BYTES: Final = 65536
"""A piece that is smaller is sent in one write with the head; copying a larger one would cost more than the write."""


class AnswerWriter:
    """Writes the answers to one client's requests, one after the other; owned by its `EdgeHandler`.

    Called by the handler, by the app as PEP 3333 has it (`start_response`, which returns `write`), and by the exchange
    (proxy/exchange.py), which has the header fields as bytes (`begin_answer`, `write`). Every method that sends raises OSError
    or WireTimeout when the client is gone, or takes nothing for `idle_s`.

    head: of an answer that has begun and of which nothing has been sent, else None. head_sent: something has been.
    trailers: the fields to go behind this answer's body, if it is chunked.
    """

    __slots__ = ("_chunking", "_front", "_hsts", "_idle_s", "_incoming", "_left", "head", "head_sent", "trailers")

    def __init__(self, incoming: Incoming, front: Front, idle_s: float) -> None:
        self._incoming = incoming
        self._front = front
        self._idle_s = idle_s
        self._hsts = front.hooks.hsts() if incoming.secure else b""  # RFC 6797 section 7.2: over TLS alone
        self.reset()

    def reset(self) -> None:
        """Be ready for the answer to the next request."""
        self.head: bytes | None = None
        self.head_sent = False
        self.trailers: Sequence[tuple[bytes, bytes]] = ()
        self._chunking = False
        self._left: int | None = None

    # ---- the head ----

    def _missing(self, block: bytes, dated: bool) -> bytes:
        """Give what these lines lack and every answer has: Date (RFC 9110 section 6.6.1), and HSTS if on (RFC 6797)."""
        date = b"" if dated else b"Date: %b\r\n" % http_date()
        if not self._hsts or b"\nstrict-transport-security:" in b"\n" + block.lower():
            return date
        return date + self._hsts

    def start_response(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], None]:
        """Take status and header fields as PEP 3333 has it; raises ValueError for what would break the wire."""
        if exc_info and self.head_sent:
            raise exc_info[1].with_traceback(exc_info[2])
        incoming = self._incoming
        lines = []
        length = None
        dated = False
        for name, value in headers:
            line = f"{name}: {value}"
            if "\r" in line or "\n" in line or "\0" in line:
                raise ValueError("a header field holds a line break")
            low = name.lower()
            if low == "content-length":
                length = int(value)
            elif low == "date":
                dated = True
            elif low == "connection":
                incoming.keep_alive = incoming.keep_alive and "close" not in value.lower()
                continue
            lines.append(line + "\r\n")
        if "\r" in status or "\n" in status:
            raise ValueError("the status holds a line break")
        self.begin_answer(int(status[:3]), status.encode("latin-1") + b"\r\n", "".join(lines).encode("latin-1"), length, dated)
        return self.write

    def begin_answer(
        self,
        status: int,
        status_line: bytes,
        block: bytes,
        length: int | None,
        dated: bool,
        body: bytes | memoryview | None = None,
        added: bytes = b"",
    ) -> None:
        """Make an answer's head, which goes out with the first bytes of its body.

        status_line: code and reason, `200 OK CRLF`. block, added: `name: value CRLF` each, without hop-by-hop fields.
        length: of the body, None when it is not known beforehand.
        dated: there is a Date among them, else one is added (RFC 9110 section 6.6.1). body: all of it, where
        it is here already: then the answer is sent and finished, too.
        """
        incoming = self._incoming
        request = incoming.request
        assert request is not None
        self._chunking = False
        self._left = length
        parts: list[bytes | memoryview] = [b"HTTP/1.1 ", status_line, block, added]
        if not dated or self._hsts:
            parts.append(self._missing(block, dated))
        if request.method == b"HEAD" or status in (204, 304):
            self._left = 0
        elif length is None:
            if request.version == 11:
                self._chunking = True
                parts.append(b"Transfer-Encoding: chunked\r\n")
            else:
                incoming.keep_alive = False
        if incoming.keep_alive and (self._front.stopping or (request.body is not None and not request.body.complete)):
            incoming.keep_alive = False
        option = b"close" if not incoming.keep_alive else b"keep-alive" if request.version == 10 else b""
        if status == 426 and b"\nupgrade:" in b"\n" + block.lower():  # RFC 9110 section 7.8: whoever sends it names it
            option = b"%b, Upgrade" % option if option else b"Upgrade"
        if option:
            parts.append(b"Connection: %b\r\n" % option)
        parts.append(b"\r\n")
        if body is not None and len(body) < TOGETHER_BYTES and (self._chunking or self._left == len(body)):
            # Most answers: head, body and what ends it are joined once.
            if self._chunking:
                parts += (chunk(body), last_chunk(self.trailers)) if body else (last_chunk(self.trailers),)
            else:
                parts.append(body)
                self._left = 0
            self.head_sent = True
            incoming.wire.send(b"".join(parts), self._idle_s)
            return
        self.head = b"".join(parts)
        if body is not None:
            self._give_whole(body)

    def send_interim(self, status: int, status_line: bytes, block: bytes) -> None:
        """Pass a 1xx on, to clients that know them (RFC 9110 section 15.2)."""
        if self._takes_interim(status):
            self._incoming.wire.send(b"HTTP/1.1 %b%b\r\n" % (status_line, without_length(block)), self._idle_s)

    def word_before_answer(self) -> bytes:
        """Give what a client may be sent before its answer at any time (RFC 9110 section 15.2); b"" when nothing may."""
        request = self._incoming.request
        if request is None or request.version == 10 or self.head_sent or self.head is not None:
            return b""
        return b"HTTP/1.1 100 Continue\r\n\r\n"

    def _takes_interim(self, status: int) -> bool:
        """Whether the client may have this 1xx now; a 100 it gets once, if it waits for one."""
        request = self._incoming.request
        if request is None or request.version == 10 or self.head_sent:
            return False
        if status == 100:
            if not request.expects_continue:
                return False
            request.expects_continue = False
        return True

    # ---- the body ----

    @property
    def takes_pipes(self) -> bool:
        """Whether `write` takes Pipes (http/pipes.py): the client has a plain wire, and the body a length."""
        return self._left is not None and type(self._incoming.wire) is Wire

    def write(self, piece: bytes | memoryview | Pipe) -> None:
        """Send a piece of the body; what is beyond the answer's length is left out."""
        left = self._left
        if isinstance(piece, Pipe):
            assert left is not None
            self._left = left - len(piece)
            self.send_head()
            send_piped(self._incoming.wire, piece, self._idle_s)
            return
        if left is not None:
            if len(piece) > left:
                piece = piece[:left]
                if not piece:
                    return  # HTTP has no body here (HEAD, 204, 304), or no more of it.
            self._left = left - len(piece)
        elif self._chunking:
            piece = chunk(piece)
        self._send(piece)

    def send_head(self) -> None:
        """Send the head alone: the app has said that the body will be some time (PEP 3333: an empty piece)."""
        if self.head is not None:
            self._send(b"")

    def _give_whole(self, body: bytes | memoryview) -> None:
        """Send the whole body of an answer that has begun, and what ends it."""
        if body:
            self.write(body)
        self.finish_answer()

    def finish_answer(self) -> None:
        """Send what is still missing of a complete answer."""
        tail = last_chunk(self.trailers) if self._chunking else b""
        if tail or self.head is not None:
            self._send(tail)
        if self._left:
            self._incoming.keep_alive = False  # Less than Content-Length promised: only the close can say so.

    def cut_answer(self) -> None:
        """End an answer that can't be completed so that the client can tell: never with a clean end."""
        incoming = self._incoming
        incoming.keep_alive = False
        if not incoming.wire.closed and not self._chunking and self._left is None:
            # Closing is how this answer ends anyway; only a reset says that it is not complete.
            incoming.wire.break_off()
            incoming.wire.close()  # now: ending gently, for what of the request still comes, would look like the answer's own end

    def _send(self, data: bytes | memoryview) -> None:
        """Send bytes as they are, the head before the first."""
        wire = self._incoming.wire
        head = self.head
        if head is not None:
            self.head = None
            self.head_sent = True
            if len(data) < TOGETHER_BYTES:
                data = head + data
            else:
                wire.send(head, self._idle_s)
        wire.send(data, self._idle_s)
