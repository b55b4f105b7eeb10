"""Peak-EWMA: a moving average of a backend's latency that jumps up at once and comes down slowly.

Seconds throughout. From Twitter's Finagle (`PeakEwma`) and linkerd: what just got slow must be avoided before
the average of the last minute shows it, while one quick answer proves little.
"""

from __future__ import annotations

from math import exp

TAU_S = 10.0
"""Time in which a mean that nothing confirms falls to 1/e of itself."""

FAILURE_S = 5.0
"""The least that a failure counts as: a backend that fails fast must not look fast."""

RETRY_AFTER_MAX_S = 300.0
"""The most that a backend's own Retry-After can count as."""


class PeakEwma:
    """The decaying mean of one backend's latency; 0.0 while nothing is known, or nothing any more."""

    __slots__ = ("_stamp", "mean_s", "tau_s")

    def __init__(self, tau_s: float = TAU_S) -> None:
        self.tau_s = tau_s
        self.mean_s = 0.0
        self._stamp = 0.0

    def read(self, now: float) -> float:
        """Return the mean as it has decayed until now; reading stores nothing."""
        mean = self.mean_s
        if mean and now > self._stamp:
            mean *= exp((self._stamp - now) / self.tau_s)
        return mean

    def observe(self, now: float, latency_s: float) -> None:
        """Take in a latency: above the decayed mean it replaces it, below it blends in."""
        weight = 1.0
        if now > self._stamp:
            weight = exp((self._stamp - now) / self.tau_s)
            self._stamp = now
        mean = self.mean_s * weight
        self.mean_s = latency_s if latency_s >= mean else mean + latency_s * (1.0 - weight)

    def fail(self, now: float, retry_after_s: float | None = None) -> None:
        """Take in a failure: the largest of 5 s, what Retry-After asked for (up to 300 s), and the mean."""
        asked = min(retry_after_s, RETRY_AFTER_MAX_S) if retry_after_s else 0.0
        self.observe(now, max(FAILURE_S, asked, self.read(now)))

    def seed(self, now: float, mean_s: float) -> None:
        """Start a newcomer at the mean of its peers: at zero it would get all traffic until it answers."""
        self.mean_s = mean_s
        self._stamp = now
