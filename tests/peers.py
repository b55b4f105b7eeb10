"""Both ends of a connection inside the test process: gevent sockets, because the code under test runs on gevent's loop."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import gevent.socket
from gevent.server import StreamServer

from smartedge.http.wire import Wire
from smartedge.server.front import AppHooks, ServerLimits
from smartedge.server.server import EdgeServer


def wire_pair() -> tuple[Wire, Any]:
    """A wire, and the plain gevent socket at its other end."""
    ours, theirs = gevent.socket.socketpair()
    return Wire(ours), theirs


def tcp_pair() -> tuple[Any, Any]:
    """Two ends of a TCP connection: only TCP knows resets."""
    with contextlib.closing(gevent.socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        theirs = gevent.socket.create_connection(listener.getsockname())
        while True:
            ours, address = listener.accept()
            if address == theirs.getsockname():
                return ours, theirs
            ours.close()


@contextlib.contextmanager
def backend(play: Callable[[Any, int], None]) -> Iterator[str]:
    """A server that plays a function of (socket, number of the connection) on each connection; gives its URL."""
    count = [0]

    def handle(sock: Any, _address: object) -> None:
        count[0] += 1
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else a second piece waits 40 ms for the first one's ACK
        with contextlib.suppress(OSError):
            play(sock, count[0])
        sock.close()

    server = StreamServer(("127.0.0.1", 0), handle)
    server.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.stop(timeout=0)


def head_of(sock: Any) -> bytes:
    """Read until the empty line; b"" when the peer has finished."""
    data = b""
    while b"\r\n\r\n" not in data:
        more: bytes = sock.recv(65536)
        if not more:
            return b""
        data += more
    return data


def says(*answers: bytes) -> Callable[[Any, int], None]:
    """Give the answers, one for each request, then close."""

    def play(sock: Any, _number: int) -> None:
        for answer in answers:
            if not head_of(sock):
                return
            sock.sendall(answer)

    return play


class App:
    """A WSGI app as our server sees it: it may set limits."""

    def __init__(self, view: Callable[..., Any], *, limits: ServerLimits | None = None) -> None:
        self.view = view
        found = limits or ServerLimits()
        self.server_hooks = AppHooks(limits=lambda: found, on_refused=self.on_refused)
        self.refused: list[Any] = []

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        return self.view(environ, start_response)

    def on_refused(self, peer: bytes, error: Any, request_id: str) -> None:
        self.refused.append((peer, error.status, request_id))


@contextlib.contextmanager
def edge_server(app: Any) -> Iterator[EdgeServer]:
    """Our server on a free port."""
    server = EdgeServer(("127.0.0.1", 0), app)
    server.start()
    try:
        yield server
    finally:
        server.stop(timeout=0)


def talk(server: EdgeServer, *raws: bytes, pause_s: float = 0.0, timeout_s: float = 5.0) -> bytes:
    """Send pieces on one connection, then read until the server closes."""
    with (
        gevent.Timeout(timeout_s),
        contextlib.closing(gevent.socket.create_connection(("127.0.0.1", server.server_port))) as sock,
    ):
        for raw in raws:
            with contextlib.suppress(OSError):
                sock.sendall(raw)
            gevent.sleep(pause_s)
        received = b""
        with contextlib.suppress(ConnectionResetError):
            while more := sock.recv(65536):
                received += more
        return received
