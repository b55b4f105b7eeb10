"""What can go wrong with a request: one tree of errors that say status, blame and whether the backend may have acted.

The proxy raises these and nothing else past `proxy/transport.py`; whoever answers the client reads the attributes, so there is
no ladder of isinstance anywhere (the idea is h11's `RemoteProtocolError.error_status_hint`).
"""

from __future__ import annotations

from typing import Literal

Blame = Literal["client", "backend", "edge"]

Reason = Literal["connect", "timeout", "closed", "answer", "status", "other"]
"""Why a use of a backend failed: no connection, silence, closed before an answer, no good HTTP, a status that is a failure."""


class EdgeError(Exception):
    """A request that could not be forwarded, or not to its end.

    status: the HTTP status the client gets (499 is only ever logged: the client is gone).
    title: the short name of the problem, the same for every occurrence (RFC 9457 section 3.1.3).
    detail: what happened this time; never holds a secret, a body or a header of the client's.
    blame: who caused it; only `backend` counts against a backend. reason: what such a failure is counted as.
    sent: whether the backend may have acted on the request, so that repeating it is not safe in itself.
    retry_after_s: when it makes sense to come back, in seconds, or None.
    """

    status: int = 500
    title: str = "Internal error"
    blame: Blame = "edge"
    reason: Reason = "other"
    sent: bool = False

    def __init__(self, detail: str, *, sent: bool | None = None, retry_after_s: float | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retry_after_s = retry_after_s
        if sent is not None:
            self.sent = sent


class NoBackend(EdgeError):
    """No backend may take the request now (RFC 9110 section 15.6.4)."""

    status = 503
    title = "No backend available"


class AllFull(NoBackend):
    """The backends that could take the request have as many open as they may; one that ends makes room."""

    title = "All backends are full"


class SessionFull(AllFull):
    """The backend of a sticky session is full; others may have room, but a session is not moved for a moment's sake."""


class OutOfResources(EdgeError):
    """The edge itself has no descriptor, no memory or no port left for the request; no backend is to blame."""

    status = 503
    title = "Edge out of resources"


class EdgeStopped(EdgeError):
    """The edge has cut the request itself: the time that a stop gives it was over before its answer was complete."""

    status = 503
    title = "Edge stopped"
    sent = True

    def __init__(self) -> None:
        super().__init__("The edge stopped before the answer was complete.")


class LoopDetected(EdgeError):
    """The request has been here before: a backend sends it back to the edge (RFC 5842 section 7.2)."""

    status = 508
    title = "Loop detected"


class BackendError(EdgeError):
    """The backend's fault; `sent` is True unless nothing of the request can have reached it."""

    status = 502
    title = "Bad gateway"
    blame: Blame = "backend"
    sent = True


class ConnectFailed(BackendError):
    """No connection: refused, unreachable, timed out, unresolvable, or TLS failed. The request was never sent."""

    title = "Backend unreachable"
    sent = False
    reason = "connect"


class BackendClosed(BackendError):
    """The backend closed the connection before the first byte of an answer."""

    title = "Backend closed the connection"
    reason = "closed"


class BadAnswer(BackendError):
    """What the backend answered is not HTTP, or broke off."""

    title = "Bad answer from backend"
    reason = "answer"


class BackendTimeout(BackendError):
    """The backend kept silent for too long (RFC 9110 section 15.6.5)."""

    status = 504
    title = "Backend timed out"
    reason = "timeout"


class DeadlineExceeded(EdgeError):
    """A call of gRPC took longer than its client allows it; that the client says so is no failure of the backend."""

    status = 504
    title = "Deadline exceeded"
    sent = True


class ClientError(EdgeError):
    """The client's fault: refused before a backend heard of it, or broken off by the client."""

    status = 400
    title = "Bad request"
    blame = "client"


class NoRoute(ClientError):
    """No route takes the request."""

    status = 404
    title = "Not found"


class Misdirected(ClientError):
    """The request came by a connection for other hosts, or past the admin pages (RFC 9110 section 15.5.20)."""

    status = 421
    title = "Misdirected request"


class Forbidden(ClientError):
    """The client may not use the route (RFC 9110 section 15.5.4)."""

    status = 403
    title = "Forbidden"


class Unauthorized(ClientError):
    """The route asks for credentials that the request has not (RFC 9110 section 15.5.2). challenge: says which."""

    status = 401
    title = "Unauthorized"
    challenge = "Basic"


class ClientTimeout(ClientError):
    """The client was too slow to send its request (RFC 9110 section 15.5.9)."""

    status = 408
    title = "Request timeout"


class PayloadTooLarge(ClientError):
    """The request body passes the limit (RFC 9110 section 15.5.14)."""

    status = 413
    title = "Content too large"


class TargetTooLong(ClientError):
    """The request target passes the limit (RFC 9110 section 15.5.15)."""

    status = 414
    title = "URI too long"


class HeadersTooLarge(ClientError):
    """The request head passes the limit (RFC 6585 section 5)."""

    status = 431
    title = "Request header fields too large"


class TooManyRequests(ClientError):
    """The client asks more often than it may (RFC 6585 section 4)."""

    status = 429
    title = "Too many requests"


class MethodRefused(ClientError):
    """A method that a reverse proxy does not perform: CONNECT (RFC 9110 section 15.6.2)."""

    status = 501
    title = "Not implemented"


class CodingRefused(ClientError):
    """A transfer coding that is not understood (RFC 9112 section 6.1)."""

    status = 501
    title = "Not implemented"


class ClientGone(ClientError):
    """The client left before its answer was complete; 499 is nginx's number for it, used in the log only."""

    status = 499
    title = "Client closed request"

    def __init__(self, detail: str = "The client left before its answer was complete.") -> None:
        super().__init__(detail)


class ExpectationFailed(ClientError):
    """An expectation that is not understood (RFC 9110 section 15.5.18)."""

    status = 417
    title = "Expectation failed"
