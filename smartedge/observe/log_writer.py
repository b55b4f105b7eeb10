"""Writing that holds nobody up: a bounded buffer, and a thread of its own that empties it into a file, a pipe or a terminal.

Whoever writes to standard output writes at the pace of its reader, and to a file at the pace of its disk: a container's parent
that does not read, or a full disk, would hold up every client. So a line is put into a buffer, which takes no time and never
fails, and a real thread (not a greenlet: the event loop can't wait for a file) calls `os.write`. What the buffer cannot hold,
or the system does not take, is lost, and counted.
"""

from __future__ import annotations

import atexit
import os
import signal
import time
from _queue import Empty, SimpleQueue  # C's own: gevent replaces the one in `queue` with a greenlets' queue
from collections.abc import Callable
from typing import Any
from weakref import WeakSet

from gevent.monkey import get_original

from smartedge.observe.log_file import LogFile
from smartedge.observe.rotation import Rotation

MOST_BYTES = 1024 * 1024
"""What waits to be written, at most; as much again may be under way."""

GATHER_S = 0.02
"""After each write the thread rests so long: lines that come meanwhile are one write."""

LINGER_S = 5.0
"""A thread that has had nothing to do for so long ends; the next line starts another."""

DEAD_S = 1.0
"""A thread that has not begun so long after it was started never will: without memory it ends before its first line."""

LAST_WORDS_S = 1.0
"""How long the end of a process waits for what is still to be written."""

_sleep: Callable[[float], None] = get_original("time", "sleep")
_start_thread: Callable[..., int] = get_original("_thread", "start_new_thread")
_make_lock: Callable[[], Any] = get_original("_thread", "RLock")  # a signal's handler may write while its own thread does


class Lost:
    """Counts the lines that this process could not write, wherever they were to go."""

    def __init__(self) -> None:
        self.total = 0
        self._lock = _make_lock()

    def add(self, lines: int) -> None:
        """Count lines, from any thread."""
        with self._lock:
            self.total += lines


LOST = Lost()


class LogWriter:
    """Writes whole lines to a descriptor, or to the file at a path (`LogFile`); owned by whoever has lines.

    `write` returns at once and raises nothing. rotation: when the file is moved aside. Raises OSError when the file can't be
    opened at first. lost: lines that could not be written.
    """

    def __init__(self, target: int | str, most_bytes: int = MOST_BYTES, rotation: Rotation | None = None) -> None:
        self.file = LogFile(target, rotation)
        self._most_bytes = most_bytes
        self.lost = 0
        self._begin()
        _WRITERS.add(self)

    @property
    def trouble(self) -> OSError | None:
        """Why lines can't be written, as long as that lasts."""
        return self.file.trouble

    @property
    def cannot_follow(self) -> OSError | None:
        """Why there is no new file where there should be one; the old one goes on."""
        return self.file.cannot_follow

    @property
    def cannot_rotate(self) -> OSError | None:
        """Why the file could not be moved aside; it goes on growing."""
        return self.file.cannot_rotate

    def _begin(self) -> None:
        """Start with an empty buffer; in a forked child too, whose parent writes what it had in its own."""
        self._lock = _make_lock()
        self._wake: SimpleQueue[None] = SimpleQueue()
        self._lines: list[bytes] = []
        self._bytes = 0
        self._runs = self._idle = self._busy = self._closing = self._reopening = self._stands = False
        self._begun_at = 0.0
        self._number = 0

    def write(self, line: bytes) -> None:
        """Have a line written soon, its line break included, or several; or count them as lost."""
        with self._lock:
            if self._bytes + len(line) > self._most_bytes or self._closing:
                self._lose(line)
                return
            self._lines.append(line)
            self._bytes += len(line)
            self._nudge()

    def stand_by(self) -> None:
        """Have the thread there from now on, whether there is something to write or not: without memory none can be started."""
        with self._lock:
            self._stands = True
            self._nudge()

    def reopen(self) -> None:
        """Look now whether the file was moved away, and go on in a new one: what SIGUSR1 asks for."""
        if self.file.path is not None:
            with self._lock:
                self._reopening = True
                self._nudge()

    def close(self) -> None:
        """Write what is there and be done; the file is closed by the thread."""
        with self._lock:
            self._closing = self.file.hurried = True
            if self._runs or self._lines:
                self._nudge()
            else:
                self.file.close()

    def flush(self, wait_s: float) -> bool:
        """Wait until all is written, for `wait_s` seconds at most; holds up the whole thread, so for the end of the process."""
        deadline = time.monotonic() + wait_s
        while self._lines or self._busy or self._reopening:
            if time.monotonic() > deadline:
                return False
            _sleep(0.002)
        return True

    # ---- under the lock ----

    def _nudge(self) -> None:
        if self._idle:
            self._idle = False
            self._wake.put(None)
        elif not self._runs or (self._begun_at and time.monotonic() - self._begun_at > DEAD_S):
            self._runs, self._begun_at = True, time.monotonic()
            self._number += 1
            # Signals are for the main thread: one that came here instead would leave it waiting.
            before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
            try:
                _start_thread(self._run, (self._number,))
            except (RuntimeError, MemoryError):  # no memory or no more threads now: the next line tries again
                self._runs, self._begun_at = False, 0.0
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _lose(self, data: bytes) -> None:
        lines = data.lstrip(b"\n").count(b"\n") or 1
        self.lost += lines
        LOST.add(lines)

    # ---- in the thread ----

    def _run(self, number: int) -> None:
        with self._lock:
            if number != self._number:
                return  # another was started meanwhile, for we took so long to begin
            self._begun_at = 0.0
        while True:
            try:
                self._work()
                return
            except MemoryError:  # what was under way is lost; the thread must go on, for without memory there is no other
                with self._lock:
                    self._idle = self._busy = False
                    self.lost += 1
                    LOST.add(1)
                _sleep(GATHER_S)

    def _work(self) -> None:
        while True:
            with self._lock:
                lines, self._lines, self._bytes = self._lines, [], 0
                self._busy = bool(lines)
                reopening, self._reopening = self._reopening, False
                self._idle = not lines and not reopening and not self._closing
                if self._closing and not lines:
                    self._runs = False
                    self.file.close()
                    return
            if self._idle:
                if not self._wait():
                    return
                continue
            if refused := self.file.write(lines, look=reopening):
                with self._lock:
                    self._lose(refused)
            if self.file.wants_tidying:
                self._tidy()
            self._busy = False
            _sleep(GATHER_S)

    def _wait(self) -> bool:
        """Wait for something to do; False when this thread is to end."""
        try:
            self._wake.get(True, LINGER_S)
        except Empty:
            with self._lock:
                if self._idle and not self._stands:
                    self._runs = self._idle = False
                    return False
        return True

    def _tidy(self) -> None:
        """Have the older files looked after by another thread: compressing takes longer than the buffer has room."""
        path, rotation = self.file.path, self.file.rotation
        assert path is not None
        assert rotation is not None
        self.file.wants_tidying = False
        try:
            _start_thread(rotation.tidy, (path,))
        except RuntimeError:
            pass  # after the next rotation


_WRITERS: WeakSet[LogWriter] = WeakSet()


def flush_all(wait_s: float) -> None:
    """Have everything written that anybody has in hand, for `wait_s` seconds at most."""
    deadline = time.monotonic() + wait_s
    for writer in list(_WRITERS):
        writer.flush(max(0.0, deadline - time.monotonic()))


def _after_fork() -> None:
    for writer in list(_WRITERS):
        writer.file.begin()
        writer._begin()
    LOST.__init__()  # type: ignore[misc]


os.register_at_fork(after_in_child=_after_fork)
atexit.register(flush_all, LAST_WORDS_S)  # gunicorn tells no application that its worker ends
