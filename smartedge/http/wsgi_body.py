"""The body of a request that a foreign server reads, gunicorn's own loop among them."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

from smartedge.balancer.errors import ClientError, PayloadTooLarge

PIECE_BYTES = 131072
"""The most that one read takes from a foreign server."""


class WsgiBody:
    """The body of a request that a foreign WSGI server read: `wsgi.input`, in pieces; WSGI has no trailers."""

    __slots__ = ("_input", "_limit_bytes", "complete", "length", "received_bytes")

    trailers: Sequence[tuple[bytes, bytes]] = ()

    def __init__(self, stream: Any, length: int | None, limit_bytes: int = 0) -> None:
        if limit_bytes and length is not None and length > limit_bytes:
            raise PayloadTooLarge(f"The request body is longer than {limit_bytes} bytes.")
        self._input = stream
        self._limit_bytes = limit_bytes
        self.length = length
        self.complete = False
        self.received_bytes = 0

    def buffered(self) -> None:
        """Say that nothing is known of what has arrived."""

    def read(self) -> bytes:
        """Read the next piece; a stream that ends early is the client's doing."""
        if self.complete:
            return b""
        wanted = PIECE_BYTES if self.length is None else min(PIECE_BYTES, self.length - self.received_bytes)
        try:
            piece = self._take(wanted) if wanted else b""
        except Exception as error:  # whatever a foreign server raises for a body that is cut or malformed
            with contextlib.suppress(AttributeError):
                self._input.failed = True  # gunicorn's word for: nobody knows where the next request begins
            raise ClientError(f"The request body could not be read: {str(error) or type(error).__name__}.") from error
        self.received_bytes += len(piece)
        if self._limit_bytes and self.received_bytes > self._limit_bytes:
            raise PayloadTooLarge(f"The request body is longer than {self._limit_bytes} bytes.")
        if not piece:
            if self.length is not None and self.received_bytes < self.length:
                raise ClientError("The request body ended before its Content-Length.")
            self.complete = True
        elif self.received_bytes == self.length:
            self.complete = True
        return piece

    def _take(self, wanted: int) -> bytes:
        """Read what has arrived, at least a byte: WSGI's `read` waits for all of it, the readers under gunicorn's need not."""
        reader = getattr(self._input, "reader", None)
        if reader is None:
            return self._input.read(wanted)  # type: ignore[no-any-return]
        if hasattr(reader, "length") and hasattr(reader.unreader, "max_body_chunk"):
            return _take_whole(reader, wanted)
        piece: bytes = reader.read(1)
        waiting = getattr(reader, "buf", None) or reader.unreader.buf
        return piece + reader.read(min(waiting.tell(), wanted - 1)) if piece else b""


def _take_whole(reader: Any, wanted: int) -> bytes:
    """Read past the reader, from what gunicorn holds or from the socket: going through it copies each byte four times."""
    piece: bytes = reader.unreader.read(None, wanted)
    if len(piece) > wanted:  # held already, and the next request behind it
        reader.unreader.unread(piece[wanted:])
        piece = piece[:wanted]
    reader.length -= len(piece)
    return piece
