"""The access log: one JSON object a line for each request, in the words of status and metrics."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from typing import Any

from smartedge.observe.log_writer import LogWriter


class AccessLog:
    """Writes finished requests to standard output (target True) or to a file; raises OSError when that can't be opened.

    No request waits for it and none fails by it (observe/log_writer.py, observe/console.py).
    """

    def __init__(self, target: bool | str) -> None:
        self._writer = LogWriter(target) if isinstance(target, str) else None
        self._told: OSError | None = None

    def write(self, **fields: Any) -> None:
        """Write one line; `time` comes first and is UTC (RFC 3339)."""
        stamp = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line = json.dumps({"time": stamp, **fields}, ensure_ascii=False) + "\n"
        if self._writer is not None:
            self._writer.write(line.encode("utf-8", "replace"))
            return
        try:
            sys.stdout.write(line)
            sys.stdout.flush()
        except (OSError, ValueError):
            pass

    def reopen(self) -> None:
        """Go on in a new file now, if the old one was moved away (which is noticed without this, too, at the next line)."""
        if self._writer is not None:
            self._writer.reopen()

    def trouble(self) -> str | None:
        """Say what is wrong, once for each kind of trouble, or that it is over; None when there is nothing new to say."""
        writer = self._writer
        if writer is None:
            return None
        now = writer.trouble or writer.cannot_follow
        told, self._told = self._told, now
        if now is None:
            return f"the access log is written again ({writer.lost} lines were lost)" if told is not None else None
        if told is not None and told.errno == now.errno:
            return None
        if writer.trouble is not None:
            return f"the access log cannot be written: {now.strerror}; its lines are lost, and counted"
        return f"the access log was moved away and cannot be opened anew: {now.strerror}; the old file goes on"

    def flush(self, wait_s: float) -> bool:
        """Wait until all is written, for so many seconds at most."""
        return self._writer is None or self._writer.flush(wait_s)

    def close(self) -> None:
        """Close the file, when what is there has been written."""
        if self._writer is not None:
            self._writer.close()
