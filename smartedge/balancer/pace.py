"""Pace: how long a backend usually takes, with how far that can be trusted, so that chance is told from a difference.

The peak-EWMA (`ewma`) jumps at every slow answer: right for turning away at once, but equal backends then look unequal
all the time. Here is the mean of the logarithms of the latest latencies, some 64 of them, with their variance. Logarithms,
because latencies vary by factors: one answer of 4 s among quick ones does not make a slow backend. Seconds throughout.
"""

from __future__ import annotations

from math import exp, log, log2, sqrt
from typing import Final

from smartedge.balancer.cells import PACE, PACE_AT, PACE_SEEN, PACE_VARIANCE, PACE_WEIGHT, Row
from smartedge.balancer.ewma import FAILURE_S

KEPT: Final = 63 / 64
"""What one more answer, or one turn passed, leaves of the weight of those before it."""

WINDOW_S: Final = 1.0
"""But what came within this time keeps more than 1/e of its weight, however much came since: what slows a machine down for a
moment slows all its answers of that moment, so that many are not more evidence than a few."""

TRUSTED_S: Final = 30.0
"""Time in which evidence that nothing renews falls to 1/e of its weight."""

SURPRISING: Final = 2.5
DOUBTED: Final = 0.2
"""Answers that took longer by so many standard deviations say that the backend has changed, and of what was known before only so
much still counts. That is for whoever sees few answers, as each of many nodes does: it would believe it late."""

MOST_COUNTED: Final = 64.0
"""So many answers at most count as independent."""

FLOOR_S: Final = 1e-4
"""Latencies below are alike."""

LEAST_SEEN: Final = 4
"""Of fewer answers nothing is concluded."""

LEAST_VARIANCE: Final = 0.05
"""However alike a few answers were, the next may differ by a quarter."""


_LOG2: Final = log(2.0)
_LOG_FAILURE: Final = log(FAILURE_S)


class Pace:
    """One backend's pace, kept by `Learned`; leases add to it, and a strategy that goes by it settles it now and then.

    What a worker adds stays its own until `settle` merges it into the row that all workers share (two that do so in the same
    moment lose some answers of one of them, no more). passed: turns that a strategy has let pass since the last answer:
    whoever is asked seldom would else be judged by answers from long ago.
    """

    __slots__ = ("_count", "_squares", "_sum", "ints", "passed", "reals")

    def __init__(self, shared: Row) -> None:
        self.ints, self.reals = shared
        self.passed = 0
        self._count = 0
        self._sum = self._squares = 0.0

    def add(self, latency_s: float) -> None:
        """Take in a latency."""
        value = log2(latency_s) * _LOG2 if latency_s > FLOOR_S else _LOG_FLOOR  # `log` takes three times as long, for its base
        self._count += 1
        self._sum += value
        self._squares += value * value

    def fail(self) -> None:
        """Take in a failure, which counts as five seconds: who fails fast must not look fast."""
        self._count += 1
        self._sum += _LOG_FAILURE
        self._squares += _LOG_FAILURE * _LOG_FAILURE

    def settle(self, now: float) -> None:
        """Merge what was added since the last time (West, "Updating mean and variance estimates", CACM 22, 1979)."""
        count = self._count
        if not count:
            return
        mean = self._sum / count
        variance = max(self._squares / count - mean * mean, 0.0)
        ints, reals = self.ints, self.reals
        kept = max(KEPT**count, exp(min(reals[PACE_AT] - now, 0.0) / WINDOW_S))
        before = self.weight(now) * kept * KEPT**self.passed
        self._count = self.passed = 0
        self._sum = self._squares = 0.0
        step = mean - reals[PACE]
        if step > SURPRISING * sqrt(self.variance):
            before *= DOUBTED
        after = before + count
        fresh = count / after
        reals[PACE_VARIANCE] = (1.0 - fresh) * (reals[PACE_VARIANCE] + fresh * step * step) + fresh * variance
        reals[PACE] += fresh * step
        reals[PACE_WEIGHT] = after
        reals[PACE_AT] = now
        ints[PACE_SEEN] += count

    def forget(self) -> None:
        """Begin anew: another process answers from here on."""
        self._count = self.passed = 0
        self._sum = self._squares = 0.0
        self.ints[PACE_SEEN] = 0
        self.reals[PACE_WEIGHT] = self.reals[PACE] = self.reals[PACE_VARIANCE] = self.reals[PACE_AT] = 0.0

    @property
    def known(self) -> bool:
        """Whether enough answers came to conclude anything."""
        return self.ints[PACE_SEEN] >= LEAST_SEEN

    @property
    def seen(self) -> int:
        """How many answers have been merged since it was last forgotten."""
        return self.ints[PACE_SEEN]

    @property
    def log_mean(self) -> float:
        """The mean of the logarithms."""
        return self.reals[PACE]

    @property
    def variance(self) -> float:
        """The variance of the logarithms."""
        variance = self.reals[PACE_VARIANCE]
        return variance if variance > LEAST_VARIANCE else LEAST_VARIANCE

    @property
    def at(self) -> float:
        """When an answer was last merged."""
        return self.reals[PACE_AT]

    def weight(self, now: float) -> float:
        """How many answers the mean is worth now."""
        age_s = now - self.reals[PACE_AT]
        weight = self.reals[PACE_WEIGHT]
        return weight * exp(-age_s / TRUSTED_S) if age_s > 0.0 else weight

    def counted(self, now: float) -> float:
        """How many independent answers the mean is worth now; its standard error is the root of variance by that."""
        weight = self.weight(now)
        if weight > MOST_COUNTED:
            return MOST_COUNTED
        return weight if weight > 1e-9 else 1e-9


_LOG_FLOOR: Final = log(FLOOR_S)
