"""Clients of a server that is not ours, gunicorn's own loop (`-k gevent`): the end of their connections, and tunnels on them.

gunicorn gives the client's socket in `environ["gunicorn.socket"]`, and its response is what `start_response` belongs to. Where
either is missing (another server, Flask's test client) nothing is done.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from math import inf
from typing import Any

import gevent.socket

from smartedge.http.environ_keys import GUNICORN_SOCKET, HANDLER
from smartedge.http.lingering import linger
from smartedge.http.peer import RESET, nothing_on_its_way
from smartedge.http.side import Side
from smartedge.http.wire import RECV_BYTES, WireTimeout
from smartedge.server.handler import EdgeHandler


class ForeignClient:
    """The client's connection, and gunicorn's response to one request on it; owned by an Exchange, or by a RefusalBody."""

    __slots__ = ("_response", "_sock")

    def __init__(self, environ: dict[str, Any], start_response: Any) -> None:
        sock = environ.get(GUNICORN_SOCKET)
        self._sock = sock if hasattr(sock, "_sock") else None  # gevent's
        response = getattr(start_response, "__self__", None)
        self._response = response if hasattr(response, "force_close") and hasattr(response, "should_close") else None

    def close_after(self) -> None:
        """Have the connection closed behind the answer, which says so: where the next request begins is not known."""
        if self._response is not None:
            self._response.force_close()

    def keep_upgrade(self, value: str) -> None:
        """Have a 426 say what to upgrade to; WSGI leaves hop-by-hop fields to the server, which knows WebSocket alone."""
        if self._response is not None:
            self._response.headers.append(("Upgrade", value))
            self._response.upgrade = True  # for it, Connection says so

    def break_off(self) -> None:
        """Have a close reset the connection, if a plain one would look like the end of the answer."""
        response = self._response
        if self._sock is not None and response is not None and response.response_length is None and not response.chunked:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)

    def leave(self) -> None:
        """Wait until a close takes nothing away from the client, if there will be one."""
        if self._sock is None or self._response is None or not self._response.should_close():
            return
        if not nothing_on_its_way(self._sock._sock):
            linger(BorrowedWire(self._sock))


class RefusalBody:
    """The body of an answer to what never became a request of ours; made by the app. The connection ends behind it."""

    def __init__(self, body: bytes, client: ForeignClient) -> None:
        self._body = body
        self._client = client
        client.close_after()

    def __iter__(self) -> Iterator[bytes]:
        """Give the body."""
        return iter([self._body])

    def close(self) -> None:
        """Let the client read it (called by the server behind the last byte)."""
        self._client.leave()


class BorrowedWire:
    """A client's socket that belongs to gunicorn's loop, plain or TLS; made by `take_over` for a tunnel, and to linger.

    It is shut down, never closed: gunicorn finds its end and closes it, as it does when a client leaves.
    """

    def __init__(self, sock: Any) -> None:
        self._sock = sock

    def recv(self, timeout_s: float, size: int = RECV_BYTES) -> bytes:
        """Wait for bytes; b"" at the end."""
        self._sock.settimeout(None if timeout_s == inf else timeout_s)
        try:
            return self._sock.recv(size)  # type: ignore[no-any-return]
        except TimeoutError as error:
            raise WireTimeout("nothing was received in time") from error

    def send_now(self, data: bytes, timeout_s: float) -> None:
        """Send all of it."""
        self._sock.settimeout(None if timeout_s == inf else timeout_s)
        try:
            self._sock.sendall(data)
        except TimeoutError as error:
            raise WireTimeout("nothing could be sent in time") from error

    def finish_sending(self) -> None:
        """Half-close, below TLS where there is one: gevent's can't be ended without waiting for the peer."""
        self._shutdown(socket.SHUT_WR)

    def break_off(self) -> None:
        """Do nothing: gunicorn closes the socket, and in its own way."""

    def close(self) -> None:
        """End both directions; whoever reads or writes finds out."""
        self._shutdown(socket.SHUT_RDWR)

    def _shutdown(self, how: int) -> None:
        try:
            self._sock._sock.shutdown(how)
        except OSError:
            pass  # The peer was quicker.


def can_take_over(environ: dict[str, Any]) -> bool:
    """Whether the server of this environ would hand its client's connection over: our own does, and gunicorn's gevent worker."""
    if HANDLER in environ:
        return True
    return (
        isinstance(environ.get(GUNICORN_SOCKET), gevent.socket.socket)
        and hasattr(sys.modules.get("gunicorn.workers.base_async"), "ALREADY_HANDLED")
        and _unreader(environ) is not None
    )


def take_over(environ: dict[str, Any]) -> tuple[Side, bytes, Any]:
    """Take a client's connection from its server: the connection, what has come behind the request, what to return to the server.

    To our own server (None) the WSGI response is returned as ever; gunicorn has a value that says that all is done.
    """
    handler: EdgeHandler | None = environ.get(HANDLER)
    if handler is not None:
        return (*handler.take_over(), None)
    client, unreader = BorrowedWire(environ[GUNICORN_SOCKET]), _unreader(environ)
    early, unreader.buf = unreader.buf.getvalue(), type(unreader.buf)()  # what it has read behind the request's head
    return client, early, sys.modules["gunicorn.workers.base_async"].ALREADY_HANDLED


def _unreader(environ: dict[str, Any]) -> Any:
    """Find what gunicorn has read ahead of the request; None where that can't be found."""
    reader = getattr(environ.get("wsgi.input"), "reader", None)
    found = getattr(reader, "unreader", None) or getattr(getattr(reader, "req", None), "unreader", None)
    return found if hasattr(found, "buf") else None
