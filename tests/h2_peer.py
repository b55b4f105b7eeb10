"""The other end of an HTTP/2 connection in the test's process, made of the package h2: a peer that knows nothing of us."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    PingAckReceived,
    RequestReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.settings import Settings

from tests.peers import backend

Pairs = list[tuple[str, str]]


class H2Server:
    """A backend's side of one connection, in the hand of a test. settings: said first.

    requests: heads by stream. bodies, trailers: what came behind them. ended: streams whose request is whole. resets: by
    stream, the code of their end. pings: so many of ours were answered. gone: the peer has said GOAWAY, or closed.
    """

    def __init__(self, sock: Any, settings: dict[int, int] | None = None, *, checks: bool = True) -> None:
        self.sock = sock
        quiet = {"validate_outbound_headers": checks, "normalize_outbound_headers": checks}
        self.h2 = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8", **quiet))
        self.h2.local_settings = Settings(client=False, initial_values={**self.h2.local_settings, **(settings or {})})
        self.h2.initiate_connection()
        self.requests: dict[int, dict[str, str]] = {}
        self.bodies: dict[int, bytes] = {}
        self.trailers: dict[int, dict[str, str]] = {}
        self.ended: set[int] = set()
        self.resets: dict[int, int] = {}
        self.gone = False
        self.pings = 0
        self.flush()

    def flush(self) -> None:
        """Send what waits to be sent."""
        self.sock.sendall(self.h2.data_to_send())

    def until(self, condition: Callable[[], object]) -> None:
        """Take frames until this is so, or the connection ends."""
        while not condition() and not self.gone:
            data = self.sock.recv(65536)
            if not data:
                self.gone = True
                return
            for event in self.h2.receive_data(data):
                self._take(event)
            self.flush()

    def _take(self, event: Any) -> None:
        if isinstance(event, RequestReceived):
            self.requests[event.stream_id] = dict(event.headers)
            self.bodies[event.stream_id] = b""
        elif isinstance(event, DataReceived):
            self.bodies[event.stream_id] += event.data
            self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, TrailersReceived):
            self.trailers[event.stream_id] = dict(event.headers)
        elif isinstance(event, StreamEnded):
            self.ended.add(event.stream_id)
        elif isinstance(event, StreamReset):
            self.resets[event.stream_id] = event.error_code
        elif isinstance(event, PingAckReceived):
            self.pings += 1
        elif isinstance(event, ConnectionTerminated):
            self.gone = True

    def request(self, number: int = 1) -> int:
        """Wait for so many whole requests; give the stream of the last."""
        self.until(lambda: len(self.ended) >= number)
        return max(self.ended, default=0)

    def answer(
        self, stream: int, body: bytes = b"", status: str = "200", fields: Pairs | None = None, trailers: Pairs | None = None
    ) -> None:
        """Send an answer, whole; a body as far as the windows allow it."""
        self.h2.send_headers(stream, [(":status", status), *(fields or [])], end_stream=not body and trailers is None)
        if body:
            self.h2.send_data(stream, body, end_stream=trailers is None)
        if trailers is not None:
            self.h2.send_headers(stream, trailers, end_stream=True)
        self.flush()


@contextmanager
def h2_backend(
    play: Callable[[H2Server, int], None], settings: dict[int, int] | None = None, *, checks: bool = True
) -> Iterator[str]:
    """A backend that plays a function of (its side, number of the connection) on each connection; gives its URL.

    checks: h2 refuses to send what is wrong.
    """
    with backend(lambda sock, number: play(H2Server(sock, settings, checks=checks), number)) as url:
        yield url
