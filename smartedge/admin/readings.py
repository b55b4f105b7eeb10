"""What the metrics are made of: the whole edge as it is read at the moment of a scrape, and the values of a metric.

Labels are text here, as they stand between the braces: each of a thousand backends has 70 samples; its labels are written once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Final, NamedTuple

from smartedge.balancer.breaker import BreakerState
from smartedge.balancer.cells import CODE_CELLS, CODE_LABELS
from smartedge.balancer.spec import State
from smartedge.http.certificates import Certificate

NONE: Final = "none"
"""The label of what no backend, or no service, is meant by; neither may be called so."""

Cells = Sequence[float]
"""The cells of a row, added up over all workers (`Learned.totals`)."""


Codes = Sequence[tuple[str, float]]
"""Labels of codes, `code="200"`, and how many answers had them; those that there were."""

_CODES: Final = [f'code="{label}"' for label in CODE_LABELS]


def codes_of(cells: Cells) -> Codes:
    """Give the answers that a row counts."""
    counts = cells[CODE_CELLS]
    return list(zip(compress(_CODES, counts), filter(None, counts), strict=True))


def labels_text(names: Sequence[str], values: Sequence[str]) -> str:
    """Write labels as they stand between the braces of a sample, in the order of their names, and escaped."""
    return ",".join(sorted([f'{name}="{_escaped(value)}"' for name, value in zip(names, values, strict=True)]))


class Labels(NamedTuple):
    """What tells a backend's series from those of others, apart: a third label may stand in between."""

    backend: str
    service: str

    def __str__(self) -> str:
        return f"{self.backend},{self.service}"

    def with_label(self, label: str) -> str:
        """Give them with a third label, where it belongs by its name."""
        return f"{self.backend},{label},{self.service}" if label < "service" else f"{self.backend},{self.service},{label}"


def backend_labels(service: str, backend: str) -> Labels:
    """Write what tells a backend's series from those of others."""
    return Labels(f'backend="{_escaped(backend)}"', f'service="{_escaped(service)}"')


def _escaped(text: str) -> str:
    if "\0" in text:
        text = text.replace("\0", "\ufffd")  # which stands for labels in templates
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


class BackendReading(NamedTuple):
    """One backend at the moment of the scrape. labels: see `backend_labels`. last_probe_at: Unix time, None before the first
    probe has ended. codes: the answers that its cells count (`codes_of`), looked for here, once: a row has 500."""

    labels: Labels
    service: str
    weight: float
    ewma_s: float
    healthy: bool
    state: State
    breaker: BreakerState
    last_probe_at: float | None
    cells: Cells
    codes: Codes
    max_in_flight: int | None = None
    zone: str | None = None
    crosses_zones: bool = False


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
    """One live worker at the moment of the scrape. started_at: Unix time. loop_lag_s: see `workers.loop_lag`.

    memory_bytes, cpu_s: None where the system does not say.
    """

    slot: int
    leads: bool
    generation: int
    started_at: float
    loop_lag_s: float
    memory_bytes: int | None = None
    cpu_s: float | None = None


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

    def own_rows(self) -> Iterator[tuple[Labels, Cells]]:
        """The rows of what no backend answered, with their labels: of each service, and of none."""
        yield from ((backend_labels(service.name, NONE), service.cells) for service in self.services)
        yield backend_labels(NONE, NONE), self.edge


class Buckets(NamedTuple):
    """A histogram's value. bounds: without infinity. cumulative: how many are within each bound, and in all. total: their sum."""

    bounds: Sequence[float]
    cumulative: Sequence[float]
    total: float


class Summed(NamedTuple):
    """A summary's value without quantiles: how many there were, and their sum."""

    number: float
    total: float


class Column(NamedTuple):
    """One value of every backend, in their order; label: stands with theirs. They are all whole numbers, or none is."""

    values: Sequence[float]
    label: str = ""


Value = float | Buckets | Summed
Sample = Column | tuple[str | Labels, Value]
Samples = Iterable[Sample]
"""Columns; of each series besides its labels, "" for none, and its value. Histograms are of backends."""
