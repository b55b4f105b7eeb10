"""What a probe's answer means: the status is read from the connection, and judged by the backend's policy."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import httptools

from smartedge.balancer.health import HealthPolicy

HEAD_BYTES = 64 * 1024  # of an answer's head, interim ones included; more is no health answer


class ProbeError(Exception):
    """No usable answer; the text says why, for people."""


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """What one probe found: `status` is None without an HTTP answer, `detail` is one line for people."""

    ok: bool
    status: int | None
    detail: str
    took_s: float


def judge(status: int, policy: HealthPolicy, took_s: float) -> ProbeResult:
    """Whether this is a status that the operator expects."""
    ok = status in policy.statuses
    expectation = "" if ok else f", expected {ranges(policy.statuses)}"
    return ProbeResult(ok, status, f"status {status}{expectation}", took_s)


def read_status(recv: Callable[[int], bytes]) -> int:
    """Read the head of an answer, and interim ones before it, for its status; ProbeError if there is none.

    recv: waits for bytes, at most as many as it is told; none at the end.
    """
    head, size = _Head(), 0
    while True:
        data = recv(min(HEAD_BYTES - size, 8192))
        if not data:
            raise ProbeError("connection closed " + ("in mid-answer" if size else "without an answer"))
        size += len(data)
        valid = head.feed(data)
        if head.status is not None:
            return head.status  # whatever follows the head, garbage too, is not looked at
        if not valid:
            raise ProbeError("not HTTP")
        if size >= HEAD_BYTES:
            raise ProbeError(f"the head of the answer is over {HEAD_BYTES // 1024} KiB")


class _Head:
    """Listens to llhttp, the parser that traffic goes through, so that both judge alike what is HTTP."""

    def __init__(self) -> None:
        self.status: int | None = None
        self._parser = httptools.HttpResponseParser(self)

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


def ranges(codes: Iterable[int]) -> str:
    """Write {200, 201, 202, 404} as "200-202, 404"."""
    runs = itertools.groupby(enumerate(sorted(codes)), key=lambda pair: pair[1] - pair[0])
    lists = [[code for _, code in run] for _, run in runs]
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in lists)
