"""One connection to a backend: a request goes out, an answer comes back, and whether the connection may be used again."""

from __future__ import annotations

import re
from collections.abc import Callable
from math import inf
from time import monotonic
from typing import Any, Final

from smartedge.balancer.errors import BackendClosed, BackendTimeout, BadAnswer, EdgeError
from smartedge.http.answer_fields import AnswerFields
from smartedge.http.answer_head import KNOWN_HEAD_BYTES, Head, Last, bare_end, find_out, like, with_crlf
from smartedge.http.chunked import ChunkedDecoder, ChunkedError, chunk, whole_body
from smartedge.http.headers import last_chunk
from smartedge.http.lent import LENT_FROM_BYTES
from smartedge.http.pipes import HEAD_BYTES, Pipe, receive
from smartedge.http.request import Body
from smartedge.http.sockets import Address
from smartedge.http.wire import RECV_BYTES, Wire, WireClosed, WireStalled, WireTimeout
from smartedge.proxy.dialer import Way
from smartedge.proxy.outbound import Told
from smartedge.proxy.upload import TOOK_NOTHING, Upload

_UPGRADE: Final = re.compile(rb"\nupgrade:[ \t]*([^\r]*?)[ \t]*\r", re.IGNORECASE)

VIEW_BYTES: Final = 65536
"""So much of a body that came with the head is not copied once more (docs/performance.md)."""

MOST_INTERIMS: Final = 100
"""Each 1xx lets the wait begin anew; a backend with no more to say than that is broken."""


class Connection:
    """Speaks HTTP/1.1 to one backend over one wire, one exchange after the other (RFC 9112); made and kept by its EdgeAdapter.

    llhttp checks every head; bodies are counted, not parsed, and chunked ones have a decoder of their own.
    way, address: how it was made, and where it leads. reused: it has served a request before. failure: why it was closed from
    elsewhere. idle_since: by the monotonic clock. on_stale: closes it, for the time that it is idle; None once it is closed.
    lends: whoever reads the answer is done with a piece before asking for the next: `read` may give a memoryview then, which is
    to be given back (http/lent.py). pipes: who reads it sends it by a plain wire, and it may be a Pipe, too (http/pipes.py).
    doubtful: the last answer had no body by the rules (HEAD, 204, 304), and there are backends that send one all the same.
    """

    __slots__ = (
        "_chunked",
        "_head_read",
        "_known",
        "_known_head",
        "_last",
        "_left",
        "_piece",
        "_rest",
        "_upload",
        "address",
        "complete",
        "doubtful",
        "failure",
        "fields",
        "head_bytes",
        "idle_since",
        "lends",
        "on_stale",
        "pipes",
        "reused",
        "status",
        "status_line",
        "switched_to",
        "version",
        "way",
        "wire",
    )

    fields: AnswerFields

    def __init__(self, wire: Wire, way: Way, address: Address | None) -> None:
        self.wire = wire
        self.way = way
        self.address = address
        self.reused = self.doubtful = False
        self.failure: EdgeError | None = None
        self.idle_since = 0.0
        self._upload: Upload | None = None
        self._rest = b""
        self._head_read = RECV_BYTES
        self._known: Head | None = None  # what the last head says, if it may come again
        self._known_head = b""
        self._last: Last | None = None  # the one that heads of this backend are like
        # Made once: a bound method takes as long as a call (docs/performance.md).
        self.on_stale: Callable[[], None] | None = self.close

    # ---- the request ----

    def send(
        self,
        head: bytes,
        body: Body | None,
        send_s: float,
        first_byte_s: float,
        on_sent: Callable[[], None] | None = None,
        at_once: bool = False,
    ) -> None:
        """Send a request head and begin with its body; a body that is still arriving is sent on by a greenlet of its own.

        send_s: the longest that the backend may refuse to take bytes. first_byte_s: see `receive`. on_sent: called when such
        a body is out. at_once: not with all else that this round of the event loop has to say.
        Raises BackendTimeout; a connection that breaks here is found out by `receive`, because the answer may be there already.
        """
        self.failure = None
        self._upload = None
        wire = self.wire
        wire.unsent = False
        send = wire.send_now if at_once else wire.send
        try:
            if body is None:
                send(head, send_s)
                return
            whole = body.buffered()
            if whole is not None:
                if body.length is None:
                    whole = (chunk(whole) if whole else b"") + last_chunk(body.trailers)
                send(head + whole, send_s)
                return
            wire.send_now(head, send_s)  # of a body that goes out to nobody too much would be lost for another try
        except WireTimeout as error:
            raise BackendTimeout(TOOK_NOTHING) from error
        except OSError:
            return
        self._upload = Upload(wire, body, send_s, first_byte_s, on_sent, self.fail)
        self._upload.start()

    # ---- the answer ----

    def receive(
        self,
        bodiless: bool,
        first_byte_s: float,
        limit_bytes: int,
        told: Told | None,
        upgrade: bool,
    ) -> None:
        """Wait for the answer's head; then status, status_line, version and fields are set and `read` gives the body.

        After a 101, `switched_to` is set instead, the value of its Upgrade fields, and `take_rest` gives what came with it.

        bodiless: it answers a HEAD. first_byte_s: how long the whole head may take, counted from the last byte of the request.
        limit_bytes: of the head. told: is told of every 1xx but 101. upgrade: a 101 is welcome.
        Raises BackendClosed when nothing came, BadAnswer or BackendTimeout; the connection is of no use then.
        """
        data = self._rest
        self._rest = b""
        started = monotonic()
        interims = 0
        while True:
            if not data:
                data = self._more(data, first_byte_s if self._upload is None or self._upload.done else inf)
            known = self._known
            if known is not None and data.startswith(self._known_head):
                end = len(self._known_head)  # the first empty line is this one's
            else:
                known = None
                end = data.find(b"\r\n\r\n") + 4
                if end < 4:
                    data, end = self._rest_of_head(data, started + first_byte_s, limit_bytes)
            if end > limit_bytes:
                raise BadAnswer(f"The answer's head is longer than {limit_bytes} bytes.")
            if known is None:
                last = self._last
                if last is not None and (known := like(last, data, end)) is not None:
                    # Of one that has come twice in a row it is looked for whether it comes again.
                    self._known = None
                    if known[3].block == self.fields.block:
                        self._known, self._known_head = known, data[:end]
                else:
                    data, end, known, self._last = find_out(data, end, last)
                    self._known = None
                    if end <= KNOWN_HEAD_BYTES:
                        self._known, self._known_head = known, data[:end]
            self.status, self.status_line, self.version, self.fields = known
            if self.status >= 200:
                break
            if self.status == 101:
                if not upgrade:
                    raise BadAnswer("The backend switched protocols without being asked to.")
                if self._is_uploading():
                    raise BadAnswer("The backend switched protocols before it had the whole request.")
                self.switched_to = b", ".join(_UPGRADE.findall(data, 0, end))
                break
            interims += 1
            if interims > MOST_INTERIMS:
                raise BadAnswer(f"The backend sent more than {MOST_INTERIMS} interim answers and no final one.")
            if told is not None:
                told.pass_interim(self.status, self.status_line, self.fields)
            data = data[end:]
        self.head_bytes = end
        rest: bytes | memoryview = b""
        if len(data) > end:
            rest = data[end:] if len(data) - end < VIEW_BYTES else memoryview(data)[end:]
        self._frame(bodiless, rest)

    def _rest_of_head(self, data: bytes, until: float, limit_bytes: int) -> tuple[bytes, int]:
        """Wait for the rest of a head that has begun; give all that has come, and where the head ends in it.

        until: when it has to be complete, by the monotonic clock. Raises as `receive` does.
        """
        while True:
            if bare := bare_end(data):
                data = with_crlf(data, bare)
                return data, data.index(b"\r\n\r\n") + 4
            if len(data) > limit_bytes:
                raise BadAnswer(f"The answer's head is longer than {limit_bytes} bytes.")
            if data[:7] != b"HTTP/1."[: len(data)]:
                raise BadAnswer("The backend's answer is not HTTP/1.1.")
            scanned = max(0, len(data) - 3)
            data += self._more(data, inf if self._is_uploading() else until - monotonic())
            end = data.find(b"\r\n\r\n", scanned)
            if end >= 0:
                return data, end + 4

    def _is_uploading(self) -> bool:
        """Whether the body still goes out: when it is done, the upload sets the deadline of the wait for the answer's head."""
        return self._upload is not None and not self._upload.done

    def _more(self, data: bytes, timeout_s: float) -> bytes:
        """Wait for more of the head, of which `data` has come; raises BackendTimeout, BackendClosed, BadAnswer, or `failure`."""
        try:
            more = self.wire.recv(timeout_s, self._head_read)
        except WireStalled as error:
            raise BackendTimeout(TOOK_NOTHING) from error
        except WireTimeout as error:
            raise BackendTimeout("The backend did not answer in time.") from error
        except WireClosed:
            raise self.failure or BackendClosed("The connection was closed while waiting for an answer.") from None
        except OSError as error:
            if self.failure is not None:
                raise self.failure from None
            if data:
                raise BadAnswer("The backend broke the connection in the middle of the answer's head.") from error
            raise self._closed(f"The backend broke the connection: {error.strerror or error}.") from error
        if not more:
            if data:
                raise BadAnswer("The backend closed the connection in the middle of the answer's head.")
            raise self._closed("The backend closed the connection without an answer.")
        return more

    def _closed(self, detail: str) -> BackendClosed:
        """Say that no answer came; to a request of which not a byte went out, none could."""
        return BackendClosed(detail, sent=not self.wire.unsent)

    def _frame(self, bodiless: bool, rest: bytes | memoryview) -> None:
        """Find out where the body ends (RFC 9112 section 6.3) and take what of it came with the head."""
        fields, status = self.fields, self.status
        self._chunked: ChunkedDecoder | None = None
        self._piece: bytes | memoryview = b""  # of the body, that has come and was not read yet
        self._left = 0  # body bytes to come; -1: until the backend closes
        self.lends = self.pipes = False
        if status == 101:
            self._rest = bytes(rest)
            self.complete = False
            return
        self.doubtful = bodiless or status in (204, 304)
        if self.doubtful:
            self.complete = True
            if rest:
                self._spoil()
            return
        if fields.chunked is not None:
            if fields.chunked.strip(b" \t") != b"chunked" or self.version == 10:
                raise BadAnswer("The backend's answer has a transfer coding that is not understood.")
            whole = whole_body(data := bytes(rest))
            self.complete = whole is not None
            if whole is not None:
                self._piece = whole
                return
            self._chunked = ChunkedDecoder(from_backend=True)
            if data:
                self._take(data)
        elif fields.content_length is not None:
            length = fields.content_length
            self._head_read = RECV_BYTES if length < LENT_FROM_BYTES else HEAD_BYTES
            self._left = length - len(rest)
            self.complete = self._left <= 0
            if self._left < 0:
                rest = rest[:length]
                self._spoil()
            if rest:
                self._piece = rest
                if self._left >= LENT_FROM_BYTES and type(self.wire) is Wire:
                    self.wire.readable = True  # there is more, most likely: it is tried at once
        else:
            self._left = -1
            self.complete = False
            self._piece = rest

    def _spoil(self) -> None:
        """Bytes came that belong to no answer: the next client must not get them."""
        self._left = -1

    @property
    def at_hand(self) -> bool:
        """Whether `read` would not have to wait."""
        return self.complete or bool(self._piece)

    def read(self, idle_s: float) -> bytes | memoryview | Pipe:
        """Wait for the next piece of the body; b"" at its end. Raises BadAnswer when it is cut, BackendTimeout after `idle_s`."""
        if self._piece:
            here, self._piece = self._piece, b""
            return here if self.lends or type(here) is bytes else bytes(here)
        if self._left >= LENT_FROM_BYTES and self.lends and type(self.wire) is Wire:
            piece: bytes | memoryview | Pipe = self._count(self._wait(idle_s, lent=True))
            return piece
        while not self.complete:
            data = self._wait(idle_s)
            if data:
                self._take(data)
            if self._piece:
                return self.read(idle_s)
        return b""

    def _wait(self, idle_s: float, *, lent: bool = False) -> Any:
        """Receive bytes of the body, nothing at the end of one that the connection ends. lent: see `lends`."""
        try:
            data = receive(self.wire, idle_s, by_pipe=self.pipes) if lent else self.wire.recv(idle_s)
        except WireTimeout as error:
            raise BackendTimeout("The backend stopped in the middle of its answer.") from error
        except OSError as error:
            raise self.failure or BadAnswer("The backend broke the connection in mid-answer.") from error
        if not data:
            if self._left != -1:
                raise self.failure or BadAnswer("The backend closed the connection in mid-answer.")
            self.complete = True
        return data

    def _take(self, data: bytes) -> None:
        """Take in bytes of the body; raises BadAnswer for chunks that are none."""
        if self._chunked is not None:
            try:
                decoded = self._chunked.feed(data)
            except ChunkedError as error:
                raise BadAnswer(f"The backend's chunked answer is malformed: {error}.") from error
            if decoded:
                self._piece = b"".join(decoded)
            if self._chunked.complete:
                self.complete = True
                if self._chunked.rest:
                    self._spoil()
        elif self._left == -1:
            self._piece = data
        else:
            self._piece = self._count(data)

    def _count(self, data: Any) -> Any:
        """Count bytes of a body whose length is known; give those that belong to it."""
        left = self._left
        self._left -= len(data)
        if self._left < 0:
            if isinstance(data, Pipe):
                data.cut(left)
            else:
                data = data[:left]
            self._spoil()
        if self._left <= 0:
            self.complete = True
        return data

    @property
    def trailers(self) -> list[tuple[bytes, bytes]]:
        """The answer's trailer fields, known once it is complete."""
        return self._chunked.trailers if self._chunked is not None else []

    def take_rest(self) -> bytes:
        """Give what came behind the head of a 101: the first bytes of the new protocol."""
        rest, self._rest = self._rest, b""
        return rest

    def reusable(self) -> bool:
        """Whether another request may go out on this connection (RFC 9112 section 9.3)."""
        if not self.complete or self._left < 0 or self.wire.closed or self.wire.readable:
            return False
        if self._upload is not None and not self._upload.done:
            return False
        persists = self.fields.persists
        return self.version == 11 if persists is None else persists

    def fail(self, error: EdgeError) -> None:
        """Close the connection, and have whoever waits for its answer told why."""
        self.failure = error
        self.wire.close()

    def close(self) -> None:
        """Close the connection and end an upload that still goes on, which is waited for.

        Whoever waits may be ended meanwhile, or be told that another try was faster (hedge.py): it is closed all the same.
        """
        try:
            if self._upload is not None and not self._upload.done:
                self._upload.abandon()
        finally:
            self.wire.close()
            self.on_stale = None  # it holds this
