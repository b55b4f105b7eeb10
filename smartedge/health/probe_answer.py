"""What a probe's answer means: it is read from the connection, and judged by the backend's policy."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import httptools

from smartedge.balancer.health import ANSWERED, HealthPolicy, ProbeResult

HEAD_BYTES = 64 * 1024  # of an answer's head, interim ones included; more is no health answer
BODY_BYTES = 64 * 1024  # of a body are looked at

HOST_REFUSALS = (
    # status, what its body has, and who answers so
    (400, b"DisallowedHost", "Django's ALLOWED_HOSTS"),  # with DEBUG
    (400, b"<title>Bad Request (400)</title>", "Django's ALLOWED_HOSTS"),  # without
    (400, b"Invalid host header", "TrustedHostMiddleware"),  # Starlette and FastAPI
    (403, b"Blocked host", "Rails' config.hosts"),
    (403, b"Blocked request. This host", "Vite's allowedHosts"),
    (403, b"Invalid Host header", "webpack's allowedHosts"),
    (421, b"", "the server"),  # RFC 9110 section 15.5.20: Misdirected Request
)
MAY_REFUSE_HOST = frozenset(status for status, _, _ in HOST_REFUSALS)


class ProbeError(Exception):
    """No usable answer; the text says why, for people."""


@dataclass(frozen=True, slots=True)
class ProbeAnswer:
    """A probe's answer: its status, and as much of its body as was looked at; read by `read_answer`.

    said: what people are told in place of the status, of an answer that has none of its own.
    """

    status: int
    body: bytes = b""
    said: str = ""


def judge(answer: ProbeAnswer, policy: HealthPolicy, took_s: float, host: str = "") -> ProbeResult:
    """Whether this is an answer that the operator expects. host: what the probe's Host field was."""
    status = answer.status
    detail = answer.said or f"status {status}"
    ok = status in policy.statuses
    if not ok:
        detail += ", expected " + ("less than 500" if policy.statuses == ANSWERED else ranges(policy.statuses))
    elif policy.body is not None and policy.body.encode() not in answer.body:
        ok = False
        detail += f", without the text {policy.body!r}"
    if refuser := refuses_host(answer):
        detail += f'; {refuser} refuses the Host "{host}": write health.host'
    return ProbeResult(ok, None if answer.said else status, detail, took_s)


def refuses_host(answer: ProbeAnswer) -> str | None:
    """Return what seems to have refused a request for its Host field, None when nothing has."""
    if answer.status not in MAY_REFUSE_HOST:  # as mostly
        return None
    for status, mark, refuser in HOST_REFUSALS:
        if answer.status == status and mark in answer.body:
            return refuser
    return None


def read_answer(recv: Callable[[int], bytes], policy: HealthPolicy) -> ProbeAnswer:
    """Read the head of an answer, and interim ones before it; ProbeError if there is none. Of its body what matters, too.

    recv: waits for bytes, at most as many as it is told; none at the end. Raises TimeoutError.
    """
    head = _Head()
    try:
        status = _read_status(recv, head)
        if policy.method != "HEAD" and (policy.body is not None or status in MAY_REFUSE_HOST):
            wanted = None if policy.body is None else policy.body.encode()
            _read_body(recv, head, wanted)
    finally:
        head.end()
    return ProbeAnswer(status, bytes(head.body))


def _read_status(recv: Callable[[int], bytes], head: _Head) -> int:
    size = 0
    while True:
        data = recv(min(HEAD_BYTES - size, 8192))
        if not data:
            raise ProbeError("connection closed " + ("in mid-answer" if size else "without an answer"))
        size += len(data)
        valid = head.feed(data)
        if head.status is not None:
            return head.status  # what follows, garbage too, matters only where a text is looked for
        if not valid:
            raise ProbeError("not HTTP")
        if size >= HEAD_BYTES:
            raise ProbeError(f"the head of the answer is over {HEAD_BYTES // 1024} KiB")


def _read_body(recv: Callable[[int], bytes], head: _Head, wanted: bytes | None) -> None:
    """Read on until the end, or until it is known; it is a matter of luck where the text is only a hint for people."""
    try:
        while not head.complete and len(head.body) < BODY_BYTES and (wanted is None or wanted not in head.body):
            data = recv(8192)
            if not data or not head.feed(data):
                return
    except OSError:  # a TimeoutError is one
        if wanted is not None:
            raise


class _Head:
    """Listens to llhttp, the parser that traffic goes through, so that both judge alike what is HTTP."""

    def __init__(self) -> None:
        self.status: int | None = None
        self.body = bytearray()
        self.complete = False
        self._parser: Any = httptools.HttpResponseParser(self)

    def end(self) -> None:
        """Let the parser go, which holds this: a circle for each probe would be the collector's work."""
        self._parser = None

    def feed(self, data: bytes) -> bool:
        """Parse on; False when this is not HTTP."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            return True
        except httptools.HttpParserError:
            return False
        return True

    def on_headers_complete(self) -> None:
        """Called by the parser at the end of each head; the first final one decides."""
        status = self._parser.get_status_code()
        if self.status is None and (status >= 200 or status == 101):
            self.status = status

    def on_body(self, data: bytes) -> None:
        """Called by the parser for each piece of a body."""
        if not self.complete:
            self.body += data

    def on_message_complete(self) -> None:
        """Called by the parser at the end of each message."""
        self.complete = self.status is not None


def ranges(codes: Iterable[int]) -> str:
    """Write {200, 201, 202, 404} as "200-202, 404"."""
    runs = itertools.groupby(enumerate(sorted(codes)), key=lambda pair: pair[1] - pair[0])
    lists = [[code for _, code in run] for _, run in runs]
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in lists)
