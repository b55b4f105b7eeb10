"""Clients of a server that is not ours: what gunicorn's own loop (`-k gevent`) leaves undone at the end of a connection.

gunicorn gives the client's socket in `environ["gunicorn.socket"]`, and its response is what `start_response` belongs to. Where
either is missing (another server, Flask's test client) nothing is done.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

from smartedge.http.environ_keys import GUNICORN_SOCKET
from smartedge.http.lingering import linger
from smartedge.http.wire import RESET, nothing_on_its_way
from smartedge.proxy.tunnel import BorrowedWire


class ForeignClient:
    """The client's connection, and gunicorn's response to one request on it."""

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


class Refusal:
    """The body of an answer to what never became a request of ours; the connection ends behind it."""

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
