"""What became of each try of a request, for the access log and for traces."""

from __future__ import annotations

from time import monotonic
from typing import Final, NamedTuple

from smartedge.balancer.backend import Backend
from smartedge.balancer.pool import Lease
from smartedge.balancer.trace import TryKind

MOST_KEPT: Final = 16
"""A request that a hundred backends refuse is told of by its first tries and its last."""


class Tried(NamedTuple):
    """One try that is over; made by Attempts for each but the usual one, and by `with_answered` for that.

    began, ended: monotonic time. connect_s: seconds until its new connection was open, None for one that was kept, or never open.
    latency_s: from the last byte of the request to the first of the answer, None without an answer. outcome: "ok", "failed",
    "abandoned", "outrun" (a hedge was first) or "overdue" (it was moved, for the backend was silent). status: of its answer, 0
    without one. reason: why it failed (`errors.Reason`), "" where it did not.
    """

    backend: Backend
    kind: TryKind
    began: float
    ended: float
    connect_s: float | None
    latency_s: float | None
    outcome: str
    status: int
    reason: str


Row = tuple[Tried, ...]


def keep(tried: Row, lease: Lease, outcome: str, status: int = 0, reason: str = "") -> Row:
    """Add how a lease's try has ended, which is now; in a long row the middle is left out."""
    if len(tried) >= MOST_KEPT:
        tried = tried[: MOST_KEPT // 2] + tried[MOST_KEPT // 2 + 1 :]
    return (*tried, _tried(lease, monotonic(), outcome, status, reason))


def with_answered(tried: Row, lease: Lease, status: int) -> Row:
    """Add the try whose answer came whole and did, which is not kept on its way; nothing when its lease's try is there."""
    if any(one.began == lease.opened_at and one.backend is lease.backend for one in tried):
        return tried
    return (*tried, _tried(lease, lease.sent_at + (lease.latency_s or 0.0), "ok", status, ""))


def _tried(lease: Lease, ended: float, outcome: str, status: int, reason: str) -> Tried:
    return Tried(lease.backend, lease.kind, lease.opened_at, ended, lease.connect_s, lease.latency_s, outcome, status, reason)
