"""What scripted backends do with a connection: acts, well behaved and hostile.

An act is a function of one accepted connection, which is closed when it returns.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING

from tests.live.wire import Request

if TYPE_CHECKING:
    from tests.live.peers import Call

Act = Callable[["Call"], None]
HeaderPairs = Sequence[tuple[str, str]]


def message(status: int = 200, headers: HeaderPairs = (), body: bytes = b"", *, version: str = "HTTP/1.1") -> bytes:
    """An answer as bytes; a Content-Length is added unless the headers frame the body already."""
    if not any(name.lower() in ("content-length", "transfer-encoding") for name, _ in headers):
        headers = (*headers, ("Content-Length", str(len(body))))
    return head(status, headers, version=version) + body


def head(status: int = 200, headers: HeaderPairs = (), *, version: str = "HTTP/1.1") -> bytes:
    """A status line, exactly these headers, and the empty line."""
    lines = [
        f"{version} {status} {HTTPStatus(status).phrase}",
        *(f"{name}: {value}" for name, value in headers),
    ]
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode("latin-1")


def chunked(*chunks: bytes, trailers: HeaderPairs = ()) -> bytes:
    """A whole chunked body."""
    end = "".join(f"{name}: {value}\r\n" for name, value in trailers).encode("latin-1")
    return b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n" + end + b"\r\n"


# --- well behaved ---


def says(raw: bytes) -> Act:
    """Answer every request with these bytes; close after one that says `Connection: close`."""
    return serves(lambda _call, _request: raw)


def serves(reply: Callable[[Call, Request], bytes]) -> Act:
    """Answer every request on a connection with what a function makes of it."""

    def act(call: Call) -> None:
        while request := call.request():
            call.send(reply(call, request))
            if b"close" in (request.get(b"connection") or b"").lower():
                return

    return act


def answers(status: int = 200, headers: HeaderPairs = (), body: bytes = b"hello\n") -> Act:
    """Answer every request alike, with a Content-Length, keeping the connection."""
    return says(message(status, headers, body))


def echo() -> Act:
    """Answer with the exact raw bytes of the request as the body."""
    return serves(lambda _call, request: message(body=request.raw))


def counts() -> Act:
    """Answer `{"connection": n, "request": m, "target": t}`: on which connection, its how-manieth."""
    seen: dict[int, int] = {}

    def reply(call: Call, request: Request) -> bytes:
        seen[call.number] = seen.get(call.number, 0) + 1
        told = {
            "connection": call.number,
            "request": seen[call.number],
            "target": request.target.decode("latin-1"),
        }
        return message(headers=[("Content-Type", "application/json")], body=json.dumps(told).encode())

    return serves(reply)


def continues(status: int = 200) -> Act:
    """Send `100 Continue` after each head, then read the body and echo it."""

    def act(call: Call) -> None:
        while request := call.request(body=False):
            call.send(head(100))
            call.send(message(status, body=call.body(request)))

    return act


def many_headers(count: int = 150) -> Act:
    """`X-0` .. `X-149`."""
    return answers(headers=[(f"X-{i}", str(i)) for i in range(count)])


def repeated_cookies() -> Act:
    """Three Set-Cookie lines, one with a comma in its date."""
    cookies = ["a=1; Path=/", "b=2; Expires=Wed, 09 Jun 2032 10:18:14 GMT", "a=3"]
    return answers(headers=[("Set-Cookie", cookie) for cookie in cookies])


def gzipped(plain: bytes = b"plain text " * 20) -> Act:
    """A body with `Content-Encoding: gzip`, which a proxy passes on as it is."""
    return answers(headers=[("Content-Encoding", "gzip")], body=gzip.compress(plain, mtime=0))


def trailers(*pairs: tuple[str, str], body: bytes = b"hello\n") -> Act:
    """A chunked answer with trailers, by default `X-Checksum: abc`."""
    pairs = pairs or (("X-Checksum", "abc"),)
    start = head(200, [("Transfer-Encoding", "chunked"), ("Trailer", ", ".join(name for name, _ in pairs))])
    return says(start + chunked(body, trailers=pairs))


def close_delimited(body: bytes = b"until the end\n", *, version: str = "HTTP/1.1") -> Act:
    """No length at all: the body ends with the connection."""
    return once(head(200, [("Connection", "close")] if version == "HTTP/1.1" else (), version=version) + body)


def http10(body: bytes = b"old\n", *, keep_alive: bool = False) -> Act:
    """HTTP/1.0 with a Content-Length; the connection ends after it unless `keep_alive`."""
    if keep_alive:
        return says(message(200, [("Connection", "keep-alive")], body, version="HTTP/1.0"))
    return once(message(200, body=body, version="HTTP/1.0"))


def bodiless(status: int = 204, length: int | None = None) -> Act:
    """A head without a body (204, 304, or 200 to a HEAD), with the Content-Length it claims, if any."""
    return says(head(status, [] if length is None else [("Content-Length", str(length))]))


def early_hints(*, status: int = 103, count: int = 1, gap_s: float = 0.0) -> Act:
    """Interim answers and, on the same connection, a 200 whose body names the request: a mix-up shows."""

    def act(call: Call) -> None:
        while request := call.request():
            for _ in range(count):
                call.send(head(status, [("Link", "</style.css>; rel=preload")]))
                call.pause(gap_s)
            call.send(message(body=b"final answer to " + request.target))

    return act


PIECE = b"0123456789abcdef" * 4096  # 64 KiB


def flood(size: int) -> Act:
    """Answer so many bytes, a multiple of a piece, as fast as they are read."""

    def act(call: Call) -> None:
        call.request()
        call.send(head(200, [("Content-Length", str(size))]))
        for _ in range(size // len(PIECE)):
            call.send(PIECE)

    return act


# --- hostile ---


def never_answers() -> Act:
    """Read a request and keep silent."""
    return once(b"", stall=True)


def never_reads() -> Act:
    """Accept, read (almost) nothing and keep silent: an upload gets stuck."""
    return lambda call: call.stall()


def stalls_after_head(length: int = 100) -> Act:
    """A head that promises `length` bytes, then silence."""
    return once(head(200, [("Content-Length", str(length))]), stall=True)


def stalls_mid_body(sent: bytes = b"half", length: int = 100) -> Act:
    """A head and the first bytes of the body, then silence."""
    return once(head(200, [("Content-Length", str(length))]) + sent, stall=True)


def cuts_mid_head() -> Act:
    """Half a header line, then the end."""
    return once(b"HTTP/1.1 200 OK\r\nContent-Le")


def cuts_mid_body(sent: bytes = b"half", length: int = 100, *, reset: bool = False) -> Act:
    """A body shorter than its Content-Length, ended by a FIN or an RST."""
    return once(head(200, [("Content-Length", str(length))]) + sent, reset=reset)


def cuts_mid_chunk(sent: bytes = b"half", size: int = 100, *, reset: bool = False) -> Act:
    """A chunk shorter than its size, and no last chunk."""
    return once(head(200, [("Transfer-Encoding", "chunked")]) + b"%x\r\n%s" % (size, sent), reset=reset)


def closes_without_answer(*, reset: bool = False) -> Act:
    """Read a whole request, then end the connection without a byte."""
    return once(b"", reset=reset)


def closes_idle(after: int = 1, *, reset: bool = False, at_once: bool = False) -> Act:
    """Answer `after` requests, then close just as the next one comes (`at_once`: right after the answer)."""

    def act(call: Call) -> None:
        for _ in range(after):
            if not call.request():
                return
            call.send(message(body=b"hello\n"))
        if not at_once and call.request() and reset:
            call.reset()

    return act


def drips(raw: bytes | None = None, every_s: float = 0.02) -> Act:
    """Answer a byte at a time: each read succeeds, the whole takes for ever."""
    data = message(body=b"drip " * 200) if raw is None else raw

    def act(call: Call) -> None:
        call.request()
        for index in range(len(data)):
            if call.script.stopping.is_set():
                return
            call.send(data[index : index + 1])
            call.pause(every_s)

    return act


def garbage(raw: bytes = b"\x16\x03\x01 SSH-2.0 this is not HTTP\r\n\r\n") -> Act:
    """Answer something that is not HTTP."""
    return once(raw)


def endless_head() -> Act:
    """Header lines without an end, as fast as they are read."""

    def act(call: Call) -> None:
        call.request()
        call.send(b"HTTP/1.1 200 OK\r\n")
        while not call.script.stopping.is_set():
            call.send(b"X-More: and more and more\r\n" * 100)

    return act


def answers_early(status: int = 413, *, read_rest: bool = False, pause_s: float = 0.2) -> Act:
    """Answer when the head is in, then close with the upload unread (mostly an RST), or read it and go on."""

    def act(call: Call) -> None:
        while request := call.request(body=False):
            call.send(message(status, body=b"too soon\n"))
            if not read_rest:
                call.pause(pause_s)
                return
            call.body(request)

    return act


def once(raw: bytes, *, stall: bool = False, reset: bool = False) -> Act:
    """Read one request, send these bytes, then close, stall or reset."""

    def act(call: Call) -> None:
        if call.request():
            call.send(raw)
            if stall:
                call.stall()
            elif reset:
                call.reset()

    return act


def sequence(*acts: Act) -> Act:
    """The first act on the first connection, the next on the next; the last one on all that follow."""
    return lambda call: acts[min(call.number, len(acts)) - 1](call)
