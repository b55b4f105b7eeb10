"""Header blocks as a peer sends them: gathered from their frames, and decoded (RFC 9113 section 4.3, RFC 7541)."""

from __future__ import annotations

import re
from typing import Final

from hpack import Decoder
from hpack.exceptions import HPACKError, OversizedHeaderListError

from smartedge.http2.calm import Calm
from smartedge.http2.frames import COMPRESSION_ERROR, LinkError, write_integer
from smartedge.http2.huffman import decode_huffman
from smartedge.http2.stream import Pairs

MOST_FRAMES: Final = 64
"""Of one block: more is a flood (CVE-2024-27316)."""

TIMES_LARGER: Final = 4
"""A head of up to so many times the limit is still read, to be answered with a 431; one that is larger ends the connection."""

BLOCKS_KEPT: Final = 64
"""Blocks whose fields are remembered, of those that say all by reference: most clients send the same again and again."""

_BY_REFERENCE = re.compile(rb"[\x81-\xfe]+", re.DOTALL)
"""Indexed fields, a byte each: they change no table."""


class HeaderBlocks:
    """The blocks of one connection; owned by its Receiver.

    begun_of: the stream whose block is not complete, 0 for none: nothing else may come then. flags: of the HEADERS that began it.
    """

    __slots__ = ("_bytes", "_calm", "_decoder", "_known", "_most_fields", "_parts", "begun_of", "flags")

    def __init__(self, head_bytes: int, headers: int, calm: Calm) -> None:
        self.begun_of = self.flags = 0
        self._most_fields = TIMES_LARGER * headers or head_bytes * TIMES_LARGER  # a field has a byte at least
        self._calm = calm
        self._decoder = Decoder(max_header_list_size=TIMES_LARGER * head_bytes)
        self._known: dict[bytes, Pairs] = {}
        self._parts: list[bytes] = []
        self._bytes = 0

    def begin(self, stream_id: int, flags: int, part: bytes) -> None:
        """Take the first part of a block."""
        self._parts, self._bytes, self.begun_of, self.flags = [part], len(part), stream_id, flags

    def go_on(self, part: bytes) -> None:
        """Take another part; raises LinkError where there are too many."""
        self._parts.append(part)
        self._bytes += len(part)
        if len(self._parts) > MOST_FRAMES or self._bytes > self._decoder.max_header_list_size:
            self._calm.exceeded("continuation")

    def take(self) -> bytes:
        """Give the block, which is complete."""
        parts, self._parts, self.begun_of = self._parts, [], 0
        return b"".join(parts)

    def decode(self, block: bytes) -> Pairs:
        """Give a block's fields; the same object for the same bytes, as long as no table has changed.

        Raises LinkError: nobody can go on behind one that is broken, or not read to its end (RFC 9113 section 4.3).
        """
        known = self._known.get(block)
        if known is not None:
            return known
        by_reference = _BY_REFERENCE.fullmatch(block) is not None
        try:
            if by_reference:
                plain = block if len(block) <= self._most_fields else None
            else:
                plain = _plain(block, self._most_fields)
            if plain is None:
                self._calm.exceeded("header_list")
            pairs: Pairs = list(self._decoder.decode(plain, raw=True))
        except OversizedHeaderListError:
            self._calm.exceeded("header_list")
        except (HPACKError, ValueError, IndexError) as error:
            raise LinkError(COMPRESSION_ERROR, f"a header block that cannot be decoded: {error}") from None
        if not by_reference:
            self._known.clear()  # it may have changed the table
        elif len(self._known) < BLOCKS_KEPT:
            self._known[block] = pairs
        return pairs


def _plain(block: bytes, most: int) -> bytes | None:
    """Give a block with its strings as they are read, none of them in Huffman's code; None for one of more than so many fields.

    Raises ValueError or IndexError for a block that is none.
    """
    parts: list[bytes] = []
    at = taken = fields = 0
    while at < len(block):
        fields += 1
        if fields > most:
            return None
        first = block[at]
        if 0x80 < first < 0xFF:  # most are indexed fields of a byte
            at += 1
            continue
        bits = 7 if first & 0x80 else 6 if first & 0x40 else 5 if first & 0x20 else 4  # RFC 7541 section 6
        index, at = _read_integer(block, at, bits)
        if bits not in (6, 4):
            continue
        for _ in range(1 if index else 2):
            begun = at
            length, at = _read_integer(block, begun, 7)
            end = at + length
            if block[begun] & 0x80:
                if end > len(block):
                    raise ValueError("a string that is longer than its block")
                string = decode_huffman(block[at:end])
                parts += (block[taken:begun], write_integer(len(string), 7, 0), string)
                taken = end
            at = end
    return b"".join([*parts, block[taken:]]) if parts else block


def _read_integer(block: bytes, at: int, bits: int) -> tuple[int, int]:
    """Read an integer (RFC 7541 section 5.1); give it, and where the next thing begins."""
    most = (1 << bits) - 1
    value = block[at] & most
    at += 1
    if value == most:
        for shift in range(0, 35, 7):
            value += (block[at] & 0x7F) << shift
            at += 1
            if block[at - 1] < 0x80:
                return value, at
        raise ValueError("an integer of more than five bytes")
    return value, at
