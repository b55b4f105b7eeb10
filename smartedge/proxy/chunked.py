"""Chunked bodies (RFC 9112 section 7.1): taken apart by llhttp as they arrive, put together again for the other side."""

from __future__ import annotations

import httptools

LAST_CHUNK = b"0\r\n\r\n"

_HEAD = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
_OVERHEAD_BYTES = 16384
"""What chunk extensions and trailers may cost over the whole body, besides `_PER_CHUNK_BYTES` for each chunk."""

_PER_CHUNK_BYTES = 24


class ChunkedError(Exception):
    """These bytes are not a chunked body."""


class ChunkedDecoder:
    """Takes one chunked body apart, whatever the pieces it arrives in.

    feed(data) gives the decoded pieces; after the end `complete` is True, `rest` holds what came behind the body and
    `trailers` the trailer fields as (name, value) pairs.
    padded_sizes: take blanks between a chunk's size and the end of its line. RFC 9112 section 7.1 has none there, but old servers
    write sizes of a fixed width, and nginx, HAProxy and Go take them. The body goes on in chunks of our own, so nobody behind us
    reads the line in another way.
    """

    __slots__ = ("_body", "_chunks", "_overhead", "_parser", "_tail", "complete", "rest", "trailers")

    def __init__(self, *, padded_sizes: bool = False) -> None:
        self.complete = False
        self.rest = b""
        self.trailers: list[tuple[bytes, bytes]] = []
        self._body: list[bytes] = []
        self._chunks = 0
        self._overhead = 0
        self._tail = b""
        # llhttp decodes chunks only behind a head, so it gets one of ours.
        self._parser = httptools.HttpRequestParser(self)
        if padded_sizes:
            self._parser.set_dangerous_leniencies(lenient_spaces_after_chunk_size=True)
        self._parser.feed_data(_HEAD)
        self.trailers.clear()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a trailer field (called by llhttp)."""
        self.trailers.append((name, value))

    def on_body(self, piece: bytes) -> None:
        """Take decoded bytes (called by llhttp)."""
        self._body.append(piece)

    def on_chunk_header(self) -> None:
        """Count a chunk (called by llhttp)."""
        self._chunks += 1

    def on_message_complete(self) -> None:
        """Note the end of the body (called by llhttp)."""
        self.complete = True

    def feed(self, data: bytes) -> list[bytes]:
        """Decode `data` and give the body pieces in it; raises ChunkedError when it is not a chunked body.

        A body can end at an empty line only, and llhttp can't be asked where it ended: so it is fed up to each empty line in
        turn, and what lies behind the end stays in `rest` untouched.
        """
        position = 0
        while position < len(data) and not self.complete:
            end = self._next_empty_line(data, position)
            piece = data if position == 0 and end == len(data) else data[position:end]
            try:
                self._parser.feed_data(piece)
            except httptools.HttpParserError as error:
                raise ChunkedError(str(error)) from error
            self._tail = (self._tail + piece[-3:])[-3:]
            position = end
        decoded, self._body = self._body, []
        self._overhead += position - sum(map(len, decoded))
        if self._overhead > _OVERHEAD_BYTES + _PER_CHUNK_BYTES * self._chunks:
            raise ChunkedError("chunk extensions or trailers are too long")
        if self.complete:
            self.rest = data[position:]
        return decoded

    def _next_empty_line(self, data: bytes, position: int) -> int:
        if position == 0 and self._tail:
            # The empty line may have begun in the piece before.
            overlap = (self._tail + data[:3]).find(b"\r\n\r\n")
            if overlap >= 0 and overlap + 4 > len(self._tail):
                return overlap + 4 - len(self._tail)
        found = data.find(b"\r\n\r\n", position)
        return len(data) if found < 0 else found + 4


def chunk(piece: bytes) -> bytes:
    """Wrap `piece` (not empty) as one chunk."""
    return b"%x\r\n%b\r\n" % (len(piece), piece)
