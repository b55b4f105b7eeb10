"""What the edge writes into its access log: the fields of a forwarded request, of an admin page, of a refused one."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from smartedge.balancer.cells import LOG_LINES_LOST
from smartedge.balancer.errors import EdgeError
from smartedge.balancer.learned import Learned
from smartedge.http.request import Request
from smartedge.observe.accesslog import AccessLog
from smartedge.observe.log_writer import LOST
from smartedge.proxy.exchange import Exchange

log = logging.getLogger("smartedge")


class RequestLog:
    """The access log of one worker; where it goes may change with every configuration.

    client_of: gives the address of the client, which is not the peer behind a proxy that is believed.
    """

    def __init__(self, client_of: Callable[[Request], bytes] = lambda request: request.peer) -> None:
        self._client_of = client_of
        self._log: AccessLog | None = None
        self._counted = 0

    def write_to(self, log: AccessLog | None) -> None:
        """Write there from here on, None for nowhere; the log before is closed."""
        if log is not self._log:
            self.close()
            self._log = log

    def reopen(self) -> None:
        """Go on in a new file, if the old one was moved away."""
        if self._log is not None:
            self._log.reopen()

    def mind(self, own: Learned) -> None:
        """Log what keeps lines from being written, once, and count those that were lost, here or on the console; done often."""
        if self._log is not None and (trouble := self._log.trouble()):
            log.error("%s", trouble)
        if lost := LOST.total - self._counted:
            self._counted += lost
            own.add(LOG_LINES_LOST, lost)

    def flush(self, wait_s: float) -> bool:
        """Wait until all is written, for so many seconds at most."""
        return self._log is None or self._log.flush(wait_s)

    def close(self) -> None:
        """Write no more."""
        old, self._log = self._log, None
        if old is not None:
            old.close()

    def refused(self, request_id: str, peer: bytes, error: EdgeError) -> None:
        """Log a request that the server refused before anybody saw it."""
        self._line(request_id=request_id, client=peer.decode("latin-1"), status=error.status, error=error.detail)

    def admin(self, request: Request, request_id: str, status: int) -> None:
        """Log an answer of the admin pages."""
        self._line(request_id=request_id, status=status, **self._request_fields(request))

    def exchange(self, exchange: Exchange) -> None:
        """Log a request that has been forwarded, or could not be."""
        self._line(
            request_id=exchange.request_id,
            status=exchange.status,
            backend=exchange.backend.id if exchange.backend is not None else None,
            attempts=exchange.attempts,
            hedges=exchange.hedges,
            latency_s=_rounded(exchange.latency_s),
            duration_s=_rounded(exchange.duration_s),
            bytes_out=exchange.bytes_out,
            **(self._request_fields(exchange.request, exchange.asked_target) | {"bytes_in": exchange.bytes_in}),
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

    def _line(self, **fields: Any) -> None:
        if self._log is not None:
            self._log.write(**(_NO_FIELDS | fields))


_NO_FIELDS: dict[str, Any] = {
    "request_id": None,
    "client": None,
    "method": None,
    "path": None,
    "status": None,
    "backend": None,
    "attempts": 0,
    "hedges": 0,
    "latency_s": None,
    "duration_s": None,
    "bytes_in": 0,
    "bytes_out": 0,
}
"""An access log line has all of these, in this order."""


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 6)
