"""Rotation: a log file that has become too large or too old is moved aside, once, however many workers write to it.

Whoever is about to write holds a lock on the file's directory (flock(2)) while it looks where the path leads, moves the file
aside if it is time, and writes. So nobody writes to a file that another has moved away, and no line is lost, torn or doubled.
`access.log` becomes `access.log.20261127T031000Z`, with `.gz` behind it if it is compressed; the newest `keep` of those stay.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from gevent.monkey import get_original

_AGAIN_S = 0.002
_ROTATED = re.compile(r"\.\d{8}T\d{6}Z(-\d+)?(\.gz)?")
_sleep: Callable[[float], None] = get_original("time", "sleep")


@dataclass(frozen=True, slots=True)
class Rotation:
    """When a log file is moved aside, and what becomes of it; made of the configuration, used by a `LogWriter`'s thread.

    most_bytes: the largest that it becomes. every_s: it holds lines of one such span of time alone, counted from 1970 in UTC, so
    that 86,400 is a day. keep: so many older files. compress: with gzip.
    """

    most_bytes: int | None
    every_s: int | None
    keep: int
    compress: bool

    def is_due(self, status: os.stat_result, more: int, now: float) -> bool:
        """Whether a file is to be moved aside before `more` bytes are written to it at this Unix time."""
        if not status.st_size:
            return False
        if self.most_bytes is not None and status.st_size + more > self.most_bytes:
            return True
        return self.every_s is not None and status.st_mtime // self.every_s < now // self.every_s

    def move_aside(self, path: str, now: float) -> None:
        """Give the file at a path its name among the older ones; raises OSError."""
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
        ages = [_age(name) for name in rotated_files(path)]
        number = max((number + 1 for taken, number in ages if taken == stamp), default=0)
        os.rename(path, f"{path}.{stamp}-{number}" if number else f"{path}.{stamp}")

    def tidy(self, path: str) -> None:
        """Delete what is more than `keep`, and compress the rest; takes its time, and passes over what it can't do."""
        older = rotated_files(path)
        for name in older[: max(0, len(older) - self.keep)]:
            _delete(name)
        if self.compress:
            for name in rotated_files(path):
                if not name.endswith(".gz"):
                    _compress(name)


def rotated_files(path: str) -> list[str]:
    """Give the files that were moved aside from a path, the oldest first."""
    directory, base = os.path.split(os.path.abspath(path))
    try:
        names = os.listdir(directory)
    except OSError:
        return []
    found = {name for name in names if name.startswith(base) and _ROTATED.fullmatch(name, len(base))}
    found -= {name for name in found if f"{name}.gz" in found}  # just compressed, and about to be deleted
    return [os.path.join(directory, name) for name in sorted(found, key=_age)]


def _age(name: str) -> tuple[str, int]:
    stamp, _, number = name.removesuffix(".gz").rpartition(".")[2].partition("-")
    return stamp, int(number or 0)


def _delete(name: str) -> None:
    try:
        os.unlink(name)
    except OSError:
        pass  # another worker was first, or the directory is no longer ours


def _compress(name: str) -> None:
    """Put a compressed file in the place of this one; whoever holds its lock does it, so that two workers do not."""
    import gzip  # late: its memory is for those who want it

    new = f"{name}.new"
    try:
        with open(name, "rb") as source:
            fcntl.flock(source, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.path.exists(name):
                return
            with gzip.GzipFile(new, "wb", 6, mtime=0) as target:
                shutil.copyfileobj(source, target, 1 << 20)
            shutil.copystat(name, new)
            os.rename(new, f"{name}.gz")
            os.unlink(name)
    except BlockingIOError:
        pass
    except OSError:
        _delete(new)


def open_directory(path: str) -> int:
    """Open the directory of a file, to be locked; raises OSError. A forked child needs one of its own: else its lock is ours."""
    return os.open(os.path.dirname(os.path.abspath(path)), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


@contextmanager
def locked(directory: int, wait_s: float) -> Iterator[bool]:
    """Hold the lock of a directory; false where others have held it for so many seconds, or there is none to be had."""
    deadline = time.monotonic() + wait_s
    held = False
    while True:
        try:
            fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
            held = True
        except BlockingIOError:
            if time.monotonic() < deadline:
                _sleep(_AGAIN_S)
                continue
        except (OSError, ValueError):
            pass  # a filesystem without locks, or no directory any more
        break
    try:
        yield held
    finally:
        if held:
            fcntl.flock(directory, fcntl.LOCK_UN)
