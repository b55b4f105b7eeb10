"""Header blocks as a peer sends them: gathered from their frames, and decoded (RFC 9113 section 4.3, RFC 7541)."""

from __future__ import annotations

import re
from typing import Final

from hpack import Decoder
from hpack.exceptions import HPACKError, OversizedHeaderListError

from smartedge.http2.calm import Calm
from smartedge.http2.frames import COMPRESSION_ERROR, LinkError
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

    __slots__ = ("_bytes", "_calm", "_decoder", "_known", "_parts", "begun_of", "flags")

    def __init__(self, head_bytes: int, calm: Calm) -> None:
        self.begun_of = self.flags = 0
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
        try:
            pairs: Pairs = list(self._decoder.decode(block, raw=True))
        except OversizedHeaderListError:
            self._calm.exceeded("header_list")
        except (HPACKError, ValueError, IndexError) as error:
            raise LinkError(COMPRESSION_ERROR, f"a header block that cannot be decoded: {error}") from None
        if not _BY_REFERENCE.fullmatch(block):
            self._known.clear()  # it may have changed the table
        elif len(self._known) < BLOCKS_KEPT:
            self._known[block] = pairs
        return pairs
