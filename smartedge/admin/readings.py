"""What the metrics are made of: the whole edge as it is read at the moment of a scrape, and the values of a metric."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from smartedge.balancer.breaker import BreakerState
from smartedge.balancer.spec import State
from smartedge.http.certificates import Certificate

NONE: Final = "none"
"""The label of what no backend, or no service, is meant by; neither may be called so."""

Cells = Sequence[float]
"""The cells of a row, added up over all workers (`Learned.totals`)."""


@dataclass(frozen=True, slots=True)
class BackendReading:
    """One backend at the moment of the scrape. last_probe_at: Unix time, None before the first probe has ended."""

    service: str
    id: str
    weight: float
    ewma_s: float
    healthy: bool
    state: State
    breaker: BreakerState
    last_probe_at: float | None
    cells: Cells
    max_in_flight: int | None = None
    zone: str | None = None
    crosses_zones: bool = False

    @property
    def labels(self) -> tuple[str, str]:
        """What tells its series from those of others."""
        return self.service, self.id


@dataclass(frozen=True, slots=True)
class ServiceReading:
    """One service as a whole at the moment of the scrape. cells: of its own row, beside those of its backends."""

    name: str
    cells: Cells
    drowning: bool = False


@dataclass(frozen=True, slots=True)
class SourceReading:
    """One source of discovery at the moment of the scrape. age_s: since its last good answer, infinity if there was none."""

    service: str
    source: str
    age_s: float
    errors: int
    backends: int


@dataclass(frozen=True, slots=True)
class WorkerReading:
    """One live worker at the moment of the scrape. started_at: Unix time. loop_lag_s: see `workers.loop_lag`."""

    slot: int
    leads: bool
    generation: int
    started_at: float
    loop_lag_s: float


@dataclass(frozen=True, slots=True)
class ClusterReading:
    """What this node knows of its cluster at the moment of the scrape. age_s: 0.0 while etcd is heard of, inf for never."""

    is_live: bool
    age_s: float
    generation: int
    refuses: bool
    nodes: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The whole edge at the moment of the scrape. edge: the cells of the edge's own row. cluster: None outside of one."""

    backends: Sequence[BackendReading]
    services: Sequence[ServiceReading]
    edge: Cells
    generation: int
    workers: Sequence[WorkerReading]
    version: str
    certificates: Sequence[Certificate] = ()
    cluster: ClusterReading | None = None
    sources: Sequence[SourceReading] = ()

    def rows(self) -> Iterator[tuple[tuple[str, str], Cells]]:
        """Every row with its labels: the backends', then what no backend answered, of each service and of none."""
        yield from ((backend.labels, backend.cells) for backend in self.backends)
        yield from (((service.name, NONE), service.cells) for service in self.services)
        yield (NONE, NONE), self.edge


class Buckets(NamedTuple):
    """A histogram's value. bounds: without infinity. cumulative: how many are within each bound, and in all. total: their sum."""

    bounds: Sequence[float]
    cumulative: Sequence[float]
    total: float


class Summed(NamedTuple):
    """A summary's value without quantiles: how many there were, and their sum."""

    number: float
    total: float


Value = float | Buckets | Summed
Samples = Iterable[tuple[Sequence[str], Value]]
