"""Large buffers, lent to bytes on their way from one socket to another: long bodies take few system calls, and no fresh memory.

The one that was given back last is lent next, for it is still in the processor's cache (docs/performance.md).
"""

from __future__ import annotations

from typing import Final

from smartedge.http.wire import RECV_BYTES, Wire

LENT_BYTES: Final = 1 << 19
"""Size of a buffer. With twice as much a relay of 1 MB takes as long, with a quarter a quarter longer."""

LENT_FROM_BYTES: Final = 131072
"""Of a body of which less is to come, an ordinary read gets it."""

MOST: Final = 64
"""So many are out at most, to clients who take their time; whoever comes then reads as ever."""

KEPT: Final = 8
"""So many lie ready."""


class _Buffer(bytearray):
    """A buffer that is counted as long as it is there: whoever forgets to give one back only has another made."""

    there = 0

    def __init__(self) -> None:
        super().__init__(LENT_BYTES)
        type(self).there += 1

    def __del__(self) -> None:
        type(self).there -= 1


_ready: list[_Buffer] = []


def receive(wire: Wire, timeout_s: float, most_bytes: int = LENT_BYTES) -> bytes | memoryview:
    """Wait for bytes and take what is there, as `Wire.recv` does; a memoryview is to be given back.

    The wire is a plain one. A buffer is taken only when bytes are there, so that a body that stops holds none.
    """
    while True:
        wire.wait_readable(timeout_s)
        if not _ready and _Buffer.there >= MOST:
            wire.readable = True
            return wire.recv(timeout_s, min(most_bytes, RECV_BYTES))
        buffer = _ready.pop() if _ready else _Buffer()
        try:
            count = wire.sock._sock.recv_into(buffer, min(most_bytes, LENT_BYTES))
        except BlockingIOError:
            _ready.append(buffer)
            continue
        if not count:
            _ready.append(buffer)
            return b""
        return memoryview(buffer)[:count]


def give_back(piece: memoryview) -> None:
    """Take back what `receive` has lent; nobody may have a use for it any more."""
    buffer = piece.obj
    if isinstance(buffer, _Buffer) and len(_ready) < KEPT:
        _ready.append(buffer)
