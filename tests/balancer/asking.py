"""Leases of one backend, held by requests that say what they are."""

from __future__ import annotations

from smartedge.balancer.backend import Backend
from smartedge.balancer.pool import Lease, Pool


class Asking:
    """A request, as a lease knows it."""

    def __init__(self, target: bytes = b"/", *, is_due: bool = True) -> None:
        self.kind = (b"GET", target)
        self.is_due = is_due


def take(target: Pool, one: Backend, now: float, path: bytes = b"/", *, is_due: bool = True) -> Lease:
    """A lease of this backend for a request of this path."""
    others = [other for other in target.backends if other is not one]
    lease = target.lease(now, others, prefer=one.id)
    assert lease.backend is one
    lease.holder = Asking(path, is_due=is_due)
    return lease
