"""Secrets that all workers of an edge have in common: made once, replaced in time, the old ones good for a while longer.

They lie in a file of the state directory, a line each in hexadecimal digits, newest first, below a line with the Unix time at
which the newest was made. Any worker makes the first, one of them the next, and all read the file when it is another.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from smartedge.workers.replaced_file import replace_text, version_of
from smartedge.workers.state_dir import StateError, held

BYTES: Final = 32
DAY_S: Final = 86_400.0
"""After so long a new one is made, and for so long the one before is good."""

KEPT: Final = 2


class RotatedSecrets:
    """The secrets of one use, as one worker has them; owned by its `Edge`, which looks once a second.

    path: of the file; None for a process alone, which keeps them to itself. newest_first: what is in use.
    """

    def __init__(self, path: Path | None) -> None:
        self.newest_first: tuple[bytes, ...] = ()
        self._path = path
        self._made_at = 0.0
        self._read: object = None

    def look(self, now: float) -> bool:
        """Read what another worker has written, or make the first; say whether it is another. now: Unix time.

        Raises StateError when there is no file, and none can be written.
        """
        if self._path is None:
            return bool(not self.newest_first and self._write([secrets.token_bytes(BYTES)], now))
        if (version := version_of(self._path)) == self._read and self.newest_first:
            return False
        before = self.newest_first
        if version is None or not self._take():
            with held(self._path.with_suffix(".lock")):
                if not self._take():
                    self._write([secrets.token_bytes(BYTES)], now)
        return self.newest_first != before

    def rotate(self, now: float) -> bool:
        """Make a new one when the newest is a day old; by one worker, after a look. Say whether that was so."""
        if not 0 <= now - self._made_at < DAY_S:
            return self._write([secrets.token_bytes(BYTES), *self.newest_first][:KEPT], now)
        return False

    def replace(self, newest_first: Sequence[bytes], now: float) -> bool:
        """Have all workers use these from here on; by one worker. Say whether they are others."""
        return tuple(newest_first) != self.newest_first and self._write(newest_first, now)

    def _write(self, newest_first: Sequence[bytes], now: float) -> bool:
        if self._path is not None:
            try:
                replace_text(self._path, "\n".join([f"{now:.3f}", *(one.hex() for one in newest_first), ""]))
            except OSError as error:
                raise StateError(f"cannot write {self._path}: {error.strerror}") from error
            self._read = version_of(self._path)
        self.newest_first, self._made_at = tuple(newest_first), now
        return True

    def _take(self) -> bool:
        """Use what the file says; say whether there is one that can be read."""
        assert self._path is not None
        version = version_of(self._path)
        try:
            made_at, *lines = self._path.read_text().split()
            found, self._made_at = tuple(bytes.fromhex(line) for line in lines), float(made_at)
        except (OSError, ValueError):
            return False
        self.newest_first, self._read = found, version
        return bool(found)
