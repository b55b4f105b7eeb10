#!/usr/bin/env python3
"""An example backend for SmartEdge to balance over: python3 server1.py [--port 8081] (see --help).

Python 3.11 or newer and nothing else. One event loop serves all clients (HTTP/1.1, RFC 9112), keeps their
connections alive and writes each answer at once. It can be made slow, failing or unhealthy, from the command
line or while it runs:

    any method, any path    which server this is; JSON when `Accept` prefers application/json, else plain text
    POST /echo              the request's body, sent back
    GET  /headers           the request's headers as they arrived here
    GET  /health            200, or 503 while unhealthy
    GET  /__control         how it behaves now: {"delay_s": 0.0, "fail_ratio": 0.0, "healthy": true, "running": true}
    POST /__control         change any of these: curl localhost:8081/__control -d '{"delay_s": 0.2}'
                            "running": false ends the server as SIGTERM does

`/__control` answers this machine only, and only when asked directly: never through a balancer or for a web
page elsewhere. Slowness and failures spare `/health` and `/__control`: each can be watched by itself.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import errno
import ipaddress
import json
import random
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass, fields, replace
from email.utils import formatdate
from http import HTTPStatus
from typing import NamedTuple, cast

ECHO_BYTES = 64 * 1024 * 1024  # read whole first: many clients read nothing before they have sent everything
PIECE_BYTES = 64 * 1024
IDLE_S = 120.0  # longer than a balancer keeps idle connections, or it would meet one that is just closing
GRACE_S = 2.0

CRLF = "\r\n"
TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
REQUEST_LINE = re.compile(rf"({TOKEN.pattern}) ([!-\xff]+) HTTP/1\.([01])")
SIZE = re.compile(rb"[0-9A-Fa-f]{1,15}")


class BadRequestError(Exception):
    """The request cannot be served: a status for the client and a sentence that says why."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What can be changed while the server runs."""

    delay_s: float = 0.0
    fail_ratio: float = 0.0
    healthy: bool = True
    running: bool = True

    def errors(self) -> list[str]:
        """Name everything that is wrong with these values, or nothing."""
        found = []
        if type(self.delay_s) not in (int, float) or not 0 <= self.delay_s <= 3600:
            found.append("delay_s: a number of seconds from 0 to 3600 is wanted")
        if type(self.fail_ratio) not in (int, float) or not 0 <= self.fail_ratio <= 1:
            found.append("fail_ratio: a number from 0 to 1 is wanted")
        found += [f"{name}: true or false is wanted" for name in ("healthy", "running") if type(getattr(self, name)) is not bool]
        return found

    def changed_by(self, text: bytes) -> Behaviour:
        """Apply a JSON object of new values; raises ValueError with every complaint."""
        try:
            wanted = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"the body is not JSON: {error}") from None
        if not isinstance(wanted, dict):
            raise ValueError("a JSON object is wanted")
        known = {field.name for field in fields(self)}
        changed = replace(self, **{name: value for name, value in wanted.items() if name in known})
        complaints = [f"{name}: no such setting" for name in wanted if name not in known] + changed.errors()
        if complaints:
            raise ValueError("; ".join(complaints))
        return changed


@dataclass(slots=True)
class Request:
    """A parsed head: `headers` in order, names in lower case, and how long the body is."""

    method: str
    target: str
    minor: int  # HTTP/1.minor
    headers: list[tuple[str, str]]
    length: int | None = 0  # None: chunked

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    def header(self, name: str) -> str:
        """All values of one header, joined by commas."""
        return ", ".join(value for key, value in self.headers if key == name)

    @property
    def keeps_alive(self) -> bool:
        """RFC 9112 section 9.3: 1.1 stays open unless told to close, 1.0 closes unless told to stay."""
        options = {option.strip() for option in self.header("connection").lower().split(",")}
        return "close" not in options and (self.minor == 1 or "keep-alive" in options)


def parse_head(head: bytes) -> Request:
    """Read a request line and headers, strictly; raises BadRequestError."""
    first, *lines = head.decode("latin-1")[:-4].lstrip("\r\n").split("\r\n")
    match = REQUEST_LINE.fullmatch(first)
    if match is None:
        raise BadRequestError(400, "that is no HTTP/1.1 request line")
    headers = []
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not TOKEN.fullmatch(name) or re.search(r"[\x00\r\n]", value):
            raise BadRequestError(400, "a header line is malformed")
        headers.append((name.lower(), value.strip(" \t")))
    request = Request(match[1], match[2], int(match[3]), headers)
    if request.minor == 1 and sum(name == "host" for name, _ in headers) != 1:
        raise BadRequestError(400, "exactly one Host header is wanted")
    lengths = {value for name, value in headers if name == "content-length"}
    if coding := request.header("transfer-encoding").lower():
        if coding != "chunked":
            raise BadRequestError(501, "no transfer coding but chunked is known here")
        if lengths or request.minor == 0:
            raise BadRequestError(400, "the length of the body is ambiguous")
        request.length = None
    elif lengths:
        length = lengths.pop()
        if lengths or not re.fullmatch(r"[0-9]{1,18}", length):
            raise BadRequestError(400, "Content-Length is malformed")
        request.length = int(length)
    return request


async def read_body(reader: asyncio.StreamReader, length: int | None) -> AsyncIterator[bytes]:
    """Yield the body in pieces, its chunked coding (RFC 9112 section 7.1) removed; raises BadRequestError."""

    async def line() -> bytes:
        return (await reader.readuntil(b"\r\n"))[:-2]

    chunked = length is None
    while True:
        if chunked:
            size = (await line()).partition(b";")[0].rstrip(b" \t")
            if not SIZE.fullmatch(size):
                raise BadRequestError(400, "a chunk's size is malformed")
            length = int(size, 16)
        left = length or 0
        while left:
            piece = await reader.read(min(left, PIECE_BYTES))
            if not piece:
                raise ConnectionResetError("the client left in the middle of its body")
            left -= len(piece)
            yield piece
        if not chunked or not length:
            break
        if await line():
            raise BadRequestError(400, "a chunk is longer than it said")
    while chunked and await line():  # trailers
        pass


def prefers_json(accept: str) -> bool:
    """Whether an Accept header asks for JSON by name, and at least as much as for plain text."""
    weights: dict[str, float] = {}
    for item in accept.lower().split(","):
        kind, *parameters = (part.strip() for part in item.split(";"))
        quality = next((p[2:] for p in parameters if p.startswith("q=")), "1")
        with contextlib.suppress(ValueError):
            weights[kind] = float(quality)
    json_weight = weights.get("application/json", weights.get("application/*", 0.0))
    text_weight = weights.get("text/plain", weights.get("text/*", weights.get("*/*", 0.0)))
    return json_weight > 0 and json_weight >= text_weight


class Answer(NamedTuple):
    """What one request gets."""

    status: int
    kind: str
    body: bytes

    def reply(self, server: str, *, keep: bool, head_only: bool = False) -> bytes:
        """Format it whole, so that it leaves in one write."""
        head = (
            f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}\r\n"
            f"Server: {server}\r\n"
            f"Date: {formatdate(usegmt=True)}\r\n"
            f"Content-Type: {self.kind}\r\n"
            f"Content-Length: {len(self.body)}\r\n"
            f"{'Allow: GET, HEAD, POST' + CRLF if self.status == 405 else ''}"
            f"Connection: {'keep-alive' if keep else 'close'}\r\n\r\n"
        )
        return head.encode("latin-1") + (b"" if head_only else self.body)


def in_json(status: int, facts: dict[str, object]) -> Answer:
    """Answer with a JSON object."""
    return Answer(status, "application/json", json.dumps(facts).encode() + b"\n")


def in_text(status: int, text: str) -> Answer:
    """Answer with one or more lines of plain text."""
    return Answer(status, "text/plain; charset=utf-8", text.encode() + b"\n")


class Server:
    """One example backend: its name, how it behaves and how many requests it has served."""

    def __init__(self, name: str, behaviour: Behaviour) -> None:
        self.name = name
        self.behaviour = behaviour
        self.stop = asyncio.Event()
        self.requests = 0
        self.stopping = False
        self.clients: dict[asyncio.Task[None], bool] = {}  # is it in the middle of a request?

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one client until it leaves, is idle for too long, or the server stops."""
        task = cast("asyncio.Task[None]", asyncio.current_task())
        try:
            keep = True
            while keep and not self.stopping:
                self.clients[task] = False
                async with asyncio.timeout(IDLE_S):
                    head = await reader.readuntil(b"\r\n\r\n")
                self.clients[task] = True
                keep = await self.exchange(head, reader, writer)
        except BadRequestError as error:
            await self.refuse(error, reader, writer)
        except asyncio.LimitOverrunError:
            await self.refuse(BadRequestError(431, "the head is too large"), reader, writer)
        except (asyncio.IncompleteReadError, TimeoutError, OSError, asyncio.CancelledError):
            pass  # the client has left, or the server is stopping: nobody to tell
        finally:
            self.clients.pop(task, None)
            writer.close()

    async def exchange(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Serve one request; whether the connection may serve another."""
        request = parse_head(head)
        if request.minor == 1 and request.header("expect").lower() == "100-continue":
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body, size = bytearray(), 0
        wanted = request.method == "POST" and request.path in ("/echo", "/__control")
        async for piece in read_body(reader, request.length):
            size += len(piece)
            if wanted and size > ECHO_BYTES:
                raise BadRequestError(413, f"more than {ECHO_BYTES} bytes are not echoed")
            if wanted:
                body += piece
        if request.path == "/__control":
            answer = self.control(request, bytes(body), writer.get_extra_info("peername")[0])
        else:
            answer = await self.answer(request, bytes(body), size)
        keep = request.keeps_alive and not self.stopping
        writer.write(answer.reply(self.name, keep=keep, head_only=request.method == "HEAD"))
        await writer.drain()
        return keep

    async def refuse(self, error: BadRequestError, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Say why a request is not served; the connection ends: nobody knows where the next one starts."""
        writer.write(in_text(error.status, f"{self.name}: {error}").reply(self.name, keep=False))
        with contextlib.suppress(OSError, TimeoutError, asyncio.CancelledError):
            writer.write_eof()
            async with asyncio.timeout(GRACE_S):  # to close on unread bytes would reset the answer away
                while await reader.read(PIECE_BYTES):
                    pass

    async def answer(self, request: Request, body: bytes, size: int) -> Answer:
        """Say which server this is, and what was asked of it."""
        say_json = prefers_json(request.header("accept"))
        facts: dict[str, object] = {"server": self.name}
        if request.path == "/health":
            facts["healthy"] = healthy = self.behaviour.healthy
            status, text = (200, "ok") if healthy else (503, "unhealthy")
            return in_json(status, facts) if say_json else in_text(status, f"{self.name}: {text}")

        self.requests += 1
        behaviour = self.behaviour
        if behaviour.delay_s:
            await asyncio.sleep(behaviour.delay_s)
        if random.random() < behaviour.fail_ratio:
            facts["error"] = text = "failing, as told"
            return in_json(500, facts) if say_json else in_text(500, f"{self.name}: {text}")
        if request.path == "/echo" and request.method == "POST":
            return Answer(200, request.header("content-type") or "application/octet-stream", body)
        if request.path == "/headers":
            facts["headers"] = request.headers
            text = "headers" + "".join(f"\n  {name}: {value}" for name, value in request.headers)
        else:
            method = "GET" if request.method == "HEAD" else request.method  # the length is to be the same
            facts |= {"method": method, "path": request.target, "body_bytes": size, "requests": self.requests}
            # The count is padded: `ab` takes an answer of another length for a failed request.
            text = f"request {self.requests:>7}   {method} {request.target}"
        return in_json(200, facts) if say_json else in_text(200, f"{self.name}: {text}")

    def control(self, request: Request, body: bytes, peer: str) -> Answer:
        """Show how the server behaves, or change it."""
        forwarded = any(request.header(name) for name in ("forwarded", "x-forwarded-for", "via", "origin"))
        if forwarded or not ipaddress.ip_address(peer.partition("%")[0]).is_loopback:
            return in_json(403, {"error": "ask this server directly, from its own machine"})
        if request.method == "POST":
            try:
                self.behaviour = self.behaviour.changed_by(body)
            except ValueError as error:
                return in_json(400, {"error": str(error)})
            if not self.behaviour.running:
                self.stop.set()
        elif request.method not in ("GET", "HEAD"):
            return in_json(405, {"error": "GET shows, POST changes"})
        return in_json(200, asdict(self.behaviour))

    async def run(self, sockets: list[socket.socket], where: str) -> None:
        """Serve until SIGINT, SIGTERM or the word of /__control, then let answers under way finish for up to GRACE_S.

        Who reads that it serves may end it at once: so that is said when signals are minded.
        """
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, self.stop.set)
        listeners = [await asyncio.start_server(self.serve, sock=sock, backlog=1024) for sock in sockets]
        print(f"{self.name} on {where}", flush=True)
        await self.stop.wait()
        self.stopping = True
        for listener in listeners:
            listener.close()
        for client in [client for client, busy in self.clients.items() if not busy]:
            client.cancel()
        if self.clients:
            _, late = await asyncio.wait(list(self.clients), timeout=GRACE_S)
            for client in late:
                client.cancel()


def listen(host: str, port: int) -> list[socket.socket]:
    """Open a socket on every address of `host`, the same port on each; raises OSError.

    `localhost` may mean 127.0.0.1, ::1 or both, and clients try either first: listen wherever it can be done.
    """
    names = ("127.0.0.1", "::1") if host == "localhost" else (host,)
    found = [info for name in names for info in socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)]
    with contextlib.ExitStack() as undo:
        sockets: list[socket.socket] = []
        for family, kind, protocol, _, address in found:
            try:
                opened = undo.enter_context(socket.socket(family, kind, protocol))
                opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # accepted sockets inherit it
                if family == socket.AF_INET6:
                    opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                if sockets and port == 0:
                    address = (address[0], sockets[0].getsockname()[1], *address[2:])
                opened.bind(address)
                opened.listen(1024)  # before it says that it is there: a client may be quicker than the loop's start
            except OSError as error:
                if sockets and error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    continue  # this machine has no IPv6
                raise
            sockets.append(opened)
        undo.pop_all()
    return sockets


def main(name: str = "server1", port: int = 8081) -> int:
    """Run from the command line; exit status 0 after Ctrl-C or SIGTERM, 2 when it cannot start."""
    keep_lines = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=keep_lines, allow_abbrev=False)
    parser.add_argument("--port", type=int, default=port, help="default %(default)s; 0 takes a free one")
    parser.add_argument("--host", default="localhost", help="where to listen (default: this machine only)")
    parser.add_argument("--name", default=name, help="what it calls itself (default %(default)s)")
    parser.add_argument("--delay", type=float, default=0.0, metavar="SECONDS", help="wait before each answer")
    parser.add_argument("--fail-rate", type=float, default=0.0, metavar="RATIO", help="share of 500s, 0 to 1")
    parser.add_argument("--unhealthy", action="store_true", help="answer /health with 503")
    chosen = parser.parse_args()
    behaviour = Behaviour(chosen.delay, chosen.fail_rate, not chosen.unhealthy)
    if complaints := behaviour.errors():
        parser.error("; ".join(complaints))
    if not 0 <= chosen.port <= 65535:
        parser.error("--port: 0 to 65535 is wanted")
    if not TOKEN.fullmatch(chosen.name):
        parser.error("--name: letters, digits, - and . are wanted")
    try:
        sockets = listen(chosen.host, chosen.port)
    except OSError as error:
        busy = error.errno == errno.EADDRINUSE
        why = "is busy: stop what uses it, or choose another --port" if busy else f"cannot be used: {error}"
        print(f"{chosen.name}: {chosen.host}:{chosen.port} {why}", file=sys.stderr)
        return 2
    where = f"http://{chosen.host}:{sockets[0].getsockname()[1]}"
    with contextlib.suppress(KeyboardInterrupt):  # a Ctrl-C before the loop listens for it
        asyncio.run(Server(chosen.name, behaviour).run(sockets, where))
    return 0


if __name__ == "__main__":
    sys.exit(main())
