"""A client that says any bytes at all: its frames are not those of smartedge/http2/frames.py, so that an error there is seen.

    with client(server.server_port) as one:
        one.send(headers(1, GET), data(1, b"x"))
        assert one.answer(1).status == 200

What comes back is read by hyperframe and hpack, which know nothing of us.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import gevent
import gevent.socket
from hpack import Decoder
from hyperframe import frame as hf

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
CODES = """
    NO_ERROR PROTOCOL_ERROR INTERNAL_ERROR FLOW_CONTROL_ERROR SETTINGS_TIMEOUT STREAM_CLOSED FRAME_SIZE_ERROR REFUSED_STREAM
    CANCEL COMPRESSION_ERROR CONNECT_ERROR ENHANCE_YOUR_CALM INADEQUATE_SECURITY HTTP_1_1_REQUIRED
""".split()  # noqa: SIM905
"""By number, RFC 9113 section 7."""

END, ACK, END_HEADERS, PADDED, PRIORITIZED = 0x1, 0x1, 0x4, 0x8, 0x20
LARGEST = 2**31 - 1
PATIENCE_S = 20.0
"""For what should come at once: a loaded machine takes its time."""

Fields = Sequence[tuple[bytes, bytes]]

GET: Fields = ((b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"h"))
POST: Fields = ((b":method", b"POST"), *GET[1:])


# ---- frames ----


def frame(kind: int, flags: int, stream: int, payload: bytes = b"", length: int | None = None) -> bytes:
    """Any frame. length: what its head says, where that is a lie."""
    size = len(payload) if length is None else length
    return struct.pack(">L", size)[1:] + struct.pack(">BBL", kind, flags, stream) + payload


def integer(value: int, bits: int, first: int = 0) -> bytes:
    """RFC 7541 section 5.1."""
    most = 2**bits - 1
    if value < most:
        return bytes([first | value])
    said = [first | most]
    value -= most
    while value > 127:
        said.append(value % 128 + 128)
        value //= 128
    return bytes([*said, value])


def literal(name: bytes, value: bytes, first: int = 0x00) -> bytes:
    """A field as a literal with a new name; first: 0x00 into no table, 0x10 never, 0x40 into the table."""
    return bytes([first]) + integer(len(name), 7) + name + integer(len(value), 7) + value


def block(fields: Fields) -> bytes:
    """A header block of literals."""
    return b"".join(literal(name, value) for name, value in fields)


def headers(stream: int, fields: Fields | bytes, flags: int = END | END_HEADERS) -> bytes:
    """HEADERS; fields: those, or a block."""
    return frame(1, flags, stream, fields if isinstance(fields, bytes) else block(fields))


def open_headers(stream: int, fields: Fields | bytes) -> bytes:
    """HEADERS of a request whose body is to come."""
    return headers(stream, fields, END_HEADERS)


def data(stream: int, payload: bytes = b"", *, end: bool = False) -> bytes:
    """DATA."""
    return frame(0, END if end else 0, stream, payload)


def priority(stream: int, depends_on: int = 0, weight: int = 15) -> bytes:
    """PRIORITY."""
    return frame(2, 0, stream, struct.pack(">LB", depends_on, weight))


def rst(stream: int, code: int = 8) -> bytes:
    """RST_STREAM."""
    return frame(3, 0, stream, struct.pack(">L", code))


def settings(*pairs: tuple[int, int]) -> bytes:
    """SETTINGS."""
    return frame(4, 0, 0, b"".join(struct.pack(">HL", *pair) for pair in pairs))


def ping(payload: bytes = b"12345678") -> bytes:
    """PING."""
    return frame(6, 0, 0, payload)


def goaway(last: int = 0, code: int = 0) -> bytes:
    """GOAWAY."""
    return frame(7, 0, 0, struct.pack(">LL", last, code))


def window(stream: int, size: int) -> bytes:
    """WINDOW_UPDATE."""
    return frame(8, 0, stream, struct.pack(">L", size))


def continuation(stream: int, part: bytes, flags: int = END_HEADERS) -> bytes:
    """CONTINUATION."""
    return frame(9, flags, stream, part)


def having(fields: Fields, **changes: bytes | None) -> Fields:
    """Fields with others in their place, or without; method=... is `:method`."""
    said = {b":" + name.encode(): value for name, value in changes.items()}
    kept = [(name, said.get(name, value)) for name, value in fields]
    return tuple((name, value) for name, value in kept if value is not None)


def plus(*more: tuple[bytes, bytes], of: Fields = GET) -> Fields:
    """Fields and some more behind them."""
    return (*of, *more)


# ---- what comes back ----


class Got:
    """What has come on one stream. reset: the name of the code, "" as long as there is none. frames: the sizes of its DATA."""

    def __init__(self) -> None:
        self.status = 0
        self.interim: list[tuple[int, dict[str, str]]] = []
        self.fields: list[tuple[str, str]] = []
        self.trailers: list[tuple[str, str]] = []
        self.body = bytearray()
        self.frames: list[int] = []
        self.ended = False
        self.reset = ""

    def get(self, name: str) -> str | None:
        """The value of a field, None without it."""
        return next((value for known, value in self.fields if known == name), None)

    def take(self, fields: list[tuple[str, str]]) -> None:
        """Take a head, or trailers."""
        if self.status:
            self.trailers = fields
            return
        status = int(dict(fields)[":status"])
        rest = [pair for pair in fields if pair[0] != ":status"]
        if status < 200:
            self.interim.append((status, dict(rest)))
        else:
            self.status, self.fields = status, rest


class Client:
    """One connection. opens: its windows again by what DATA takes of them, in so many `pieces`, or leaves them alone."""

    def __init__(self, sock: Any, *, opens: bool = True) -> None:
        self.sock = sock
        self.opens = opens
        self.pieces = 1
        self.streams: dict[int, Got] = {}
        self.settings: dict[int, int] = {}
        self.acks = 0
        self.pings: list[bytes] = []
        self.goaways: list[tuple[int, str]] = []
        self.windows: dict[int, int] = {}
        self.closed = False
        self._decoder = Decoder(max_header_list_size=1 << 20)
        self._rest = b""
        self._block: tuple[int, bool, bytes] | None = None

    def send(self, *parts: bytes) -> None:
        """Send bytes; the server may have closed already."""
        with contextlib.suppress(OSError):
            self.sock.sendall(b"".join(parts))

    def until(self, condition: Callable[[], object], timeout_s: float = PATIENCE_S) -> None:
        """Read until this is so."""
        try:
            with gevent.Timeout(timeout_s):
                while not condition():
                    assert not self.closed, f"closed before it came: {self}"
                    self.read()
        except gevent.Timeout:
            raise AssertionError(f"it did not come: {self}") from None

    def read(self) -> None:
        """Read what is there, or wait for it."""
        try:
            more = self.sock.recv(1 << 18)
        except ConnectionError:
            more = b""
        self.closed = not more
        self._rest += more
        while len(self._rest) >= 9:
            one, length = hf.Frame.parse_frame_header(memoryview(self._rest[:9]))
            if len(self._rest) < 9 + length:
                break
            one.parse_body(memoryview(self._rest[9 : 9 + length]))
            self._rest = self._rest[9 + length :]
            self._take(one)

    def _take(self, one: Any) -> None:
        got = self.streams.setdefault(one.stream_id, Got()) if one.stream_id else None
        if isinstance(one, hf.HeadersFrame):
            self._block = (one.stream_id, "END_STREAM" in one.flags, one.data)
        elif isinstance(one, hf.ContinuationFrame):
            assert self._block is not None
            self._block = (self._block[0], self._block[1], self._block[2] + one.data)
        elif isinstance(one, hf.DataFrame):
            assert got is not None
            assert got.status, "DATA before HEADERS"
            assert not got.ended, "DATA behind the end"
            got.body += one.data
            got.frames.append(len(one.data))
            got.ended = "END_STREAM" in one.flags
            if one.data and self.opens:
                for at in range(self.pieces):
                    size = len(one.data[at :: self.pieces])
                    if size:
                        self.send(window(0, size), *([] if got.ended else [window(one.stream_id, size)]))
        elif isinstance(one, hf.RstStreamFrame):
            assert got is not None
            got.reset = CODES[one.error_code]
        elif isinstance(one, hf.SettingsFrame):
            if "ACK" in one.flags:
                self.acks += 1
            else:
                self.settings.update(one.settings)
        elif isinstance(one, hf.PingFrame):
            assert "ACK" in one.flags
            self.pings.append(one.opaque_data)
        elif isinstance(one, hf.GoAwayFrame):
            self.goaways.append((one.last_stream_id, CODES[one.error_code]))
        elif isinstance(one, hf.WindowUpdateFrame):
            self.windows[one.stream_id] = self.windows.get(one.stream_id, 0) + one.window_increment
        if self._block is not None and "END_HEADERS" in one.flags:
            stream, ended, whole = self._block
            self._block = None
            got = self.streams[stream]
            fields = [(str(name), str(value)) for name, value in self._decoder.decode(whole)]
            assert not got.status or ended, "trailers that are not the end"
            got.take(fields)
            got.ended = ended

    # ---- what tests wait for ----

    def of(self, stream: int) -> Got:
        """What has come on a stream so far."""
        return self.streams.setdefault(stream, Got())

    def answer(self, stream: int = 1, timeout_s: float = PATIENCE_S) -> Got:
        """A whole answer, or the reset in its place."""
        got = self.of(stream)
        self.until(lambda: got.ended or got.reset, timeout_s)
        return got

    def ask(self, stream: int, fields: Fields = GET) -> Got:
        """A request without a body, and its answer."""
        self.send(headers(stream, fields))
        return self.answer(stream)

    def synced(self) -> None:
        """Wait until all that was sent has been looked at."""
        before = len(self.pings)
        self.send(ping(b"synced??"))
        self.until(lambda: len(self.pings) > before)

    def end(self, timeout_s: float = PATIENCE_S) -> str:
        """Read until the server closes; the code of its last GOAWAY, "" without one."""
        try:
            with gevent.Timeout(timeout_s):
                while not self.closed:
                    self.read()
        except gevent.Timeout:
            raise AssertionError(f"it was not closed: {self}") from None
        return self.goaways[-1][1] if self.goaways else ""

    def __repr__(self) -> str:
        latest = list(self.streams.items())[-20:]
        streams = {at: (one.status, len(one.body), one.ended, one.reset) for at, one in latest}
        return f"<streams {streams}, goaways {self.goaways}, pings {len(self.pings)}, closed {self.closed}>"


@contextlib.contextmanager
def client(port: int, *said: tuple[int, int], raw: bool = False, opens: bool = True, recv_bytes: int = 0) -> Iterator[Client]:
    """A connection that has been greeted; said: our settings. raw: nothing is said yet. recv_bytes: of its socket's buffer."""
    sock = gevent.socket.socket()
    if recv_bytes:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, recv_bytes)
    sock.connect(("127.0.0.1", port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    one = Client(sock, opens=opens)
    if not raw:
        one.send(PREFACE, settings(*said))
        one.until(lambda: one.acks and one.settings)
        one.send(frame(4, ACK, 0))
    try:
        yield one
    finally:
        sock.close()
