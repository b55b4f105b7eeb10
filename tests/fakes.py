"""Stand-ins for what our parts are given from outside: a clock, a client that the kernel knows, transports, answers, bodies."""

from __future__ import annotations

import os
import resource
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from types import SimpleNamespace
from typing import Any

import gevent
from flask import Flask
from flask.testing import FlaskClient
from gevent.event import AsyncResult

from smartedge.balancer.backend import Backend
from smartedge.balancer.errors import ConnectFailed
from smartedge.http.answer_fields import read_answer_fields
from smartedge.http.environ_keys import GUNICORN_SOCKET, SOCKET
from smartedge.http.headers import VIA
from smartedge.http.wire import Wire
from smartedge.proxy.answer import Answer
from smartedge.proxy.outbound import Outbound


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """No file may grow beyond this: write() fails in the middle, as on a full disk, for root as well."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class FakeClock:
    """A monotonic clock that stands still until it is moved; call it, or read `now`, for seconds."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> float:
        """Move on, never back; return the new time."""
        assert seconds >= 0
        self.now += seconds
        return self.now


@cache
def _own_connection() -> tuple[socket.socket, socket.socket]:
    """One whose other end is a process of our own user; both stay open, or nobody could tell whose they are.

    Made when it is first wanted: a process of tests that shares a socket with its parent takes that for gunicorn's arbiter.
    """
    return socket.socketpair()


def local_client(app: Flask) -> FlaskClient:
    """Return a test client that the kernel knows: one without a connection could be anybody's, and may administer nothing."""
    client = app.test_client()
    ours, _ = _own_connection()
    client.environ_base |= {SOCKET: ours, GUNICORN_SOCKET: ours}
    return client


class NoWire(Wire):
    """A wire without a socket, for what derives from it to send and receive."""

    def __init__(self) -> None:
        super().__init__(SimpleNamespace(_sock=SimpleNamespace(recv=None, send=None), close=lambda: None))


class FakeAnswer(Answer):
    """An answer of a backend whose pieces are given; an exception among them is raised. here: its body came with its head."""

    at_hand = True

    def __init__(self, status: int = 200, *pieces: bytes | Exception, block: bytes = b"X: y\r\n", here: bool = True) -> None:
        self.status_code = self.counts_as = status
        self.status_line = b"%d Reason\r\n" % status
        self.fields = read_answer_fields(block)
        self.pieces = list(pieces)
        self.complete = here
        self.via = VIA
        self.trailers = ()
        self.closed = False

    def read(self) -> bytes:
        if not self.pieces:
            self.complete = True
            return b""
        piece = self.pieces.pop(0)
        if isinstance(piece, Exception):
            raise piece
        return piece

    def close(self) -> None:
        self.closed = True


def read_whole(body: Any) -> bytes:
    """What is in a request's body; b"" for none."""
    data = b""
    while body is not None and (piece := body.read()):
        data += piece
    return data


class FakeTransport:
    """A backend's transport that does one thing of its script for each request: gives an answer or raises an error."""

    netloc = b""

    def __init__(self, *script: FakeAnswer | Exception) -> None:
        self.script = list(script)
        self.sent: list[Outbound] = []

    def send(self, outbound: Outbound) -> FakeAnswer:
        self.sent.append(outbound)
        read_whole(outbound.body)
        does = self.script.pop(0)
        if isinstance(does, Exception):
            raise does
        return does


class HeldTransport:
    """A backend's transport with which each request waits until the test ends it; `sent` has those that were not refused.

    refuses: so many requests are refused first, with `error`. cut: how many were given up by who had sent them.
    """

    netloc = b""

    def __init__(self, *, refuses: int = 0) -> None:
        self.refuses = refuses
        self.error: Callable[[], Exception] = lambda: ConnectFailed("refused")
        self.refused: list[bytes] = []
        self.sent: list[bytes] = []
        self.bodies: list[bytes] = []
        self.ends: list[AsyncResult] = []
        self.cut = 0

    def send(self, outbound: Outbound) -> FakeAnswer:
        target = outbound.head.split()[1]
        if self.refuses:
            self.refuses -= 1
            self.refused.append(target)
            raise self.error()
        if outbound.body is not None:
            self.bodies.append(read_whole(outbound.body))
        end = AsyncResult()
        self.sent.append(target)
        self.ends.append(end)
        try:
            answer: FakeAnswer = end.get(timeout=5)
        except BaseException as error:
            self.cut += error is not end.exception
            raise
        return answer

    def end(self, what: FakeAnswer | Exception | None = None, number: int = -1) -> None:
        """End a request, the latest as a rule, and see what comes of it."""
        if isinstance(what, Exception):
            self.ends[number].set_exception(what)
        else:
            self.ends[number].set(what or FakeAnswer())
        for _ in range(5):
            gevent.sleep(0)

    def end_all(self) -> None:
        for number in range(len(self.ends)):
            self.end(number=number)


class Events:
    """Who is told of what happens on a request's way, and remembers."""

    def __init__(self) -> None:
        self.changes: list[tuple[str, str]] = []
        self.unreachables: list[str] = []

    def breaker_changed(self, backend: Backend, change: str) -> None:
        self.changes.append((backend.id, change))

    def unreachable(self, backend: Backend) -> None:
        self.unreachables.append(backend.id)


class Pieces:
    """A request body whose pieces are given; an exception among them is raised. here: all of it came with the head."""

    def __init__(self, *pieces: bytes | Exception, length: int | None = None, here: bool = False) -> None:
        self.pieces = list(pieces)
        self.length = length
        self.received_bytes = 0
        self.here = here
        self.trailers: list[tuple[bytes, bytes]] = []

    @property
    def complete(self) -> bool:
        return not self.pieces

    def buffered(self) -> bytes | None:
        return b"".join(self.read() for _ in range(len(self.pieces))) if self.here else None

    def lend(self, by_pipe: bool = False) -> bytes:
        return self.read()

    def read(self) -> bytes:
        if not self.pieces:
            return b""
        piece = self.pieces.pop(0)
        if isinstance(piece, Exception):
            raise piece
        self.received_bytes += len(piece)
        return piece


@contextmanager
def no_descriptors() -> Iterator[None]:
    """Really none: the limit is what is open, and the gaps are filled."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(map(int, os.listdir("/proc/self/fd")))
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, hard))
    filled = []
    try:
        with suppress(OSError):
            while True:
                filled.append(os.dup(0))
        yield
    finally:
        for descriptor in filled:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
