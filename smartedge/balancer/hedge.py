"""Hedging: when a request has waited for so long that another backend should be asked, too.

Most of a slow tail is bad luck with one backend: asking a second one after the time that 95 of 100 answers
keep to cuts the tail for 5% more requests (Dean, Barroso, "The Tail at Scale", CACM 56, 2013).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, Protocol

from smartedge.balancer.cells import LATENCY_CELLS, quantile

UNKNOWN_S: Final = 1.0
"""The delay until something is known of the service: hedges beside a hang, and not much else."""

FLOOR_S: Final = 0.005
"""The least delay. Below it our own event loop is as often late as a backend, and hedges would only add to that."""

KEPT: Final = 0.9
"""What a second leaves of the counts before it: half of them are of the last seven seconds."""

ANSWERS: Final = 20
"""So many answers count at least, however old: of fewer, none is the slowest twentieth."""


class Counted(Protocol):
    """A backend, as far as its latencies are concerned (`backend.Learned`)."""

    @property
    def rows(self) -> Sequence[memoryview[int]]:
        """Its row in every worker's slot."""
        ...


class HedgeDelay:
    """How long a request waits for its first byte before it is hedged: the percentile of the recent latencies.

    They are those of the whole service, not of one backend: a backend that is always slow is what hedging is
    for. after_s: the delay in seconds. A try that a hedge has beaten counts with the time that it had, or the
    percentile would run away from itself: the slow ones are never seen to the end.
    """

    __slots__ = ("_before", "_counts", "after_s", "percentile")

    def __init__(self, percentile: float = 0.95) -> None:
        self.percentile = percentile
        self.after_s = UNKNOWN_S
        self._before: list[float] = []
        self._counts: list[float] = []

    def tick(self, backends: Iterable[Counted]) -> None:
        """Look at the latencies that came since the last time; called once a second."""
        rows = (row[LATENCY_CELLS].tolist() for backend in backends for row in backend.rows)
        now = [float(sum(cells)) for cells in zip(*rows, strict=True)]
        before, self._before = self._before, now
        if len(before) != len(now):
            self._counts = [0.0] * len(now)
            before = now
        # A backend that has left takes its counts along: what is missing then is not negative.
        fresh = [max(0.0, count - was) for count, was in zip(now, before, strict=True)]
        arrived = sum(fresh)
        if not arrived:
            return
        kept = max(KEPT, 1.0 - arrived / ANSWERS)
        self._counts = [count * kept + new for count, new in zip(self._counts, fresh, strict=True)]
        if sum(self._counts) >= ANSWERS * KEPT:
            self.after_s = max(FLOOR_S, quantile(self.percentile, self._counts) or 0.0)
