"""Whether a file has changed: looked at instead of being watched.

A look costs some 3 µs, and sees what watching misses: the symbolic link that Kubernetes turns for a new ConfigMap, or a folder
that is mounted anew.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from hashlib import blake2b
from typing import Final

from smartedge.config.problems import MAX_BYTES

SETTLES_S: Final = 1.0
"""So long after its last change a file may still be half written."""

TICK_S: Final = 0.02
"""A file changed twice within so long may look the same: the kernel's clock of files goes in steps of up to 10 ms."""


class FileLook:
    """Reads one file when it has changed; owned by whoever looks again and again.

    A path that is a symbolic link, or lies below one, is followed each time.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._stamp: object = None
        self._digest = b""
        self._changed_at = 0.0
        self._seen_at = 0.0

    @property
    def is_settled(self) -> bool:
        """Whether its last change is long enough ago for it to be whole: by the file's times, or by when it was seen.

        A file's times may lie ahead of the clock, for one was put back, or is another machine's.
        """
        return time.time() - self._changed_at > SETTLES_S or time.monotonic() - self._seen_at > SETTLES_S

    def read_changed(self) -> bytes | None:
        """Return what it holds, or None where that is what it held last time, though it was touched; raises OSError."""
        found = os.stat(self.path)
        if not stat.S_ISREG(found.st_mode):  # to open a pipe would hold everything up
            raise OSError(errno.EINVAL, "is no regular file", self.path)
        stamp = found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
        if stamp == self._stamp:
            return None
        with open(self.path, "rb") as file:
            text = file.read(MAX_BYTES + 1)
        self._changed_at = max(found.st_mtime, found.st_ctime)
        self._stamp = stamp if abs(time.time() - self._changed_at) > TICK_S else None
        digest = blake2b(text).digest()
        if digest == self._digest:
            return None
        self._digest = digest
        self._seen_at = time.monotonic()
        return text
