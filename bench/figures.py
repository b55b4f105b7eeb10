"""What the load saw, in numbers: pure functions of the lines that go/poisson.go writes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil
from typing import NamedTuple


class Request(NamedTuple):
    """start_s: intended, from the beginning of the load. late_ms: how much later it really was. latency_ms: from start_s on."""

    start_s: float
    late_ms: float
    latency_ms: float
    status: str
    backend: str


@dataclass(frozen=True, slots=True)
class Figures:
    """One edge in one scenario, once. Latencies are of all requests, failed ones too.

    errors: what the clients got instead of 200, and how often. arrived: requests that came to each backend, retries and
    hedges among them. sent_ratio: those, for each request of a client. cpu_ratio: of one core, used by the edge. noise_ms:
    p99 of how late the load itself was.
    """

    requests: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    p999_ms: float
    worst_ms: float
    noise_ms: float
    errors: dict[str, int]
    arrived: list[int]
    sent_ratio: float
    cpu_ratio: float

    @property
    def failed(self) -> int:
        return sum(self.errors.values())


def parse(lines: Iterable[str]) -> list[Request]:
    """Read the load's lines, in the order of the intended starts."""
    found = []
    for line in lines:
        start_us, late_us, latency_us, status, *backend = line.split()
        found.append(
            Request(int(start_us) / 1e6, int(late_us) / 1e3, int(latency_us) / 1e3, status, backend[0] if backend else "")
        )
    return sorted(found)


def quantile(ordered: Sequence[float], part: float) -> float:
    """The smallest value that at least `part` of them do not exceed (nearest rank)."""
    return ordered[max(ceil(part * len(ordered)), 1) - 1]


def figures(requests: Sequence[Request], warmup_s: float, arrived: list[int], cpu_ratio: float) -> Figures:
    """Those whose intended start lies after the warm-up; there is at least one."""
    counted = [request for request in requests if request.start_s >= warmup_s]
    ordered = sorted(request.latency_ms for request in counted)
    return Figures(
        requests=len(counted),
        p50_ms=quantile(ordered, 0.5),
        p90_ms=quantile(ordered, 0.9),
        p99_ms=quantile(ordered, 0.99),
        p999_ms=quantile(ordered, 0.999),
        worst_ms=ordered[-1],
        noise_ms=quantile(sorted(request.late_ms for request in counted), 0.99),
        errors=dict(Counter(request.status for request in counted if request.status != "200")),
        arrived=arrived,
        sent_ratio=sum(arrived) / len(counted),
        cpu_ratio=cpu_ratio,
    )
