"""Outliers: which backends are much slower, or fail much more, than the others do.

A breaker looks at one backend alone and at its failures only. This compares: once in an interval, what each
backend did in it is set against what the others did (Envoy's outlier detection). Whoever stands out is to be
ejected, which is the breaker's doing: it comes back by a probe, and stays away for longer each time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from smartedge.balancer.backend import Backend
from smartedge.balancer.cells import EXCUSED, FAILED, LATENCY_CELLS, OK, quantile

MIN_OTHERS: Final = 2
"""With fewer to compare with, nobody can say which one is the outlier."""

NOTICEABLE_S: Final = 0.005
"""A latency that is larger by less than this is none to be ejected for, whatever the factor."""


@dataclass(frozen=True, slots=True)
class OutlierPolicy:
    """What makes a backend an outlier, as the operator wrote it; part of a `ServiceSetup`.

    latency_factor: its median latency is more than so many times that of the others (the median of their
    medians). failure_ratio: its share of failures is larger than that of the others (their mean) by more than
    this; what all fail alike at is left out (`blame`). None: not looked at. min_requests: in an interval, below
    which a backend is not judged and not compared with. max_ejected_ratio: of all backends. observe: say so, and
    do nothing.
    """

    latency_factor: float | None
    failure_ratio: float | None
    interval_s: float
    min_requests: int
    max_ejected_ratio: float
    observe: bool


@dataclass(frozen=True, slots=True)
class Outlier:
    """A backend that stands out, and how; found by the detector.

    value: its median latency in seconds, or its share of failures. others: theirs.
    """

    backend: Backend
    kind: Literal["latency", "failures"]
    value: float
    others: float

    def __str__(self) -> str:
        """One line for people."""
        if self.kind == "latency":
            return f"median latency {self.value * 1000:.1f} ms, that of the others {self.others * 1000:.1f} ms"
        return f"{self.value:.0%} of its requests failed, {self.others:.0%} of the others'"


class OutlierDetector:
    """Finds a pool's outliers by what all workers have counted since it last looked; owned by a `PoolWatch`."""

    def __init__(self) -> None:
        self._before: dict[str, list[float]] = {}
        self._looked_at: float | None = None

    def look(self, backends: Sequence[Backend], policy: OutlierPolicy, now: float) -> list[Outlier]:
        """Return the outliers of the interval that is over, the worst of each kind first; none while it is not."""
        if policy.latency_factor is None and policy.failure_ratio is None:
            self._looked_at = None
            return []
        if self._looked_at is not None and now - self._looked_at < policy.interval_s:
            return []
        first = self._looked_at is None
        self._looked_at = now
        before, self._before = self._before, {backend.key: backend.learned.totals() for backend in backends}
        if first:
            return []
        gained = {}
        for backend in backends:
            old, new = before.get(backend.key), self._before[backend.key]
            if old is not None and _requests(new) - _requests(old) >= policy.min_requests:
                gained[backend] = [after - earlier for after, earlier in zip(new, old, strict=True)]
        from statistics import mean, median  # late: a megabyte, for those who have outliers looked for

        found = []
        if policy.latency_factor is not None:
            medians = {backend: quantile(0.5, row[LATENCY_CELLS]) or 0.0 for backend, row in gained.items()}
            for backend, others in _others(medians):
                usual = median(others)
                if medians[backend] > policy.latency_factor * usual and medians[backend] - usual > NOTICEABLE_S:
                    found.append(Outlier(backend, "latency", medians[backend], usual))
        if policy.failure_ratio is not None:
            ratios = {backend: (row[FAILED] - row[EXCUSED]) / _requests(row) for backend, row in gained.items()}
            for backend, others in _others(ratios):
                if ratios[backend] > mean(others) + policy.failure_ratio:
                    found.append(Outlier(backend, "failures", ratios[backend], mean(others)))
        return sorted(found, key=lambda outlier: (outlier.kind, -outlier.value))


def _requests(row: Sequence[float]) -> float:
    return row[OK] + row[FAILED]


def _others(values: dict[Backend, float]) -> list[tuple[Backend, list[float]]]:
    """Return each backend with the values of the others; nothing if these are too few to compare with."""
    if len(values) <= MIN_OTHERS:
        return []
    return [(backend, [value for other, value in values.items() if other is not backend]) for backend in values]
