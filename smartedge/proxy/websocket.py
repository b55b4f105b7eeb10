"""What a tunnel has to know of WebSocket (RFC 6455): where a frame ends, and how a server says that it goes away."""

from __future__ import annotations

from typing import Final

GOING_AWAY: Final = b"\x88\x02\x03\xe9"
"""The close frame of a server that goes down, status 1001 (section 7.4.1)."""

_CLOSE: Final = 8
_OPCODES: Final = frozenset((0, 1, 2, _CLOSE, 9, 10))
_MOST_FRAMES: Final = 64
"""So many frames of one piece are gone through: more would cost more than the word is worth."""


def ends_whole(piece: bytes) -> bool:
    """Whether what a server has sent at once is whole frames, behind which another one may stand: none is a close.

    A piece that begins in the middle of a frame is one that looks like no frames, but for a chance of one in its length.
    """
    at, size = 0, len(piece)
    for _ in range(_MOST_FRAMES):
        if size - at < 2:
            return False
        opcode, length = piece[at] & 15, piece[at + 1]
        at += 2
        if opcode not in _OPCODES or opcode == _CLOSE or length > 127:  # a server's frames are not masked
            return False
        if length > 125:
            more = 2 if length == 126 else 8
            length = int.from_bytes(piece[at : at + more], "big")
            at += more
        at += length
        if at == size:
            return True
    return False
