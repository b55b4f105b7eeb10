"""Whether a configuration on trial is measurably worse than the one before: both are counted, and chance is left out.

Failures are compared as two shares (the test of two proportions), times by the (upper) median of the 99th percentiles of single
ticks, so that one bad tick says nothing. Too few requests on either side say nothing at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any, Final

from smartedge.observe.history_table import Series

LEAST_REQUESTS: Final = 50
"""On each side, before anything is said."""

LEAST_TICKS: Final = 3
"""With answers in them, before anything is said of times: 15 s."""

TICK_REQUESTS: Final = 10
"""A tick with fewer says nothing of its 99th percentile."""

SIGMA: Final = 3.0
"""How far beyond chance: once in 740 looks, were nothing the matter."""


@dataclass(frozen=True, slots=True)
class TrialLimits:
    """When to go back by itself. error_ratio: share of requests that fail. p99_factor: as a multiple of before. None: never."""

    error_ratio: float | None = None
    p99_factor: float | None = None


@dataclass(frozen=True, slots=True)
class Measured:
    """What was counted over some ticks. p99_s: None where too little was answered."""

    requests: int
    failed: int
    p99_s: float | None

    @property
    def error_ratio(self) -> float:
        """The share that failed; at most all of them, for a request may fail several times."""
        return min(self.failed / self.requests, 1.0) if self.requests else 0.0

    def to_json(self) -> dict[str, Any]:
        """For whoever asks."""
        return {"requests": self.requests, "error_ratio": round(self.error_ratio, 6), "p99_s": self.p99_s}


def measured(series: Sequence[Series]) -> Measured:
    """Add up what services did, tick by tick."""
    requests = failed = 0
    slow = []
    for one in series:
        for count, bad, p99_s in zip(one.requests, one.failed, one.p99_s, strict=True):
            requests, failed = requests + (count or 0), failed + (bad or 0)
            if p99_s is not None and (count or 0) >= TICK_REQUESTS:
                slow.append(p99_s)
    return Measured(requests, failed, sorted(slow)[len(slow) // 2] if len(slow) >= LEAST_TICKS else None)


def verdict(before: Measured, after: Measured, limits: TrialLimits) -> str:
    """Say why the configuration of `after` is to go; empty while nothing is known against it."""
    if before.requests < LEAST_REQUESTS or after.requests < LEAST_REQUESTS:
        return ""
    if limits.error_ratio is not None and after.error_ratio > limits.error_ratio and _is_beyond_chance(before, after):
        return (
            f"{after.error_ratio:.1%} of {after.requests} requests have failed, against {before.error_ratio:.1%} before"
            f" (at most {limits.error_ratio:.1%} are allowed)"
        )
    if limits.p99_factor is not None and before.p99_s and after.p99_s and after.p99_s > limits.p99_factor * before.p99_s:
        return (
            f"the 99th percentile is {after.p99_s * 1000:.0f} ms, against {before.p99_s * 1000:.0f} ms before"
            f" (at most {limits.p99_factor:g} times as much is allowed)"
        )
    return ""


def _is_beyond_chance(before: Measured, after: Measured) -> bool:
    """Whether the share that failed has grown by more than chance makes it (two proportions, pooled)."""
    pooled = (min(before.failed, before.requests) + min(after.failed, after.requests)) / (before.requests + after.requests)
    spread = sqrt(pooled * (1 - pooled) * (1 / before.requests + 1 / after.requests))
    return after.error_ratio - before.error_ratio > SIGMA * spread
