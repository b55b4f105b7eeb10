"""A request body as the client sends it: counted or chunked, one piece at a time, never more of it in memory than one read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from smartedge.balancer.errors import ClientError, ClientGone, ClientTimeout, PayloadTooLarge
from smartedge.http.chunked import ChunkedDecoder, ChunkedError
from smartedge.http.wire import WireTimeout

if TYPE_CHECKING:
    from smartedge.server.reader import RequestReader

CONTINUE_WAIT_S = 1.0
"""How long a client that sent `Expect: 100-continue` waits for the backend's word before it is asked to go on anyway."""


class ClientBody:
    """What both kinds of body share: reading on from the connection, the limit, the expectation."""

    trailers: Sequence[tuple[bytes, bytes]] = ()

    __slots__ = ("_handler", "_limit_bytes", "complete", "length", "received_bytes")

    def __init__(self, handler: RequestReader, length: int | None, limit_bytes: int) -> None:
        self._handler = handler
        self._limit_bytes = limit_bytes
        self.length = length
        self.complete = False
        self.received_bytes = 0
        if limit_bytes:
            self.limit(limit_bytes)

    def limit(self, most_bytes: int) -> None:
        """Take no more than so many bytes; see Body.limit."""
        self._limit_bytes = most_bytes
        if self.length is not None and self.length > most_bytes:
            raise PayloadTooLarge(f"The request body is longer than {most_bytes} bytes.")

    def buffered(self) -> bytes | None:
        """Give the whole body if it came with the head; see Body.buffered."""
        raise NotImplementedError

    def read(self) -> bytes:
        """Give the next piece; see Body.read."""
        raise NotImplementedError

    def _receive(self) -> bytes:
        """Take what lies behind the head, or wait for more; the end of the connection here is the end of the client."""
        handler = self._handler
        data, handler.buffer = handler.buffer, b""
        if data:
            return data
        request = handler.request
        try:
            if request is not None and request.expects_continue:
                try:
                    data = handler.wire.recv(CONTINUE_WAIT_S)
                except WireTimeout:
                    handler.send_interim(100, b"100 Continue\r\n", b"")
            if not data:
                data = handler.wire.recv(handler.limits.idle_s)
        except WireTimeout:
            raise ClientTimeout(f"The request body stopped for {handler.limits.idle_s:g} s.") from None
        except OSError:
            data = b""
        if not data:
            handler.keep_alive = False
            raise ClientGone("The client left in the middle of its request.")
        return data


class LengthBody(ClientBody):
    """A body with a Content-Length (RFC 9112 section 6.2); the bytes go through untouched."""

    __slots__ = ()

    length: int

    def buffered(self) -> bytes | None:
        """Give the whole body if it came with the head."""
        handler = self._handler
        if self.received_bytes or len(handler.buffer) < self.length:
            return None
        return self.read()

    def read(self) -> bytes:
        """Give the next piece; see Body.read."""
        if self.complete:
            return b""
        data = self._receive()
        left = self.length - self.received_bytes
        if len(data) > left:
            self._handler.buffer = data[left:]
            data = data[:left]
        self.received_bytes += len(data)
        if self.received_bytes == self.length:
            self.complete = True
        return data


class ChunkedBody(ClientBody):
    """A chunked body (RFC 9112 section 7.1), decoded on the way."""

    __slots__ = ("_decoder", "_pieces")

    @property
    def trailers(self) -> Sequence[tuple[bytes, bytes]]:  # type: ignore[override]
        """The fields behind it, once it is complete."""
        return self._decoder.trailers

    def __init__(self, handler: RequestReader, limit_bytes: int) -> None:
        super().__init__(handler, None, limit_bytes)
        self._decoder = ChunkedDecoder()
        self._pieces: list[bytes] = []

    def buffered(self) -> bytes | None:
        """Give the whole body if it came with the head."""
        if self.received_bytes:
            return None
        if self._handler.buffer and not self._pieces:
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
        if self._limit_bytes and self.received_bytes > self._limit_bytes:
            raise PayloadTooLarge(f"The request body is longer than {self._limit_bytes} bytes.")
        return data

    def _decode(self, data: bytes) -> None:
        try:
            self._pieces += self._decoder.feed(data)
        except ChunkedError as error:
            raise ClientError(f"Malformed chunked body: {error}.") from None
        if self._decoder.complete:
            self._handler.buffer = self._decoder.rest
