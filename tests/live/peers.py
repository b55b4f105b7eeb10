"""Backends that refuse, stall, cut, drip and lie: scripted TCP servers in threads, for live tests.

A `Script` listens on a port of its own and plays an act (tests/live/acts.py), a function of one connection:

    with Script(cuts_mid_body()) as backend:
        ...send a request through a proxy to backend.url...
        assert backend.requests == [b"GET / HTTP/1.1\\r\\n..."]  # the exact bytes that arrived

Requests for `/health` play `Script.health` instead, which answers 200: they are neither recorded nor counted
among the connections, so that a hostile backend can look healthy. `health=None` leaves them to the act. Both
may be changed while it runs. `sequence(a, b)` plays a on the first connection and b on all later ones;
`refuse()` and `accept()` take the server down and up again on the same port. The other side is `exchange`,
`Client` and `parse_answers` of tests/live/wire.py. All names of the three files can be imported from here.

Each connection has a thread; `close()` ends everything. The threads are real ones: do not
monkey patch the test process.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from tests.live.acts import *  # noqa: F403  (one place to import from)
from tests.live.acts import Act, answers
from tests.live.processes import wait_until
from tests.live.wire import *  # noqa: F403
from tests.live.wire import Request, Stream, WireError, read_body, read_request, reset

CERTS = Path(__file__).parent / "certs"
HEALTHY = answers(body=b"ok\n")


class Call:
    """One accepted connection, as an act sees it: `number` counts connections from 1."""

    def __init__(self, script: Script, sock: socket.socket, number: int = 0) -> None:
        self.script, self.sock, self.number = script, sock, number
        self.is_probe = False
        self.stream = Stream(sock)

    def handshake(self) -> None:
        """TLS, where the script has it."""
        if self.script.tls is not None:
            self.sock = self.script.tls.wrap_socket(self.sock, server_side=True)
            self.stream = Stream(self.sock)

    def opens_with(self, start: bytes) -> bool:
        """Whether the connection begins with these bytes; waits for them and consumes nothing."""
        while start.startswith(self.stream.buffer[: len(start)]) and len(self.stream.buffer) < len(start):
            if not self.stream.fill():
                return False
        return self.stream.buffer.startswith(start)

    def request(self, *, body: bool = True) -> Request | None:
        """Read the next request (`body=False`: its head), recording its raw bytes; None after the last."""
        request = read_request(self.stream, body=body)
        if request is not None:
            self.script.record(self, request)
        return request

    def body(self, request: Request) -> bytes:
        """Read the body of a request that was read with `body=False`; its raw bytes join the record."""
        read_body(self.stream, request)
        request.raw += self.stream.raw()
        return request.body

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def pause(self, seconds: float) -> None:
        """Wait, but not longer than the script runs."""
        self.script.stopping.wait(seconds)

    def stall(self) -> None:
        """Keep the connection open and silent until the peer leaves or the script ends; reads nothing."""
        poll = select.poll()
        poll.register(self.sock, select.POLLRDHUP | select.POLLHUP | select.POLLERR)
        while not self.script.stopping.is_set() and not poll.poll(50):
            pass

    def reset(self) -> None:
        """End the connection with an RST."""
        reset(self.sock)

    def close(self) -> None:
        """End the connection; what was sent arrives, unless unread bytes are left (then it is an RST)."""
        self.sock.close()

    def abort(self) -> None:
        """End the connection from another thread, waking the one that waits on it."""
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)


class Script:
    """A TCP server on 127.0.0.1, or another address of this machine, that plays an act on each connection; see the head above.

    port, url: where it listens. connections: how many the act played on. probes: how many requests `health`
    has answered.
    """

    def __init__(
        self,
        act: Act = HEALTHY,
        *,
        health: Act | None = HEALTHY,
        port: int = 0,
        tls: ssl.SSLContext | None = None,
        host: str = "127.0.0.1",
    ) -> None:
        self.host = host
        self.act, self.health, self.tls = act, health, tls
        self._requests: list[Request] = []
        self.connections = 0
        self.probes = 0
        self.stopping = threading.Event()
        self._lock = threading.Lock()
        self._open: set[Call] = set()
        self._threads: list[threading.Thread] = []
        self._socket = _bind(port, host)
        self._listening = False
        self.port: int = self._socket.getsockname()[1]
        self.url = f"{'https' if tls else 'http'}://{host}:{self.port}"
        self.accept()

    def accept(self) -> None:
        """Listen (again)."""
        if not self._listening:
            self._listening = True
            self._socket.listen(256)
            self._start(self._accept_loop, self._socket)

    def refuse(self) -> None:
        """Go down: reset every connection and refuse new ones, but keep the port for `accept()`."""
        with self._lock:
            self._listening = False
            old, calls = self._socket, list(self._open)
        # Closing alone does not wake a thread in accept(), and would let the port go to somebody else.
        with contextlib.suppress(OSError):
            old.shutdown(socket.SHUT_RDWR)
        old.close()
        for call in calls:
            call.abort()
        self._socket = _bind(self.port, self.host)

    def play(self, act: Act) -> None:
        """Go on with another act: connections that are open end, and whoever asks next meets it."""
        self.act = act
        with self._lock:
            calls = list(self._open)
        for call in calls:
            call.abort()
        wait_until(lambda: self._open.isdisjoint(calls), 5, "the connections to end")

    def close(self) -> None:
        """End every connection and thread."""
        self.stopping.set()
        with self._lock:
            self._listening = False
            calls = list(self._open)
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for call in calls:
            call.abort()
        for thread in self._threads:
            thread.join(5)

    @property
    def requests(self) -> list[bytes]:
        """The raw bytes (head and body) of each request, in order of arrival."""
        return [request.raw for request in list(self._requests)]

    @property
    def open_connections(self) -> int:
        """How many connections are open now, those of probes too."""
        return len(self._open)

    def record(self, call: Call, request: Request) -> None:
        """Keep a request, or count it if it is a health probe."""
        with self._lock:
            if call.is_probe:
                self.probes += 1
            else:
                self._requests.append(request)

    def _start(self, target: object, *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept_loop(self, listener: socket.socket) -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else a second piece waits 40 ms for the first one's ACK
            call = Call(self, sock)
            with self._lock:
                self._open.add(call)
            self._start(self._play, call)

    def _play(self, call: Call) -> None:
        # A peer that leaves in mid-act, or sends something that is not HTTP, ends the act.
        with contextlib.suppress(OSError, WireError):
            call.handshake()
            if self.health is not None and call.opens_with(b"GET /health "):
                call.is_probe = True
                self.health(call)
            else:
                with self._lock:
                    self.connections += 1
                    call.number = self.connections
                self.act(call)
        call.close()
        with self._lock:
            self._open.discard(call)

    def __enter__(self) -> Script:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def tls_server(*, ask_for_client_certificate: bool = False) -> ssl.SSLContext:
    """TLS for a Script: a certificate for localhost, backend.test and 127.0.0.1, signed by certs/ca.pem."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTS / "localhost.pem")
    if ask_for_client_certificate:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(CERTS / "ca.pem")
    return context


@contextlib.contextmanager
def refused_port() -> Iterator[int]:
    """A port that refuses connections for as long as the context lasts: bound by us, never listened on."""
    with _bind(0) as sock:
        yield sock.getsockname()[1]


def _bind(port: int, host: str = "127.0.0.1") -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((host, port))
    return sock
