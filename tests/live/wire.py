"""HTTP/1.1 as bytes: a strict reader of messages and a raw client, for tests that must see what was sent.

Nothing here repairs, folds or decodes anything: header pairs keep their order, case and repetitions, a body
keeps its coding, and a message that is not HTTP/1.1 by the letter of RFC 9112 raises `WireError`. Both sides
use the same reader: `tests/live/peers.py` for requests, `Client` and `exchange` for answers.
"""

from __future__ import annotations

import re
import socket
import ssl
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType

TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
REQUEST_LINE = re.compile(rb"(%s) ([\x21-\x7e\x80-\xff]+) (HTTP/1\.[0-9])" % TOKEN)
STATUS_LINE = re.compile(rb"(HTTP/1\.[0-9]) ([1-9][0-9]{2}) ([\t \x21-\x7e\x80-\xff]*)")
HEADER_LINE = re.compile(rb"(%s):[ \t]*([^\x00\r\n]*?)[ \t]*" % TOKEN)
CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]+)[ \t]*(;[^\x00\r\n]*)?")


class WireError(Exception):
    """What came is not HTTP/1.1 by the letter."""


class CutOffError(WireError):
    """The stream ended in the middle of a message: what a client must see when a backend breaks off."""


Pairs = list[tuple[bytes, bytes]]


@dataclass
class Message:
    """One message: `raw` is exactly what was read, `body` without chunk framing but still content-coded."""

    headers: Pairs
    body: bytes = b""
    trailers: Pairs = field(default_factory=list)
    framing: str = "none"  # "none" | "length" | "chunked" | "close"
    raw: bytes = b""

    def all(self, name: bytes) -> list[bytes]:
        """Every value of a header, in order; the name in any case."""
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def get(self, name: bytes) -> bytes | None:
        """The one value of a header, None without it; `WireError` if it came more than once."""
        values = self.all(name)
        if len(values) > 1:
            raise WireError(f"{name!r} came {len(values)} times: {values!r}")
        return values[0] if values else None


@dataclass
class Request(Message):
    method: bytes = b""
    target: bytes = b""
    version: bytes = b""


@dataclass
class Answer(Message):
    """A final answer (101 counts as one); `interim` holds the 1xx answers that came before it."""

    status: int = 0
    reason: bytes = b""
    version: bytes = b""
    interim: list[Answer] = field(default_factory=list)


class Stream:
    """Buffered reading from a connected socket, or from bytes that are already here (`sock` None).

    `was_reset` tells an RST from a clean end; both end the stream. A silent peer raises TimeoutError after
    the socket's timeout.
    """

    def __init__(self, sock: socket.socket | None, data: bytes = b"") -> None:
        self.sock = sock
        self.buffer = bytearray(data)
        self.taken = bytearray()
        self.was_reset = False

    def fill(self) -> bool:
        """Wait for more bytes; False at the end of the stream."""
        if self.sock is None:
            return False
        try:
            data = self.sock.recv(65536)
        except (ConnectionResetError, BrokenPipeError):
            self.was_reset = True
            return False
        except ssl.SSLError:
            return False
        self.buffer += data
        return bool(data)

    def take(self, size: int) -> bytes:
        data = bytes(self.buffer[:size])
        del self.buffer[:size]
        self.taken += data
        return data

    def exactly(self, size: int) -> bytes:
        while len(self.buffer) < size:
            if not self.fill():
                raise CutOffError(f"the stream ended {size - len(self.buffer)} bytes early")
        return self.take(size)

    def line(self) -> bytes:
        """One line without its CRLF; a bare CR or LF in it is `WireError`."""
        while (end := self.buffer.find(b"\n")) < 0:
            if not self.fill():
                raise CutOffError(f"the stream ended in mid-line: {bytes(self.buffer[:80])!r}")
        data = self.take(end + 1)
        if not data.endswith(b"\r\n") or b"\r" in data[:-2]:
            raise WireError(f"a line must end in CRLF: {data!r}")
        return data[:-2]

    def rest(self) -> bytes:
        """Everything up to the end of the stream."""
        while self.fill():
            pass
        return self.take(len(self.buffer))

    def raw(self) -> bytes:
        """What was taken since the last call."""
        data = bytes(self.taken)
        self.taken.clear()
        return data


def read_request(stream: Stream, *, body: bool = True) -> Request | None:
    """The next request, None at a clean end; `body=False` stops after its head (`read_body` goes on)."""
    if not stream.buffer and not stream.fill():
        return None
    parts = _match(REQUEST_LINE, stream.line())
    request = Request(_pairs(stream), method=parts[0], target=parts[1], version=parts[2])
    request.framing = _framing(request) or "none"
    if body:
        read_body(stream, request)
    request.raw = stream.raw()
    return request


def read_answer(stream: Stream, method: bytes = b"GET") -> Answer:
    """The next final answer to a request with this method, with the interim ones before it."""
    interim: list[Answer] = []
    while True:
        version, status, reason = _match(STATUS_LINE, stream.line())
        answer = Answer(_pairs(stream), status=int(status), reason=reason, version=version)
        bodiless = answer.status < 200 or answer.status in (204, 304) or method == b"HEAD"
        answer.framing = "none" if bodiless else _framing(answer) or "close"
        read_body(stream, answer)
        answer.raw = stream.raw()
        if answer.status >= 200 or answer.status == 101:
            answer.interim = interim
            return answer
        interim.append(answer)


def read_body(stream: Stream, message: Message) -> None:
    """Fill in `body` and `trailers` as `framing` says (RFC 9112 section 6.3)."""
    if message.framing == "length":
        message.body = stream.exactly(int(message.get(b"content-length") or b"0"))
    elif message.framing == "close":
        message.body = stream.rest()
    elif message.framing == "chunked":
        chunks = []
        while size := int(_match(CHUNK_LINE, stream.line())[0], 16):
            chunks.append(stream.exactly(size))
            if stream.exactly(2) != b"\r\n":
                raise WireError("no CRLF after a chunk")
        message.body = b"".join(chunks)
        message.trailers = _pairs(stream)


def _match(pattern: re.Pattern[bytes], line: bytes) -> tuple[bytes, ...]:
    if not (found := pattern.fullmatch(line)):
        raise WireError(f"bad line {line[:200]!r}")
    return found.groups(b"")


def _pairs(stream: Stream) -> Pairs:
    pairs: Pairs = []
    while line := stream.line():
        if len(pairs) >= 10_000:
            raise WireError("a head without an end")
        name, value = _match(HEADER_LINE, line)
        pairs.append((name, value))
    return pairs


def _framing(message: Message) -> str | None:
    codings = message.all(b"transfer-encoding")
    length = message.get(b"content-length")
    if codings:
        if length is not None or codings != [b"chunked"]:
            raise WireError(f"ambiguous framing: Transfer-Encoding {codings!r}, Content-Length {length!r}")
        return "chunked"
    if length is not None and not length.isdigit():
        raise WireError(f"bad Content-Length {length!r}")
    return None if length is None else "length"


class Client:
    """One raw connection: send any bytes, read answers strictly.

    with Client(port) as client:
        client.send(b"GET / HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n")
        assert client.answer().status == 200
    """

    def __init__(self, port: int, *, host: str = "127.0.0.1", timeout: float = 5.0, tls: ssl.SSLContext | None = None) -> None:
        self.sock = socket.create_connection((host, port), timeout)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls is not None:
            self.sock = tls.wrap_socket(self.sock, server_hostname="localhost")
        self.stream = Stream(self.sock)

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def answer(self, method: bytes = b"GET") -> Answer:
        """The next answer; `CutOffError` if it breaks off, TimeoutError if it does not come."""
        return read_answer(self.stream, method)

    def rest(self) -> bytes:
        """Everything until the server closes (TimeoutError if it does not); `stream.was_reset` says how."""
        return self.stream.rest()

    def half_close(self) -> None:
        """End our side only: a FIN, while answers are still read."""
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Leave with an RST, as a client that crashed."""
        reset(self.sock)

    def close(self) -> None:
        self.sock.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def reset(sock: socket.socket) -> None:
    """Close with an RST instead of a FIN (SO_LINGER with a time of 0)."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def exchange(
    port: int,
    raw: bytes,
    *,
    n_answers: int = 1,
    until_close: bool = False,
    methods: Sequence[bytes] = (),
    timeout: float = 5.0,
) -> bytes:
    """Send raw bytes on a fresh connection and return the raw bytes that came back.

    Reads `n_answers` whole final answers with their interim ones, or with `until_close` whatever comes until
    the server closes. `methods` are those the answers belong to (HEAD has no body), by default the first's.
    """
    with Client(port, timeout=timeout) as client:
        client.send(raw)
        if until_close:
            return client.rest()
        methods = methods or [raw.split(b" ", 1)[0]] * n_answers
        answers = [client.answer(method) for method in methods]
        return b"".join(part.raw for answer in answers for part in (*answer.interim, answer))


def parse_answers(raw: bytes, *methods: bytes) -> list[Answer]:
    """The answers in raw bytes: one for each method given, or all that are there (as if to GETs)."""
    stream = Stream(None, raw)
    answers: list[Answer] = []
    while stream.buffer and (not methods or len(answers) < len(methods)):
        answers.append(read_answer(stream, methods[len(answers)] if methods else b"GET"))
    if stream.buffer or len(answers) < len(methods):
        raise WireError(f"expected {len(methods)} answers, left over: {bytes(stream.buffer[:200])!r}")
    return answers


def parse_answer(raw: bytes, method: bytes = b"GET") -> Answer:
    """The one answer in raw bytes; `WireError` if there is more or less."""
    return parse_answers(raw, method)[0]
