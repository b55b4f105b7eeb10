"""A backend that does what a test says: answers, fails, hangs, is slow, breaks off, is not there. It remembers what it was asked.

It is a real HTTP server of the standard library on a port of its own, with a thread for each connection. Probes are told from
requests by their User-Agent and answered well unless `fails_probes` says otherwise.
"""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

PROBE = "smartedge-health"
"""The User-Agent of probes."""

_RESET = struct.pack("ii", 1, 0)


@dataclass(frozen=True)
class RecordedRequest:
    """A request as a `ScriptedBackend` received it. target: as it stood on the wire; at: seconds of `time.monotonic`."""

    method: str
    target: str
    headers: Message
    body: bytes
    at: float

    @property
    def path(self) -> str:
        """The target without its query."""
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, list[str]]:
        """The values of the query by name."""
        return parse_qs(urlsplit(self.target).query, keep_blank_values=True)

    @property
    def json(self) -> Any:
        """The body, read as JSON. Raises ValueError when it is none."""
        return json.loads(self.body)


@dataclass(frozen=True)
class Act:
    """What a `ScriptedBackend` does with a request: waits, then answers, whole or in part, or not at all.

    after_s: how long it waits. hangs: it waits until the other side gives up. cut_bytes: it closes after so many bytes of the
    body; -1: it resets the connection before the head.
    """

    status: int = 200
    body: bytes = b"hello\n"
    headers: Mapping[str, str] = field(default_factory=dict)
    after_s: float = 0.0
    hangs: bool = False
    cut_bytes: int | None = None


class ScriptedBackend:
    """A backend under a test's control; made by the fixtures, and usable without an edge, to test a client by.

    id: what an edge calls it. url: where it listens. requests: what it was asked, the oldest first, without probes. probes: how
    many of those came. Each of the words that say what it does holds for the next `times` requests, or, without that, from then
    on; said one after the other they wait for their turn. They return the backend, so that they can be strung together.
    """

    def __init__(self, name: str = "a") -> None:
        self.id = name
        self.requests: list[RecordedRequest] = []
        self.probes = 0
        self._news = threading.Condition()
        self._usual = Act()
        self._next: deque[list[Any]] = deque()
        self._probe_act = Act(body=b"ok\n")
        self._over = threading.Event()
        self._connections: set[socket.socket] = set()
        self._server: ThreadingHTTPServer | None = None
        self._port = 0
        self.accepts()
        self.url = f"http://127.0.0.1:{self._port}"

    # ---- what it does ----

    def replies(
        self,
        status: int = 200,
        body: bytes | str | Any = b"hello\n",
        *,
        headers: Mapping[str, str] | None = None,
        after_s: float = 0.0,
        times: int | None = None,
    ) -> Self:
        """Answer so. body: bytes, text, or what becomes JSON. after_s: seconds of work before."""
        headers = dict(headers or {})
        if isinstance(body, str):
            body = body.encode()
        elif not isinstance(body, bytes):
            body = json.dumps(body).encode()
            headers.setdefault("Content-Type", "application/json")
        return self._does(Act(status, body, headers, after_s), times)

    def slow(self, seconds: float, *, times: int | None = None) -> Self:
        """Answer 200 after so many seconds."""
        return self._does(Act(after_s=seconds), times)

    def hangs(self, *, times: int | None = None) -> Self:
        """Take the request and never answer."""
        return self._does(Act(hangs=True), times)

    def cuts_after(self, count: int, *, body: bytes = b"x" * 65536, times: int | None = None) -> Self:
        """Close the connection after so many bytes of the body, of which more was promised; 0: after the head."""
        return self._does(Act(body=body, cut_bytes=count), times)

    def resets(self, *, times: int | None = None) -> Self:
        """Take the request and break the connection off before any byte of an answer."""
        return self._does(Act(cut_bytes=-1), times)

    def refuses(self) -> Self:
        """Be not there: connections are refused, and those that are open break off. `accepts` brings it back on its port."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()
            for sock in list(self._connections):
                with contextlib.suppress(OSError):
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                    sock.shutdown(socket.SHUT_RDWR)
        return self

    def accepts(self) -> Self:
        """Be there again."""
        if self._server is None:
            server = _Server(("127.0.0.1", self._port), type("Handler", (_Handler,), {"script": self}))
            self._server, self._port = server, server.server_address[1]
            threading.Thread(target=server.serve_forever, args=(0.02,), name=f"backend {self.id}", daemon=True).start()
        return self

    def fails_probes(self, status: int = 503) -> Self:
        """Answer probes so."""
        self._probe_act = Act(status, b"not well\n")
        return self

    def passes_probes(self) -> Self:
        """Answer probes well."""
        self._probe_act = Act(body=b"ok\n")
        return self

    def recovers(self) -> Self:
        """Be a sound backend from here on, whatever was said before."""
        self._usual = Act()
        self._next.clear()
        return self.passes_probes().accepts()

    # ---- what it was asked ----

    def wait_for(self, count: int = 1, timeout_s: float = 5.0) -> list[RecordedRequest]:
        """Wait until it was asked so many times, and return the requests. Raises TimeoutError, which says how many came."""
        with self._news:
            if not self._news.wait_for(lambda: len(self.requests) >= count, timeout_s):
                raise TimeoutError(f"backend {self.id} was asked {len(self.requests)} times within {timeout_s:g} s, not {count}")
            return list(self.requests)

    def forget(self) -> None:
        """Forget what it was asked."""
        with self._news:
            self.requests.clear()
            self.probes = 0

    def close(self) -> None:
        """End the server and every connection."""
        self._over.set()
        self.refuses()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "refuses" if self._server is None else "hangs" if self._usual.hangs else f"replies {self._usual.status}"
        return f"<ScriptedBackend {self.id} {self.url}: {state}, asked {len(self.requests)} times>"

    def _does(self, act: Act, times: int | None) -> Self:
        if times is None:
            self._usual = act
        elif times > 0:
            self._next.append([act, times])
        return self

    def _record(self, request: RecordedRequest) -> Act:
        """Remember a request, and say what to do with it."""
        with self._news:
            if request.headers.get("User-Agent") == PROBE:
                self.probes += 1
                self._news.notify_all()
                return self._probe_act
            self.requests.append(request)
            self._news.notify_all()
            if not self._next:
                return self._usual
            act: Act = self._next[0][0]
            self._next[0][1] -= 1
            if self._next[0][1] == 0:
                self._next.popleft()
            return act


class _Server(ThreadingHTTPServer):
    """The standard library's, whose threads nobody waits for: those of hanging requests end with the process."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a test has its edge break connections off."""


class _Handler(BaseHTTPRequestHandler):
    """One connection to a `ScriptedBackend`."""

    script: ScriptedBackend
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self) -> None:
        """Remember the connection, so that it can be broken off."""
        super().setup()
        self.script._connections.add(self.connection)

    def finish(self) -> None:
        """Forget it."""
        self.script._connections.discard(self.connection)
        with contextlib.suppress(OSError):
            super().finish()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def __getattr__(self, name: str) -> Callable[[], None]:
        if name.startswith("do_"):  # whatever the method is
            return self._answer
        raise AttributeError(name)

    def _answer(self) -> None:
        act = self.script._record(RecordedRequest(self.command, self.path, self.headers, self._body(), time.monotonic()))
        if act.hangs or act.after_s:
            self._wait(None if act.hangs else act.after_s)
        if act.hangs or act.cut_bytes == -1:
            self._break_off()
            return
        body = act.body if self.command != "HEAD" and act.status not in (204, 304) else b""
        self.send_response(act.status)
        for name, value in act.headers.items():
            self.send_header(name, value)
        said = {name.lower() for name in act.headers}
        if act.status not in (204, 304) and not said & {"content-length", "transfer-encoding"}:
            self.send_header("Content-Length", str(len(act.body)))
        if "x-request-id" not in said and (request_id := self.headers.get("X-Request-Id")):
            self.send_header("X-Request-Id", request_id)  # by which an edge finds its decision again
        self.end_headers()
        if act.cut_bytes is not None:
            self.wfile.write(body[: act.cut_bytes])
            self.wfile.flush()
            self._break_off(politely=True)
            return
        self.wfile.write(body)

    def _wait(self, seconds: float | None) -> None:
        """Wait, but no longer than the other side does."""
        until = None if seconds is None else time.monotonic() + seconds
        self.connection.settimeout(0.05)
        try:
            while not self.script._over.is_set() and (until is None or (left := until - time.monotonic()) > 0):
                if until is not None and left < 0.05:
                    time.sleep(left)
                    break
                with contextlib.suppress(TimeoutError):
                    if not self.connection.recv(1, socket.MSG_PEEK):
                        break
                    time.sleep(0.05)  # a pipelined request waits, too
        except OSError:
            pass
        finally:
            self.connection.settimeout(None)

    def _break_off(self, *, politely: bool = False) -> None:
        """Close the connection; politely: so that what was sent arrives, else by a reset."""
        self.close_connection = True
        with contextlib.suppress(OSError):
            if not politely:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self.connection.shutdown(socket.SHUT_WR)

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", "").lower():
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():  # trailers
            pass
        return body
