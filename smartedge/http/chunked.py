"""Chunked bodies (RFC 9112 section 7.1): taken apart as they arrive, put together again for the other side."""

from __future__ import annotations

import re
from typing import Any, Final

LAST_CHUNK: Final = b"0\r\n\r\n"

_OVERHEAD_BYTES: Final = 16384
"""What chunk extensions and trailers may cost over the whole body, besides `_PER_CHUNK_BYTES` for each chunk."""

_PER_CHUNK_BYTES: Final = 24
_MOST_BYTES: Final = (1 << 64) - 1

_TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_QUOTED: Final = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*"'
_SIZE: Final = re.compile(rb"([0-9A-Fa-f]+)(?:[ \t]*;[ \t]*%b(?:[ \t]*=[ \t]*(?:%b|%b))?)*" % (_TOKEN, _TOKEN, _QUOTED))
_PADDED_SIZE: Final = re.compile(rb"([0-9A-Fa-f]+)[ \t]*(?:;[\t \x21-\x7e\x80-\xff]*)?")
_PLAIN_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,16})\r\n")
_BEGINS_A_SIZE: Final = re.compile(rb"(?:[0-9A-Fa-f]+(?:[ \t;][^\r\n\0]*)?)?\r?")
_TRAILER: Final = re.compile(rb"(%b):([\t \x21-\x7e\x80-\xff]*)" % _TOKEN)
_FRAMING: Final = frozenset((b"content-length", b"transfer-encoding"))


class ChunkedError(Exception):
    """These bytes are not a chunked body."""


class ChunkedDecoder:
    """Takes one chunked body apart, whatever the pieces it arrives in.

    feed(data) gives the decoded pieces, as views of what came; after the end `complete` is True, `rest` holds what came behind
    the body and `trailers` the trailer fields as (name, value) pairs.
    from_backend: take what old servers write and all others take: blanks between a chunk's size and the end of its line, and
    framing fields among the trailers, where they mean nothing. The body goes on in chunks of our own, so nobody behind us reads
    it in another way. From clients neither is taken: who writes that hopes for two readings.
    """

    __slots__ = ("_between", "_chunks", "_from_backend", "_held", "_last", "_left", "_overhead", "complete", "rest", "trailers")

    def __init__(self, *, from_backend: bool = False) -> None:
        self.complete = False
        self.rest = b""
        self.trailers: list[tuple[bytes, bytes]] = []
        self._from_backend = from_backend
        self._held = b""  # the beginning of a line
        self._left = 0  # of the data of the chunk that has begun
        self._between = False  # that data has ended, the line end behind it is missing
        self._last = False  # the last chunk has come, and trailers may follow
        self._chunks = 0
        self._overhead = 0

    def feed(self, data: bytes) -> list[memoryview]:
        """Decode `data` and give the body pieces in it; raises ChunkedError when it is not a chunked body."""
        if self._held:
            self._overhead -= len(self._held)
            data, self._held = self._held + data, b""
        decoded: list[memoryview] = []
        view = memoryview(data)
        position = 0
        while position < len(data) and not self.complete:
            if not (self._left or self._between or self._last):
                before = len(decoded)
                position = _take_whole_chunks(data, view, position, decoded)
                self._chunks += len(decoded) - before
            if self._left:
                piece = view[position : position + self._left]
                decoded.append(piece)
                position += len(piece)
                self._left -= len(piece)
                self._between = not self._left
            elif (end := data.find(b"\r\n", position)) >= 0:
                self._line(data[position:end])
                position = end + 2
            else:
                self._hold(data[position:])
                position = len(data)
        self._overhead += position - sum(map(len, decoded))
        if self._overhead > _OVERHEAD_BYTES + _PER_CHUNK_BYTES * self._chunks:
            raise ChunkedError("chunk extensions or trailers are too long")
        if self.complete:
            self.rest = data[position:]
        return decoded

    def _line(self, line: bytes) -> None:
        """Take a whole line: what ends a chunk's data, the size of the next, or a trailer field."""
        if self._between:
            if line:
                raise ChunkedError("a chunk is longer than its size")
            self._between = False
        elif self._last:
            self._trailer(line)
        else:
            found = (_PADDED_SIZE if self._from_backend else _SIZE).fullmatch(line)
            if found is None:
                raise ChunkedError("a chunk's size is malformed")
            self._left = int(found[1], 16)
            if self._left > _MOST_BYTES:
                raise ChunkedError("a chunk's size is beyond 64 bits")
            self._chunks += 1
            self._last = not self._left

    def _trailer(self, line: bytes) -> None:
        if not line:
            self.complete = True
            return
        found = _TRAILER.fullmatch(line)
        if found is None:
            raise ChunkedError("a trailer field is malformed")
        if found[1].lower() in _FRAMING and not self._from_backend:
            raise ChunkedError("a trailer field says where the body ends")
        self.trailers.append((found[1], found[2].strip(b" \t")))

    def _hold(self, begun: bytes) -> None:
        """Keep the beginning of a line; what can't be one is refused without waiting for more."""
        if self._between:
            may_be = begun == b"\r"
        elif self._last:
            may_be = b"\n" not in begun and b"\0" not in begun
        else:
            may_be = _BEGINS_A_SIZE.fullmatch(begun) is not None
        if not may_be:
            raise ChunkedError("a line does not end with CR LF, or is none of a chunked body")
        self._held = begun


def whole_body(data: bytes) -> bytes | None:
    """Give the body where `data` is all of one, as most servers write it: plain sizes, no trailers, and nothing behind it.

    None is all else: a ChunkedDecoder tells what it is. It takes what this takes for the same body.
    """
    if not data.endswith(LAST_CHUNK):
        return None
    pieces: list[bytes] = []
    if data[_take_whole_chunks(data, data, 0, pieces) :] != LAST_CHUNK:
        return None
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _take_whole_chunks(data: bytes, source: Any, position: int, pieces: list[Any]) -> int:
    """Take whole chunks as most servers write them, one after the other; return where something else begins, the last chunk, too.

    source: `data` itself or a view of it, of which the pieces are made.
    """
    while (plain := _PLAIN_SIZE.match(data, position)) is not None:
        begin = plain.end()
        end = begin + int(plain[1], 16)
        if begin == end or not data.startswith(b"\r\n", end):
            break
        pieces.append(source[begin:end])
        position = end + 2
    return position


def chunk(piece: bytes | memoryview) -> bytes:
    """Wrap `piece` (not empty) as one chunk."""
    return b"".join((b"%x\r\n" % len(piece), piece, b"\r\n"))
