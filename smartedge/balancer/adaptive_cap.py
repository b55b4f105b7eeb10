"""The adaptive cap: how many requests a backend can do at once, found out from its latency alone.

As long as a backend has room, one more request in flight costs nothing; when it has none, each waits for the
others, and the latency grows with their number. So the cap follows the ratio of the latency without a queue to
the latency now (the gradient of Netflix' concurrency-limits and Envoy's adaptive concurrency filter).

The latency without a queue is the least mean of a recent while. If the backend has been busy all that while,
nobody has seen it: then the cap is a quarter for a moment, to see whether the latency falls (as BBR does with
its `ProbeRTT`, and Envoy with its `minRTT`). Seconds are those of a monotonic clock.
"""

from __future__ import annotations

from math import sqrt
from typing import Final

from smartedge.balancer.cells import CAP, CAP_BASE, CAP_BASE_AT, CAP_LOOKS_UNTIL, Row

FIRST: Final = 20.0
LEAST: Final = 1.0
MOST: Final = 1000.0
"""The cap at first, and how far it moves."""

WINDOW_S: Final = 0.25
WINDOW_ANSWERS: Final = 10
"""A mean is that of so much time and so many answers at least."""

BASE_S: Final = 30.0
"""So long is the least mean believed."""

LOOK_S: Final = 2.0
"""So long at most does a look at the latency without a queue take."""

TOLERANCE: Final = 1.25
"""The latency may be so many times the least before the cap falls: some of what varies is not a queue."""

SMOOTHING: Final = 0.2
"""So much of the way to where it should be does the cap go in one window."""


class AdaptiveCap:
    """The cap of one backend's requests in flight, in all workers; owned by its `Learned`, which leases tell of answers.

    shared: the row that holds it. Each worker takes the mean of the answers that it has seen itself, and moves
    the one cap of all.
    """

    __slots__ = ("_answers", "_busiest", "_sum_s", "_window_at", "reals")

    def __init__(self, shared: Row) -> None:
        self.reals = shared[1]
        self._answers = self._busiest = 0
        self._sum_s = self._window_at = 0.0

    @property
    def value(self) -> int:
        """The cap now."""
        reals = self.reals
        cap = reals[CAP] or FIRST
        return int(max(cap / 4, LEAST)) if reals[CAP_LOOKS_UNTIL] else int(cap)

    def observe(self, now: float, latency_s: float, in_flight: int) -> None:
        """Take in an answer's latency, and how many requests were in flight when it came."""
        if (until := self.reals[CAP_LOOKS_UNTIL]) and in_flight > self.value and now < until:
            return  # It has waited for requests from before.
        if not self._answers:
            self._window_at = now
        self._answers += 1
        self._sum_s += latency_s
        if in_flight > self._busiest:
            self._busiest = in_flight
        if self._answers >= WINDOW_ANSWERS and now - self._window_at >= WINDOW_S:
            self._adjust(now, self._sum_s / self._answers, self._busiest)
            self._answers = self._busiest = 0
            self._sum_s = 0.0

    def _adjust(self, now: float, mean_s: float, busiest: int) -> None:
        reals = self.reals
        cap = reals[CAP] or FIRST
        busy = busiest >= cap / 2  # else nothing shows that there would be room for more, nor a queue
        base_s = reals[CAP_BASE]
        overdue = now - reals[CAP_BASE_AT] > BASE_S
        if reals[CAP_LOOKS_UNTIL] or not base_s or mean_s <= base_s or (overdue and not busy):
            base_s = reals[CAP_BASE] = mean_s
            reals[CAP_BASE_AT] = now
            reals[CAP_LOOKS_UNTIL] = 0.0
        elif overdue:
            reals[CAP_LOOKS_UNTIL] = now + LOOK_S
        target = cap * min(max(TOLERANCE * base_s / mean_s, 0.5), 1.0) if mean_s else cap
        if busy:
            target += sqrt(cap)
        reals[CAP] = min(max(cap + SMOOTHING * (target - cap), LEAST), MOST)
