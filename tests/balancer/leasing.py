"""Leases taken and ended in tests of the pool, and what they leave in a backend's counters."""

from __future__ import annotations

from smartedge.balancer.backend import Backend
from smartedge.balancer.cells import OWN_CELLS
from smartedge.balancer.pool import Pool

NOW = 1000.0


def cells(one: Backend) -> dict[str, float]:
    """The counters that are not zero, by name."""
    totals = one.learned.totals()
    return {name: totals[cell] for name, cell in OWN_CELLS.items() if totals[cell]}


def fail(target: Pool, one: Backend, times: int, now: float = NOW) -> list[str | None]:
    """Have leases of this backend fail, whoever else is picked meanwhile."""
    changes: list[str | None] = []
    while len(changes) < times:
        lease = target.lease(now)
        if lease.backend is one:
            changes.append(lease.close(now, "failed"))
        else:
            lease.close(now, "ok")
    return changes


def served(target: Pool, count: int = 30, now: float = NOW) -> str:
    """The names of the backends that are picked, sorted."""
    found = set()
    for _ in range(count):
        lease = target.lease(now)
        lease.close(now, "abandoned")
        found.add(lease.backend.id)
    return " ".join(sorted(found))


def outrun(target: Pool, one: Backend, times: int, now: float = NOW) -> list[str | None]:
    """Have leases of this backend be outrun after 20 ms, and all others be given back."""
    changes: list[str | None] = []
    while len(changes) < times:
        lease = target.lease(now)
        if lease.backend is one:
            changes.append(lease.close(now + 0.02, "outrun"))
        else:
            lease.close(now, "abandoned")
    return changes
