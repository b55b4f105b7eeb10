"""Bytes that go from one plain socket to another without leaving the kernel (splice(2)): through a pipe, which is lent.

A long body then costs no copying, and leaves the processor's caches to whoever has work to do (docs/performance.md). Where the
system has no splice(2), or no pipe to give, `receive` takes bytes into memory instead (lent.py).
"""

from __future__ import annotations

import os
from errno import EINVAL, ENOSYS, EPERM
from typing import Final

from smartedge.http import lent
from smartedge.http.wire import Wire, WireClosed

PIPE_BYTES: Final = 1 << 20
"""Size of a pipe: the most that Linux gives to every user (`fs.pipe-max-size`). It takes memory only while bytes lie in it."""

MOST: Final = 32
"""So many are out at most: without privileges a user's pipes have 64 MiB together (`fs.pipe-user-pages-soft`)."""

KEPT: Final = 8
"""So many lie ready, with two descriptors each."""

HEAD_BYTES: Final = 16384
"""How much is read for a head where a long body is expected behind it: the less of that comes with it, the less is copied."""

_REFUSALS: Final = (EINVAL, ENOSYS, EPERM)
"""What splice(2) fails with where the kernel, or what stands between it and us, has it not for sockets."""

_SET_SIZE: Final = 1031
"""F_SETPIPE_SZ of fcntl(2), which modules of other systems do not have."""


class Pipe:
    """Bytes on their way, as many as `len` says; made by `receive`, emptied by `send`, and then given back."""

    __slots__ = ("__weakref__", "_reads", "_rest", "_size", "_writes")

    there = 0

    def __init__(self) -> None:
        self._reads = self._writes = -1
        self._size = 0
        self._rest = False  # something lies here that nobody is to have
        self._reads, self._writes = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        type(self).there += 1
        import fcntl  # not on every system; there this is never reached

        fcntl.fcntl(self._writes, _SET_SIZE, PIPE_BYTES)

    def __len__(self) -> int:
        return self._size

    def fill(self, source: int, most_bytes: int) -> None:
        """Take what has come on a socket; raises BlockingIOError when nothing has, and what befell the connection."""
        self._size = os.splice(source, self._writes, most_bytes, flags=os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK)

    def empty(self, sink: int) -> None:
        """Give a socket as much as it takes; raises BlockingIOError when that is nothing, and what befell the connection."""
        self._size -= os.splice(self._reads, sink, self._size, flags=os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK)

    def cut(self, size: int) -> None:
        """Leave out what is beyond the first `size` bytes."""
        self._size, self._rest = size, True

    @property
    def is_empty(self) -> bool:
        """Whether it can be lent again."""
        return not self._size and not self._rest

    def __del__(self) -> None:
        """Be gone, with whatever still lies here: whoever forgets to give one back only has another made."""
        if self._reads >= 0:
            type(self).there -= 1
            os.close(self._reads)
            os.close(self._writes)


_ready: list[Pipe] = []
_refused = not hasattr(os, "splice")
"""Whether this system does not let bytes go this way."""


def receive(wire: Wire, timeout_s: float, most_bytes: int = PIPE_BYTES, *, by_pipe: bool = True) -> bytes | memoryview | Pipe:
    """Wait for bytes and take what is there, as `Wire.recv` does; all but bytes is to be given back.

    The wire is a plain one. by_pipe: who asks can do something with a Pipe. One is taken only when bytes are there, so that a
    body that stops holds none.
    """
    global _refused
    if not by_pipe:
        return lent.receive(wire, timeout_s, most_bytes)
    while True:
        wire.wait_readable(timeout_s)
        pipe = _take()
        if pipe is None:
            wire.readable = True
            return lent.receive(wire, timeout_s, most_bytes)
        try:
            pipe.fill(_descriptor(wire), min(most_bytes, PIPE_BYTES))
        except BlockingIOError:
            continue
        except OSError as error:
            if error.errno not in _REFUSALS:
                raise
            _refused = wire.readable = True
            continue
        finally:
            if not pipe:
                give_back(pipe)
        return pipe or b""


def send(wire: Wire, pipe: Pipe, timeout_s: float) -> None:
    """Send all that lies in a pipe, behind what waits already; raises as `Wire.send_now` does. The wire is a plain one."""
    if wire._waiting or wire._failure is not None:
        wire.send_now(b"", timeout_s)
    while pipe:
        try:
            pipe.empty(_descriptor(wire))
        except BlockingIOError:
            wire._wait_writable(timeout_s)


def give_back(piece: memoryview | Pipe) -> None:
    """Take back what `receive` has lent; nobody may have a use for it any more."""
    if not isinstance(piece, Pipe):
        lent.give_back(piece)
    elif piece.is_empty and len(_ready) < KEPT:
        _ready.append(piece)


def _take() -> Pipe | None:
    """Give a pipe; None where there is none to have."""
    if _refused:
        return None
    if _ready:
        return _ready.pop()
    if Pipe.there >= MOST:
        return None
    try:
        return Pipe()
    except OSError:
        return None  # no more descriptors, or no more memory for pipes


def _descriptor(wire: Wire) -> int:
    if wire.closed:
        raise WireClosed("the connection is closed")
    return wire.sock._sock.fileno()  # type: ignore[no-any-return]
