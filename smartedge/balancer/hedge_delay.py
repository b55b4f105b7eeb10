"""Hedging: when a request has waited for so long that another backend should be asked, too.

Most of a slow tail is bad luck with one backend: asking a second one after the time that 95 of 100 answers
keep to cuts the tail for 5% more requests (Dean, Barroso, "The Tail at Scale", CACM 56, 2013). Answers are those
to requests of the same kind: a report that always takes seconds is not late, and must not be made twice.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

from smartedge.balancer.cells import LATENCY_BOUNDS_S, quantile

UNKNOWN_S: Final = 1.0
"""The delay until something is known of a kind: hedges beside a hang, and not much else."""

FLOOR_S: Final = 0.005
"""The least delay. Below it our own event loop is as often late as a backend, and hedges would only add to that."""

TICK_S: Final = 0.005
"""How often the requests that wait for a first byte are looked at, by the edge and in simulations."""

KEPT: Final = 0.9
"""What a second leaves of the counts before it: half of them are of the last seven seconds."""

ANSWERS: Final = 20
"""So many answers count at least, however old: of fewer, none is the slowest twentieth."""

FEW: Final = 2.0
"""While there are fewer, late is what takes so many times as long as any of them."""


class HedgeDelay:
    """How long a request of one kind waits before it is hedged: the percentile of the recent latencies; owned by its `Kind`.

    They are those of the whole service, not of one backend: a backend that is always slow is what hedging is
    for. after_s: the delay in seconds. A try that a hedge has beaten counts with the time that it had, or the
    percentile would run away from itself: the slow ones are never seen to the end.
    """

    __slots__ = ("_counts", "_fresh", "_longest_s", "after_s")

    def __init__(self) -> None:
        self.after_s = UNKNOWN_S
        self._fresh: list[int] = [0] * (len(LATENCY_BOUNDS_S) + 1)
        self._counts: list[float] = [0.0] * len(self._fresh)
        self._longest_s = 0.0

    def observe(self, latency_s: float, *, answered: bool = True) -> None:
        """Take in an answer; or, not answered, that one did not come within so long: a hedge was quicker."""
        self._fresh[bisect_left(LATENCY_BOUNDS_S, latency_s)] += 1
        if answered and latency_s > self._longest_s:
            self._longest_s = latency_s

    def tick(self, percentile: float) -> None:
        """Work the delay out anew from what came since the last time; called once a second."""
        fresh = self._fresh
        arrived = sum(fresh)
        if not arrived:
            return
        self._fresh = [0] * len(fresh)
        kept = max(KEPT, 1.0 - arrived / ANSWERS)
        self._counts = [count * kept + new for count, new in zip(self._counts, fresh, strict=True)]
        if sum(self._counts) >= ANSWERS * KEPT:
            self.after_s = max(FLOOR_S, quantile(percentile, self._counts) or 0.0)
            self._longest_s = 0.0
        else:
            self.after_s = max(UNKNOWN_S, FEW * self._longest_s)
