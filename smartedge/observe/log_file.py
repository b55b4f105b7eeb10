"""What a log goes into: a descriptor, or the file at a path, followed when somebody moves it, and moved aside in time."""

from __future__ import annotations

import os
import select
import stat
import time
from collections.abc import Callable, Iterator

from gevent.monkey import get_original

from smartedge.observe.rotation import Rotation, locked, open_directory

PIPE_BUF = select.PIPE_BUF
"""What is written to a pipe at once, at most: another worker's line never comes into the middle of it (pipe(7))."""

FOLLOW_S = 1.0
"""How often, at most, it is looked whether a file was moved away; with a rotation of our own before every write."""

LOCK_S = 1.0
"""How long a writer waits for the others; then it writes without the lock, and does not move the file."""

STAY_S = 60.0
"""After a file could not be moved aside: so long until the next attempt."""

_AGAIN_S = 0.05
_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
"""Without waiting: a named pipe that nobody reads would hold up whoever opens it."""

_sleep: Callable[[float], None] = get_original("time", "sleep")


class LogFile:
    """The place that one LogWriter writes to; made by it, and used by its thread alone but for `close`.

    target: a descriptor, or a path. Raises OSError when the file can't be opened. trouble: why lines could not be written, as
    long as that lasts. cannot_follow: why there is no new file where the old one was moved away. cannot_rotate: why it could not
    be moved aside. wants_tidying: it was, and the older ones are still to be looked after. hurried: lose what is not taken now.
    """

    def __init__(self, target: int | str, rotation: Rotation | None = None) -> None:
        self.path = target if isinstance(target, str) else None
        self.fd = os.open(target, _FLAGS, 0o666) if isinstance(target, str) else target
        self.trouble: OSError | None = None
        self.cannot_follow: OSError | None = None
        self.cannot_rotate: OSError | None = None
        self.wants_tidying = self.hurried = False
        kind = os.fstat(self.fd).st_mode
        self._takes_all = stat.S_ISREG(kind) or stat.S_ISCHR(kind)  # a pipe, or the journal's socket, does not
        self.rotation = rotation if stat.S_ISREG(kind) and self.path is not None else None
        self._torn = False
        self._followed_at = time.monotonic()
        self._stays_until = 0.0
        self._directory = -1
        self.begin()

    def begin(self) -> None:
        """Have a lock of one's own; called in a forked child, too, whose lock would else be its parent's."""
        old, self._directory = self._directory, -1
        if old >= 0:
            os.close(old)
        if self.rotation is not None and self.path is not None:
            self._directory = open_directory(self.path)

    def write(self, lines: list[bytes], *, look: bool = False) -> bytes:
        """Write lines, however long that takes; give what the system has refused. look: now, whether the file was moved away."""
        if self.rotation is not None and self.path is not None:
            with locked(self._directory, LOCK_S) as held:
                self._follow(self.path)
                if held:
                    self._rotate(self.path, self.rotation, sum(map(len, lines)))
                return self._write(lines)
        if self.path is not None and (look or time.monotonic() - self._followed_at > FOLLOW_S):
            self._follow(self.path)
        return self._write(lines)

    def close(self) -> None:
        """Close the file."""
        if self.path is None:
            return
        for fd in (self.fd, self._directory):
            if fd >= 0:
                os.close(fd)
        self.fd = self._directory = -1

    def _write(self, lines: list[bytes]) -> bytes:
        data = b"".join(lines)
        if self._takes_all:
            return self._put(data) if data else b""
        return b"".join([self._put(piece) for piece in _pieces(data, PIPE_BUF)])

    def _put(self, data: bytes) -> bytes:
        """Write all of it, or give the rest that the system refuses."""
        if self._torn:
            data = b"\n" + data  # the last line was cut in the middle: it must not swallow the next one
        left = memoryview(data)
        while left:
            try:
                written = os.write(self.fd, left)
            except BlockingIOError:
                if self.hurried and self.path is not None:
                    return bytes(left)
                _sleep(_AGAIN_S)
            except OSError as error:
                self.trouble = error
                self._torn = self._torn if len(left) == len(data) else data[len(data) - len(left) - 1] != 10
                return bytes(left)
            else:
                left = left[written:]
        self._torn = False
        self.trouble = None
        return b""

    def _follow(self, path: str) -> None:
        """Go on in a new file if the path leads to another one, or to none; where that can't be, in the old one."""
        self._followed_at = time.monotonic()
        try:
            if os.path.samestat(os.stat(path), os.fstat(self.fd)):
                self.cannot_follow = None
                return
        except OSError:
            pass
        try:
            fd = os.open(path, _FLAGS, 0o666)
        except OSError as error:
            self.cannot_follow = error
            return
        old, self.fd = self.fd, fd
        self._torn = False
        self.trouble = self.cannot_follow = None
        os.close(old)

    def _rotate(self, path: str, rotation: Rotation, more: int) -> None:
        """Move the file aside if it is time, and go on in a new one; under the lock."""
        now = time.time()
        if now < self._stays_until or not rotation.is_due(os.fstat(self.fd), more, now):
            return
        try:
            rotation.move_aside(path, now)
        except OSError as error:
            self.cannot_rotate, self._stays_until = error, now + STAY_S
            return
        self.cannot_rotate = None
        self.wants_tidying = True
        self._follow(path)


def _pieces(data: bytes, most_bytes: int) -> Iterator[bytes]:
    """Cut lines into what is written at once. most_bytes: of a piece, if there is more than a line in it."""
    start = 0
    while len(data) - start > most_bytes:
        end = data.rfind(b"\n", start, start + most_bytes) + 1 or data.find(b"\n", start) + 1 or len(data)
        yield data[start:end]
        start = end
    if start < len(data):
        yield data[start:] if start else data
