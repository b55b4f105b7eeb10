"""The access log: one JSON object a line for each request, with the fields of DESIGN.md's vocabulary."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from typing import IO, Any


class AccessLog:
    """Writes finished requests to standard output or to a file, which may be moved away and is then opened anew by `reopen`."""

    def __init__(self, target: bool | str) -> None:
        self.target = target
        self._file: IO[str] | None = None
        self.reopen()

    def reopen(self) -> None:
        """Open the file again; raises OSError when that is not possible, and the old one goes on."""
        if isinstance(self.target, str):
            fresh = open(self.target, "a", encoding="utf-8")  # noqa: SIM115
            if self._file is not None:
                self._file.close()
            self._file = fresh

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
