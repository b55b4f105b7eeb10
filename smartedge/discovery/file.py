"""A file as a source of backends: a JSON list of them, read again when it changes.

It is looked at instead of being watched: a look costs some 3 µs, and sees what watching misses, such as the symbolic link that
Kubernetes turns for a new ConfigMap, or a folder that is mounted anew.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator, Sequence
from typing import Any, Final

import gevent

from smartedge.config.problems import MAX_BYTES, ConfigError, decode, path_text
from smartedge.config.values import escaped
from smartedge.discovery.source import Entry, SourceError

LOOK_S: Final = 0.25
"""How often it is looked at."""

LIVES_S: Final = 1.0
"""How often a file that stays as it is counts as an answer."""

SETTLES_S: Final = 1.0
"""So long after its last change a file that cannot be read may be half written: that is waited for without a word."""

TICK_NS: Final = 20_000_000
"""A file changed twice within so long may look the same: the kernel's clock of files goes in steps of up to 10 ms."""

Stamp = tuple[int, int, int, int, int]


class FileSource:
    """The backends that a file lists: `[...]` as `backends` has them, or `{"backends": [...]}`; asked by a `SourceRunner`.

    A path that is a symbolic link, or lies below one, is followed at each look. Raises SourceError.
    """

    def __init__(self, path: str) -> None:
        self._path = path

    def snapshots(self) -> Iterator[Sequence[Entry]]:
        """Yield what it lists, whenever it has changed, and once a second while it stays."""
        entries: Sequence[Entry] | None = None
        seen: Stamp | None = None
        said_at = 0.0
        while True:
            stamp = self._stamp()
            if stamp != seen:
                found = self._read_settled(stamp)
                if found is not None:
                    entries, said_at = found, 0.0
                    seen = None if _may_change_unseen(stamp) else stamp
            if entries is not None and time.monotonic() - said_at >= LIVES_S:
                said_at = time.monotonic()
                yield entries
            gevent.sleep(LOOK_S)

    def _stamp(self) -> Stamp:
        """What tells the file from another, and from itself after a change."""
        try:
            found = os.stat(self._path)
        except OSError as error:
            raise self._error(error.strerror or str(error)) from None
        if not stat.S_ISREG(found.st_mode):  # to open a pipe would hold everything up
            raise self._error("is no regular file")
        return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns

    def _read_settled(self, stamp: Stamp) -> Sequence[Entry] | None:
        """Read it, or return None where it is probably being written; raises SourceError."""
        try:
            return self._read()
        except SourceError:
            if time.time_ns() - max(stamp[3], stamp[4]) < SETTLES_S * 1e9:
                return None
            raise

    def _read(self) -> Sequence[Entry]:
        try:
            with open(self._path, "rb") as file:
                text = file.read(MAX_BYTES + 1)
            document, repeated = decode(text, escaped(self._path))
        except OSError as error:
            raise self._error(error.strerror or str(error)) from None
        except ConfigError as error:
            raise SourceError(str(error)) from None
        if repeated:
            raise self._error("; ".join(f"{path_text(path)} {what}" for path, what in repeated[:3]))
        return self._entries_of(document)

    def _entries_of(self, document: Any) -> Sequence[Entry]:
        if isinstance(document, dict) and document.keys() == {"backends"}:
            document = document["backends"]
        if not isinstance(document, list):
            raise self._error('must be a list of backends, or an object with nothing but "backends"')
        return document

    def _error(self, what: str) -> SourceError:
        return SourceError(f"{escaped(self._path)}: {what}")


def _may_change_unseen(stamp: Stamp) -> bool:
    """Whether a change that comes now could leave the stamp as it is."""
    return time.time_ns() - max(stamp[3], stamp[4]) < TICK_NS
