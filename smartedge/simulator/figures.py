"""What a run comes to: percentiles, errors, shares, and how the slowest requests fared over time."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

WINDOWS = 60
"""Points of a line over time."""

ERROR = 500
"""Statuses from here on are errors: the client asked for nothing wrong."""


class RunRecord:
    """What became of the requests of one run, in the order in which they ended; written by Forwarding, read by `figures`.

    at, took_s: when each came, in seconds of the scenario, and the time until its client had the answer.
    status: of the answer. backend: number of the one it came from, -1 when the edge answered itself. tries: how often each
    backend was asked. open_sum, open_most: what all machines had open at each look, and what the busiest one had. crossed: tries
    that went a longer way than one within a zone.
    """

    def __init__(self, backends: list[str]) -> None:
        self.backends = backends
        self.at = array("d")
        self.took_s = array("d")
        self.status = array("H")
        self.backend = array("h")
        self.tries = [0] * len(backends)
        self.open_sum = array("L")
        self.open_most = array("L")
        self.retries = 0
        self.hedges = 0
        self.crossed = 0
        self.events = 0


@dataclass(frozen=True, slots=True)
class Figures:
    """One strategy's run in numbers; times are seconds as the client saw them, failed requests among them.

    tries: how often each backend was asked, by id. over_time: the 99th percentile of the requests that came in
    each of WINDOWS equal parts of the time, None where none came. open_mean: what a backend had open on average.
    busiest_mean, busiest_p99: the same for the one that had most at each moment. crossed_ratio: share of the tries
    that went to another zone.
    """

    strategy: str
    requests: int
    errors: int
    statuses: dict[int, int]
    p50_s: float
    p90_s: float
    p99_s: float
    p999_s: float
    max_s: float
    retries: int
    hedges: int
    tries: dict[str, int]
    over_time: tuple[float | None, ...]
    open_mean: float
    busiest_mean: float
    busiest_p99: float
    crossed_ratio: float = 0.0

    @property
    def shares(self) -> dict[str, float]:
        """The part of all tries that each backend had."""
        total = sum(self.tries.values()) or 1
        return {backend: tries / total for backend, tries in self.tries.items()}


def figures(strategy: str, outcome: RunRecord, from_s: float, to_s: float) -> Figures:
    """Work a run's numbers out; its requests came between `from_s` and `to_s`."""
    ranked = sorted(outcome.took_s)
    statuses = Counter(outcome.status)
    return Figures(
        strategy=strategy,
        requests=len(ranked),
        errors=sum(count for status, count in statuses.items() if status >= ERROR),
        statuses=dict(sorted(statuses.items())),
        p50_s=percentile(ranked, 50),
        p90_s=percentile(ranked, 90),
        p99_s=percentile(ranked, 99),
        p999_s=percentile(ranked, 99.9),
        max_s=percentile(ranked, 100),
        retries=outcome.retries,
        hedges=outcome.hedges,
        tries=dict(zip(outcome.backends, outcome.tries, strict=True)),
        over_time=_over_time(outcome, from_s, to_s),
        open_mean=sum(outcome.open_sum) / (len(outcome.open_sum) or 1) / len(outcome.backends),
        busiest_mean=sum(outcome.open_most) / (len(outcome.open_most) or 1),
        busiest_p99=percentile(sorted(outcome.open_most), 99),
        crossed_ratio=outcome.crossed / (sum(outcome.tries) or 1),
    )


def percentile(ranked: Sequence[float], percent: float) -> float:
    """Give the nearest rank: the least value that at least this many percent do not exceed; 0.0 of none."""
    if not ranked:
        return 0.0
    return ranked[max(ceil(len(ranked) * percent / 100), 1) - 1]


def _over_time(outcome: RunRecord, from_s: float, to_s: float) -> tuple[float | None, ...]:
    windows: list[list[float]] = [[] for _ in range(WINDOWS)]
    per_s = WINDOWS / (to_s - from_s)
    for at, took_s in zip(outcome.at, outcome.took_s, strict=True):
        windows[min(int((at - from_s) * per_s), WINDOWS - 1)].append(took_s)
    return tuple(percentile(sorted(window), 99) if window else None for window in windows)
