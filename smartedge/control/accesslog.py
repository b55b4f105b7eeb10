"""The access log: one JSON object a line for each request, in the words of status and metrics."""

from __future__ import annotations

import json
import os
import sys
from datetime import UTC, datetime
from typing import IO, Any


class AccessLog:
    """Writes finished requests to standard output (target True) or to a file; raises OSError when that can't be opened."""

    def __init__(self, target: bool | str) -> None:
        self._path = target if isinstance(target, str) else None
        self._file = self._open()

    def _open(self) -> IO[str] | None:
        return open(self._path, "a", encoding="utf-8") if self._path is not None else None

    def follow(self) -> None:
        """Notice that the file was moved away (logrotate) and go on in a new one; call it now and then."""
        if self._path is None or self._file is None:
            return
        try:
            there = os.stat(self._path)
            ours = os.fstat(self._file.fileno())
            if (there.st_ino, there.st_dev) == (ours.st_ino, ours.st_dev):
                return
        except FileNotFoundError:
            pass
        old, self._file = self._file, self._open()
        old.close()

    def write(self, **fields: Any) -> None:
        """Write one line; `time` comes first and is UTC (RFC 3339)."""
        stream = self._file or sys.stdout
        stamp = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        stream.write(json.dumps({"time": stamp, **fields}, ensure_ascii=False) + "\n")
        stream.flush()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None
