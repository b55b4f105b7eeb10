"""The access log: one JSON object a line for each request, in the words of status and metrics.

A line is of a forwarded request, of an admin page, or of a request that the server refused. No request waits for it and none
fails by it (observe/log_writer.py, observe/console.py).
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from smartedge.balancer.cells import LOG_LINES_LOST
from smartedge.balancer.errors import EdgeError
from smartedge.balancer.learned import Learned
from smartedge.http.request import Request
from smartedge.observe.log_writer import LOST, LogWriter
from smartedge.proxy.exchange import Exchange

log = logging.getLogger("smartedge")

FIELDS: dict[str, Any] = {
    "request_id": None,
    "trace_id": None,
    "client": None,
    "method": None,
    "path": None,
    "status": None,
    "backend": None,
    "tries": 0,
    "hedges": 0,
    "latency_s": None,
    "duration_s": None,
    "bytes_in": 0,
    "bytes_out": 0,
}
"""What every line has after its time, in this order, and the value where there is none."""


class AccessLog:
    """The access log of one worker, owned by its Edge; exchanges, admin pages and the server's refusals are written to it.

    client_of: gives the address of the client, which is not the peer behind a trusted proxy. Where it goes may change with every
    configuration (`write_to`); at first it goes nowhere.
    """

    def __init__(self, client_of: Callable[[Request], bytes] = lambda request: request.peer) -> None:
        self._client_of = client_of
        self._output: LineOutput | None = None
        self._counted = 0

    def write_to(self, output: LineOutput | None) -> None:
        """Write there from here on, None for nowhere; the output before is closed."""
        if output is not self._output:
            self.close()
            self._output = output

    def reopen(self) -> None:
        """Go on in a new file, if the old one was moved away."""
        if self._output is not None:
            self._output.reopen()

    def report_trouble(self, edge_row: Learned) -> None:
        """Log what keeps lines from being written, once, and count lines lost here or on the console; called once a second."""
        if self._output is not None and (trouble := self._output.trouble()):
            log.error("%s", trouble)
        if lost := LOST.total - self._counted:
            self._counted += lost
            edge_row.add(LOG_LINES_LOST, lost)

    def flush(self, wait_s: float) -> bool:
        """Wait until all is written, for so many seconds at most."""
        return self._output is None or self._output.flush(wait_s)

    def close(self) -> None:
        """Write no more."""
        old, self._output = self._output, None
        if old is not None:
            old.close()

    def write_refused(self, request_id: str, peer: bytes, error: EdgeError) -> None:
        """Log a request that the server refused before anybody saw it."""
        self._write(request_id=request_id, client=peer.decode("latin-1"), status=error.status, error=error.detail)

    def write_admin(self, request: Request, request_id: str, status: int) -> None:
        """Log an answer of the admin pages."""
        self._write(request_id=request_id, status=status, **self._request_fields(request))

    def write_exchange(self, exchange: Exchange) -> None:
        """Log a request that has been forwarded, or could not be."""
        attempts = exchange.attempts
        self._write(
            request_id=attempts.request_id,
            trace_id=attempts.trace_id,
            status=exchange.status,
            backend=attempts.backend.id if attempts.backend is not None else None,
            tries=attempts.tries,
            hedges=attempts.hedges,
            latency_s=_rounded(attempts.latency_s),
            duration_s=_rounded(exchange.duration_s),
            bytes_out=exchange.bytes_out,
            **(self._request_fields(attempts.request, exchange.asked_target) | {"bytes_in": exchange.bytes_in}),
            **({"error": exchange.error.detail} if exchange.error is not None else {}),
            **({"route": exchange.route.id, "service": exchange.routed_to} if exchange.route is not None else {}),
        )

    def _request_fields(self, request: Request, asked_target: bytes | None = None) -> dict[str, Any]:
        return {
            "client": self._client_of(request).decode("latin-1"),
            "method": request.method.decode("latin-1"),
            "path": (asked_target or request.target).partition(b"?")[0].decode("latin-1"),
            "bytes_in": request.body.received_bytes if request.body is not None else 0,
        }

    def _write(self, **fields: Any) -> None:
        if self._output is not None:
            self._output.write(FIELDS | fields)


class LineOutput:
    """Where an AccessLog writes; part of a `Setup`. target: a file, or True for standard output.

    Raises OSError for a file that can't be opened.
    """

    def __init__(self, target: bool | str) -> None:
        self._writer = LogWriter(target) if isinstance(target, str) else None
        self._told: OSError | None = None

    def write(self, fields: dict[str, Any]) -> None:
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


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 6)
