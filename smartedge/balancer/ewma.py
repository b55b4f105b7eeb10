"""Peak-EWMA: a moving average of a backend's latency that jumps up at once and comes down slowly.

Seconds throughout. From Twitter's Finagle (`PeakEwma`) and linkerd: what just got slow must be avoided before
the average of the last minute shows it, while one quick answer proves little.
"""

from __future__ import annotations

from math import exp
from typing import Final

from smartedge.balancer.cells import EWMA, EWMA_AT, EWMA_BEFORE, FAILED_AT, Row

TAU_S: Final = 10.0
"""Time in which a mean that nothing confirms falls to 1/e of itself."""

FAILURE_S: Final = 5.0
"""The least that a failure counts as: a backend that fails fast must not look fast."""

MAX_DOUBLINGS: Final = 30
"""From a nanosecond to a second."""

RETRY_AFTER_MAX_S: Final = 300.0
"""The most that a backend's own Retry-After can count as."""


class PeakEwma:
    """The decaying mean of one backend's latency; owned by its `Learned`. 0.0 while nothing is known, or nothing any more.

    shared: the row that holds it, so that all workers of an edge have one mean (its two cells are not written
    at once: a mean with the stamp of another is off by a few milliseconds of decay).
    """

    __slots__ = ("reals",)

    def __init__(self, shared: Row) -> None:
        self.reals = shared[1]

    @property
    def mean_s(self) -> float:
        """The mean when it was last stored."""
        return self.reals[EWMA]

    def read(self, now: float) -> float:
        """Return the mean as it has decayed until now; reading stores nothing."""
        reals = self.reals
        mean = reals[EWMA]
        if mean and now > (at := reals[EWMA_AT]):
            mean *= exp((at - now) / TAU_S)
        return mean

    def sound(self, now: float) -> float:
        """Return the mean without what failures count as: what a newcomer can expect to be like."""
        return self.reals[EWMA_BEFORE] if self.reals[FAILED_AT] else self.read(now)

    def observe(self, now: float, latency_s: float) -> float:
        """Take in a latency: above the decayed mean it replaces it, below it blends in. Return the mean now."""
        reals = self.reals
        weight = 1.0
        if now > (at := reals[EWMA_AT]):
            weight = exp((at - now) / TAU_S)
            reals[EWMA_AT] = now
        mean = reals[EWMA] * weight
        if latency_s < mean:
            latency_s = mean + latency_s * (1.0 - weight)
        reals[EWMA] = latency_s
        return latency_s

    def exceed(self, now: float, waited_s: float, streak: int = 1) -> None:
        """Take in that a latency would have been longer than this, which says nothing if it was expected anyway.

        streak: so often in a row was it not seen to the end, this time included; each time counts twice as
        much as the one before, but no more than a failure.
        """
        doubled_s = min(waited_s * 2.0 ** min(streak - 1, MAX_DOUBLINGS), FAILURE_S)
        lowest_s = max(waited_s, doubled_s)
        if lowest_s > self.read(now):
            self.observe(now, lowest_s)

    def fail(self, now: float, retry_after_s: float | None = None) -> None:
        """Take in a failure: the largest of 5 s, what Retry-After asked for (up to 300 s), and the mean."""
        reals = self.reals
        asked = min(retry_after_s, RETRY_AFTER_MAX_S) if retry_after_s and retry_after_s > 0.0 else 0.0
        mean = self.read(now)
        if not reals[FAILED_AT]:
            reals[EWMA_BEFORE] = mean
        reals[FAILED_AT] = now
        self.observe(now, max(FAILURE_S, asked, mean))

    def forgive(self, now: float) -> None:
        """Take in that a probe was good, or that all fail alike: what was before the last failures is right again.

        5 s take a minute to decay below the milliseconds of the others, and meanwhile a backend gets no request
        with which it could show that it is back. If it is not, the next one fails, and is tried elsewhere. What
        an answer's Retry-After asked for is forgiven, too: it was said of one request, and a sound backend must not be
        talked out of service by whoever can provoke such an answer.
        """
        if self.reals[FAILED_AT]:
            self.seed(now, self.reals[EWMA_BEFORE])

    def seed(self, now: float, mean_s: float) -> None:
        """Start a newcomer at the mean of its peers: at zero it would get all traffic until it answers."""
        self.reals[EWMA] = mean_s
        self.reals[EWMA_AT] = now
        self.reals[FAILED_AT] = 0.0
