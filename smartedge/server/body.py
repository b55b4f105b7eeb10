"""A request body as the client sends it: counted or chunked, one piece at a time, never more of it in memory than one read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from smartedge.balancer.errors import ClientError, ClientGone, ClientTimeout, PayloadTooLarge
from smartedge.http.chunked import ChunkedDecoder, ChunkedError
from smartedge.http.lent import LENT_FROM_BYTES
from smartedge.http.pipes import Pipe, give_back, receive
from smartedge.http.wire import Wire, WireTimeout
from smartedge.server.front import ServerLimits
from smartedge.server.incoming import Incoming

Received = TypeVar("Received", bound=bytes | memoryview | Pipe)

CONTINUE_WAIT_S = 1.0
"""How long a client that sent `Expect: 100-continue` waits for the backend's word before it is asked to go on anyway."""


def check_length(length: int | None, most_bytes: int) -> None:
    """Raise PayloadTooLarge for a body that is longer; length: said or received so far, None where nobody has said it."""
    if length is not None and length > most_bytes:
        raise PayloadTooLarge(f"The request body is longer than {most_bytes} bytes.")


class ClientBody:
    """A request's body, read from its client's connection; made by the `RequestReader`, read by the exchange. See http.Body.

    Here is what both kinds share: the connection, the limit, the expectation.
    """

    trailers: Sequence[tuple[bytes, bytes]] = ()

    __slots__ = ("_idle_s", "_incoming", "_limit_bytes", "complete", "length", "received_bytes")

    def __init__(self, incoming: Incoming, length: int | None, limits: ServerLimits) -> None:
        self._incoming = incoming
        self._idle_s = limits.idle_s
        self._limit_bytes = limit_bytes = limits.body_bytes
        self.length = length
        self.complete = False
        self.received_bytes = 0
        if limit_bytes:
            self.limit(limit_bytes)

    def limit(self, most_bytes: int) -> None:
        """Take no more than so many bytes; see Body.limit."""
        self._limit_bytes = most_bytes
        check_length(self.length, most_bytes)

    def buffered(self) -> bytes | None:
        """Give the whole body if it came with the head; see Body.buffered."""
        raise NotImplementedError

    def read(self) -> bytes:
        """Give the next piece; see Body.read."""
        raise NotImplementedError

    def lend(self, by_pipe: bool = False) -> bytes | memoryview | Pipe:
        """Give the next piece, good until the next one is asked for; see Body.lend."""
        return self.read()

    def _receive(self) -> bytes:
        """Take what lies behind the head, or wait for more."""
        incoming = self._incoming
        data, incoming.unread = incoming.unread, b""
        if data:
            return data
        request = incoming.request
        if request is not None and request.expects_continue:
            try:
                data = incoming.wire.recv(CONTINUE_WAIT_S)
            except WireTimeout:
                assert request.interim is not None
                request.interim(100, b"100 Continue\r\n", b"")
            except OSError:
                pass  # the next read finds its end, too
            if data:
                return data
        return self._wait(lambda wire, idle_s: wire.recv(idle_s))

    def _wait(self, receive: Callable[[Wire, float], Received]) -> Received:
        """Receive bytes; the end of the connection here is the end of the client."""
        data: Received | None
        try:
            data = receive(self._incoming.wire, self._idle_s)
        except WireTimeout:
            raise ClientTimeout(f"The request body stopped for {self._idle_s:g} s.") from None
        except OSError:
            data = None
        if not data:
            self._incoming.keep_alive = False
            raise ClientGone("The client left in the middle of its request.")
        return data


class LengthBody(ClientBody):
    """A ClientBody with a Content-Length (RFC 9112 section 6.2); the bytes go through untouched.

    _lent: the last piece, if that was lent.
    """

    __slots__ = ("_lent",)

    length: int

    def __init__(self, incoming: Incoming, length: int, limits: ServerLimits) -> None:
        super().__init__(incoming, length, limits)
        self._lent: memoryview | Pipe | None = None

    def buffered(self) -> bytes | None:
        """Give the whole body if it came with the head."""
        if self.received_bytes or len(self._incoming.unread) < self.length:
            return None
        return self.read()

    def read(self) -> bytes:
        """Give the next piece; see Body.read."""
        if self.complete:
            return b""
        data = self._receive()
        left = self.length - self.received_bytes
        if len(data) > left:
            self._incoming.unread = data[left:]
            data = data[:left]
        self._count(len(data))
        return data

    def lend(self, by_pipe: bool = False) -> bytes | memoryview | Pipe:
        """Give the next piece, good until the next one is asked for; see Body.lend."""
        lent = self._lent
        if lent is not None:
            give_back(lent)
            self._lent = None
        incoming, left = self._incoming, self.length - self.received_bytes
        request = incoming.request
        may_wait = request is not None and request.expects_continue  # for a 100, which `read` knows about
        if left < LENT_FROM_BYTES or incoming.unread or may_wait or type(incoming.wire) is not Wire:
            return self.read()
        if lent is None:
            incoming.wire.readable = True  # there is something already, most likely: it is tried at once
        data = self._wait(lambda wire, idle_s: receive(wire, idle_s, left, by_pipe=by_pipe))
        if not isinstance(data, bytes):
            self._lent = data
        self._count(len(data))
        return data

    def _count(self, size: int) -> None:
        self.received_bytes += size
        if self.received_bytes == self.length:
            self.complete = True


class ChunkedBody(ClientBody):
    """A chunked ClientBody (RFC 9112 section 7.1), decoded on the way."""

    __slots__ = ("_decoder", "_pieces")

    @property
    def trailers(self) -> Sequence[tuple[bytes, bytes]]:  # type: ignore[override]
        """The fields behind it, once it is complete."""
        return self._decoder.trailers

    def __init__(self, incoming: Incoming, limits: ServerLimits) -> None:
        super().__init__(incoming, None, limits)
        self._decoder = ChunkedDecoder()
        self._pieces: list[memoryview] = []

    def buffered(self) -> bytes | None:
        """Give the whole body if it came with the head."""
        if self.received_bytes:
            return None
        if self._incoming.unread and not self._pieces:
            self._decode(self._receive())
        if not self._decoder.complete:
            return None
        return self.read()

    def read(self) -> bytes:
        """Give the next piece; see Body.read."""
        while not self._pieces and not self._decoder.complete:
            self._decode(self._receive())
        pieces, self._pieces = self._pieces, []
        self.complete = self._decoder.complete
        data = b"".join(pieces)
        self.received_bytes += len(data)
        if self._limit_bytes:
            check_length(self.received_bytes, self._limit_bytes)
        return data

    def _decode(self, data: bytes) -> None:
        try:
            self._pieces += self._decoder.feed(data)
        except ChunkedError as error:
            raise ClientError(f"Malformed chunked body: {error}.") from None
        if self._decoder.complete:
            self._incoming.unread = self._decoder.rest
