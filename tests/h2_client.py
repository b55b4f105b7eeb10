"""A client of HTTP/2 that knows nothing of ours: the package h2 over a socket, one stream or several at a time."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    InformationalResponseReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)

Fields = Sequence[tuple[str, str]]


class H2Answer:
    """What has come on a stream so far. status: 0 before its head. reset: the code of a RST_STREAM, None without one."""

    def __init__(self) -> None:
        self.interims: list[list[tuple[str, str]]] = []
        self.headers: list[tuple[str, str]] = []
        self.trailers: list[tuple[str, str]] = []
        self.body = b""
        self.ended = False
        self.reset: int | None = None

    @property
    def status(self) -> int:
        return int(dict(self.headers).get(":status", 0))

    def __getitem__(self, name: str) -> str | None:
        return dict(self.headers).get(name)

    @property
    def over(self) -> bool:
        return self.ended or self.reset is not None


class H2Client:
    """One connection. goaway: the code of a GOAWAY, None without one. closed: by the edge. takes: gives windows back."""

    def __init__(self, sock: socket.socket, authority: str = "shop.example", *, takes: bool = True) -> None:
        self.sock, self.authority, self.takes = sock, authority, takes
        self.h2 = H2Connection(H2Configuration(client_side=True, header_encoding="latin-1", validate_outbound_headers=False))
        self.h2.initiate_connection()
        self.answers: dict[int, H2Answer] = {}
        self.goaway: int | None = None
        self.closed = False
        self.flush()

    def flush(self) -> None:
        if data := self.h2.data_to_send():
            self.sock.sendall(data)

    def begin(self, method: str = "GET", path: str = "/", fields: Fields = (), *, end: bool = True, **pseudo: str) -> int:
        """Open a stream; return its number. pseudo: more fields that begin with a colon, without it."""
        stream_id: int = self.h2.get_next_available_stream_id()
        self.answers[stream_id] = H2Answer()
        head = [(":method", method), (":scheme", "http"), (":authority", self.authority), (":path", path)]
        head += [(f":{name}", value) for name, value in pseudo.items()]
        self.h2.send_headers(stream_id, [*head, *fields], end_stream=end)
        self.flush()
        return stream_id

    def send(self, stream_id: int, data: bytes, *, end: bool = False) -> None:
        """Send a body, as the edge's windows allow."""
        while True:
            room = min(self.h2.local_flow_control_window(stream_id), self.h2.max_outbound_frame_size)
            piece, data = data[:room], data[room:]
            if piece or not data:
                self.h2.send_data(stream_id, piece, end_stream=end and not data)
                self.flush()
            if not data:
                return
            if room == 0:
                self.take()

    def take(self) -> bool:
        """Wait for what the edge says next; False when it has closed."""
        data = self.sock.recv(65536)
        if not data:
            self.closed = True
            return False
        for event in self.h2.receive_data(data):
            self._take_event(event)
        self.flush()
        return True

    def _take_event(self, event: Any) -> None:
        answer = self.answers.get(getattr(event, "stream_id", 0) or 0, H2Answer())
        if isinstance(event, InformationalResponseReceived):
            answer.interims.append(list(event.headers))
        elif isinstance(event, ResponseReceived):
            answer.headers = list(event.headers)
        elif isinstance(event, TrailersReceived):
            answer.trailers = list(event.headers)
        elif isinstance(event, DataReceived):
            answer.body += event.data
            if self.takes:
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, StreamEnded):
            answer.ended = True
        elif isinstance(event, StreamReset):
            answer.reset = int(event.error_code)
        elif isinstance(event, ConnectionTerminated):
            self.goaway = int(event.error_code)

    def until(self, condition: Callable[[], object]) -> None:
        """Take what comes until this is so, or the edge closes."""
        while not condition() and self.take():
            pass

    def answer(self, stream_id: int) -> H2Answer:
        """Wait for a stream's end."""
        answer = self.answers[stream_id]
        self.until(lambda: answer.over)
        return answer

    def ask(self, method: str = "GET", path: str = "/", fields: Fields = (), body: bytes | None = None) -> H2Answer:
        """Send a request and wait for its answer."""
        stream_id = self.begin(method, path, fields, end=body is None)
        if body is not None:
            self.send(stream_id, body, end=True)
        return self.answer(stream_id)
