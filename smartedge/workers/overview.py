"""Who the workers of the edge are, and what each does: read from the slots, the board and the process table."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import time
from typing import Any

from smartedge.balancer.cells import CODE_CELLS, IN_FLIGHT, LOOP_LAG
from smartedge.workers.membership import Membership
from smartedge.workers.periodic import in_pieces


@dataclass(frozen=True, slots=True)
class Standing:
    """Who the workers are, read once; made by `standing`. live: process numbers by slot. leader: its slot, None for none.

    serials: what each has confirmed to have in use, which counts up with everything that is published.
    """

    live: Mapping[int, int]
    leader: int | None
    serials: Mapping[int, int]


def standing(membership: Membership) -> Standing:
    """Read who the workers of an edge are."""
    return Standing(membership.live(), membership.leader_slot(), membership.confirmed())


def overview(
    membership: Membership, now: float, wall: Callable[[], float] = time, *, counted: bool = True
) -> list[Mapping[str, Any]]:
    """Describe every live worker, in the order of the slots; any of them can.

    started_at: Unix time, half a second off at most, but the same whenever and by whichever worker it is told: Prometheus counts
    how often it changes.

    requests: answered in this slot since the edge began, also by earlier workers of the slot; in_flight: open there now. Both
    only if `counted`, for they are added up from a row for each backend. generation: of the configuration in use there.
    loop_lag_s: how late its loop has lately been. memory_bytes: resident. cpu_s: user and system time that it has taken. Both
    None where the system does not say.
    """
    leader = membership.leader_slot()
    clock_began_at = round(wall() - now)
    generations = membership.generations()
    return [
        {
            "slot": slot,
            "pid": pid,
            "leader": slot == leader,
            "generation": generations.get(slot, 0),
            "uptime_s": round(now - since, 3),
            "started_at": round(clock_began_at + since, 3),
            **(_counts(membership, slot) if counted else {}),
            "loop_lag_s": round(membership.edge_reals(slot)[LOOP_LAG], 6),
            "memory_bytes": _resident_bytes(pid),
            "cpu_s": _cpu_s(pid),
        }
        for slot, (pid, since) in sorted(membership.live_since().items())
    ]


def _counts(membership: Membership, slot: int) -> Mapping[str, int]:
    """Add up what a slot's rows count; requests go on in between."""
    requests = in_flight = 0
    for row in in_pieces(membership.rows_of(slot)):
        requests += sum(row[CODE_CELLS].tolist())
        in_flight += row[IN_FLIGHT]
    return {"requests": requests, "in_flight": in_flight}


def _resident_bytes(pid: int) -> int | None:
    """Return how much memory a process holds (proc(5), statm)."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return None


def _cpu_s(pid: int) -> float | None:
    """Return what processor time a process has taken (proc(5), stat: the name in parentheses may hold anything)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except (OSError, IndexError, ValueError):
        return None
