"""What happened in about the last minute: what the counters have gained since they were written down that long ago.

Shares and rates since the start mislead: a backend that came back an hour ago looks idle for days.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from smartedge.balancer.backend import Backend
from smartedge.balancer.cells import CODE_CELLS, FAILED, LATENCY_CELLS, SESSION_REQUESTS
from smartedge.workers.periodic import in_pieces

TICK_S = 10.0
WINDOW_S = 60.0


Kept = tuple[float, float, Sequence[float], float]
"""A `Counted` as a plain tuple, to be kept: the garbage collector looks at such once and no more.

Of ten thousand backends, seven times, it looked at 140,000 objects again and again, 100 ms at a stretch.
"""


class Counted(NamedTuple):
    """Counts of one backend: requests answered, tries failed, and answers in each bucket of the latencies.

    by_session: of the requests, those that came with the sticky cookie of this backend; 0 where that is not asked.
    """

    requests: float
    failed: float
    latencies: Sequence[float]
    by_session: float = 0

    def kept(self) -> Kept:
        """Return the same as it is kept."""
        return self.requests, self.failed, self.latencies, self.by_session


class Recent:
    """Counts of about the last minute, read from rows that only grow; owned by the Edge, read by the status and the page."""

    def __init__(self, tick_s: float = TICK_S, window_s: float = WINDOW_S) -> None:
        self._tick_s = tick_s
        self._window_s = window_s
        self._kept: deque[tuple[float, dict[str, Kept]]] = deque()

    def tick(self, now: float, backends: Sequence[Backend]) -> None:
        """Write the counts down, if it is time; call it when serving begins, and then as often as you like."""
        if self._kept and now - self._kept[-1][0] < self._tick_s:
            return
        before = self._kept[-1][1] if self._kept else {}
        counts: dict[str, Kept] = {}
        for backend in in_pieces(backends):
            count, known = count_of(backend.learned.rows).kept(), before.get(backend.key)
            counts[backend.key] = known if known == count else count  # as of most of very many: kept once
        self._kept.append((now, counts))
        while len(self._kept) > 1 and now - self._kept[1][0] >= self._window_s:
            self._kept.popleft()

    def since(self) -> float | None:
        """Return from when on `gained` counts; None when nothing was written down yet, so that it counts from the start."""
        return self._kept[0][0] if self._kept else None

    def gained(self, key: str, row: Sequence[float]) -> Counted:
        """Return what a backend, of which this is the row now, was counted lately; all of it when it was not there then."""
        return self._gained(key, counted(row))

    def count(self, backend: Backend) -> tuple[Counted, Counted]:
        """Return what a backend was counted in all, and lately; read from a few cells, for who asks of hundreds all the time."""
        now = count_of(backend.learned.rows)
        return now, self._gained(backend.key, now)

    def _gained(self, key: str, now: Counted) -> Counted:
        kept = self._kept[0][1].get(key) if self._kept else None
        if kept is None:
            return now
        before = Counted(*kept)
        gained = Counted(
            now.requests - before.requests,
            now.failed - before.failed,
            [count - old for count, old in zip(now.latencies, before.latencies, strict=True)],
            now.by_session - before.by_session,
        )
        less = min(gained.requests, gained.failed, *gained.latencies) < 0
        return now if less else gained  # less than before: the row belongs to another life of the backend


def count_of(rows: Sequence[memoryview[int]]) -> Counted:
    """Read the same from the rows of all workers; a tenth of the time that adding up all of their cells takes."""
    latencies = [tuple(row[LATENCY_CELLS].tolist()) for row in rows]
    return Counted(
        sum(sum(row[CODE_CELLS].tolist()) for row in rows),
        sum(row[FAILED] for row in rows),
        latencies[0] if len(latencies) == 1 else tuple([sum(counts) for counts in zip(*latencies, strict=True)]),
        sum(row[SESSION_REQUESTS] for row in rows),
    )


def counted(row: Sequence[float]) -> Counted:
    """Read what is counted out of a row."""
    return Counted(sum(row[CODE_CELLS]), row[FAILED], row[LATENCY_CELLS], row[SESSION_REQUESTS])
