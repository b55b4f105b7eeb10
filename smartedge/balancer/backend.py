"""A backend: what the operator wrote of it, frozen, and what we learned of it, which outlives a reload."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol

from smartedge.balancer.breaker import Breaker, BreakerPolicy
from smartedge.balancer.cells import (
    CODE_CELLS,
    CODE_LABELS,
    DURATION_BOUNDS_S,
    DURATION_CELLS,
    LATENCY_BOUNDS_S,
    LATENCY_CELLS,
    LAYOUT,
    REAL_CELLS,
    ROW_CELLS,
    Cell,
    code_cell,
    duration_cell,
    latency_cell,
    quantile,
)
from smartedge.balancer.ewma import PeakEwma
from smartedge.balancer.health import Health, HealthPolicy

__all__ = [
    "CODE_CELLS",
    "CODE_LABELS",
    "DURATION_BOUNDS_S",
    "DURATION_CELLS",
    "LATENCY_BOUNDS_S",
    "LATENCY_CELLS",
    "LAYOUT",
    "REAL_CELLS",
    "ROW_CELLS",
    "Backend",
    "BackendSpec",
    "Cell",
    "Check",
    "Learned",
    "TlsSpec",
    "WhyNot",
    "code_cell",
    "duration_cell",
    "latency_cell",
    "quantile",
]

WhyNot = Literal["draining", "unhealthy", "unprobed", "breaker_open", "full"]

# Plain integers: reading a member of an enum costs more than the addition it is for.
IN_FLIGHT: Final = int(Cell.IN_FLIGHT)
TUNNELS: Final = int(Cell.TUNNELS)
EWMA: Final = int(Cell.EWMA)
BYTES_IN: Final = int(Cell.BYTES_IN)
BYTES_OUT: Final = int(Cell.BYTES_OUT)
DURATION_SUM: Final = int(Cell.DURATION_SUM)


@dataclass(frozen=True, slots=True)
class TlsSpec:
    """How we speak TLS to a backend; the files are PEM."""

    verify: bool = True
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    server_name: str | None = None


@dataclass(frozen=True, slots=True)
class BackendSpec:
    """One backend as the operator wrote it; weight is 1..1000."""

    id: str
    url: str
    weight: int = 1
    health: HealthPolicy = field(default_factory=HealthPolicy)
    breaker: BreakerPolicy = field(default_factory=BreakerPolicy)
    max_in_flight: int | None = None
    preserve_host: bool = True
    tls: TlsSpec | None = None

    @property
    def key(self) -> str:
        """Id and URL in one: what we learned belongs to both together. A URL has no space in it."""
        return f"{self.id} {self.url}"


class Check(Protocol):
    """What one probe found: `status` is None without an HTTP answer, `detail` is one line for people."""

    @property
    def ok(self) -> bool: ...  # noqa: D102
    @property
    def status(self) -> int | None: ...  # noqa: D102
    @property
    def detail(self) -> str: ...  # noqa: D102
    @property
    def took_s(self) -> float: ...  # noqa: D102


class Learned:
    """What we learned of one backend, or, for the errors that the edge makes itself, of the edge.

    cells, reals: our own row (see `cells`), the only one we write. rows: this backend's row in every worker's
    slot, ours too. waiting: the leases that have had no answer yet, oldest first, and since when. last_check,
    last_check_at: what the latest probe found, and when; written by the health loop.
    """

    __slots__ = (
        "breaker",
        "cells",
        "ewma",
        "health",
        "last_check",
        "last_check_at",
        "reals",
        "rows",
        "waiting",
    )

    def __init__(self, health: HealthPolicy | None = None, breaker: BreakerPolicy | None = None) -> None:
        self.health = Health(health or HealthPolicy())
        self.breaker = Breaker(breaker or BreakerPolicy())
        self.ewma = PeakEwma()
        row = memoryview(bytearray(ROW_CELLS * 8))
        self.cells: memoryview[int] = row.cast("q")
        self.reals: memoryview[float] = row.cast("d")
        self.rows: tuple[memoryview[int], ...] = (self.cells,)
        self.waiting: dict[object, float] = {}
        self.last_check: Check | None = None
        self.last_check_at: float | None = None

    def follow(self, spec: BackendSpec) -> None:
        """Go on with the policies of another configuration; what was learned stays."""
        self.health.policy = spec.health
        self.breaker.policy = spec.breaker

    def attach(self, ints: memoryview[int], reals: memoryview[Any], rows: tuple[memoryview[int], ...]) -> None:
        """Go on counting in this row of the board, moving there what was counted so far.

        The row goes on from what an earlier worker of the slot counted, but for its in-flight: those leases
        (and tunnels) died with it.
        """
        counted = self.cells[:ROW_CELLS].tolist()
        summed = self.reals[:ROW_CELLS].tolist()
        for index in range(ROW_CELLS):  # first, for it may be the same row
            self.cells[index] = 0
        for index, count in enumerate(counted):
            if index in REAL_CELLS:
                reals[index] += summed[index]
            else:
                ints[index] += count
        ints[IN_FLIGHT], ints[TUNNELS] = counted[IN_FLIGHT], counted[TUNNELS]
        reals[EWMA] = summed[EWMA]
        self.cells, self.reals, self.rows = ints, reals, rows

    def add(self, cell: int, amount: int = 1) -> None:
        """Add to one of our own counters."""
        self.cells[cell] += amount

    def count(self, code: int, duration_s: float, bytes_in: int, bytes_out: int) -> None:
        """Count a client's finished request, with the bytes of its body and of the answer's."""
        cells = self.cells
        cells[code_cell(code)] += 1
        cells[duration_cell(duration_s)] += 1
        cells[BYTES_IN] += bytes_in
        cells[BYTES_OUT] += bytes_out
        self.reals[DURATION_SUM] += duration_s

    def in_flight(self) -> int:
        """Return the leases open now, in all workers."""
        total = 0
        for row in self.rows:
            total += row[IN_FLIGHT]
        return total

    def totals(self) -> list[float]:
        """Return each cell added up over all workers; EWMA is the mean of the workers that have one."""
        totals: list[float] = [sum(cells) for cells in zip(*self.rows, strict=True)]
        reals = [row.cast("B").cast("d") for row in self.rows]
        for index in REAL_CELLS:
            totals[index] = sum(row[index] for row in reals)
        totals[EWMA] /= sum(row[EWMA] > 0.0 for row in reals) or 1
        return totals


class Backend:
    """A member of the pool. Two with the same key, before and after a reload, share what was learned.

    transport: how requests get there; the app puts it in and the balancer never looks at it. draining: the
    operator's will.
    """

    __slots__ = ("draining", "id", "key", "learned", "spec", "transport", "url", "weight")

    def __init__(self, spec: BackendSpec, learned: Learned, transport: Any = None) -> None:
        self.spec = spec
        self.learned = learned
        self.transport = transport
        self.draining = False
        self.id = spec.id
        self.url = spec.url
        self.weight = spec.weight
        self.key = spec.key

    def __repr__(self) -> str:
        return f"<Backend {self.key}>"

    def why_not(self, now: float) -> WhyNot | None:
        """Return the first reason why no lease may be taken, or None; asking changes nothing."""
        if self.draining:
            return "draining"
        state = self.learned.health.state
        if state != "healthy":
            return "unhealthy" if state == "unhealthy" else "unprobed"
        if not self.learned.breaker.admits(now):
            return "breaker_open"
        return "full" if self.full() else None

    def available(self, now: float) -> bool:
        """Whether a lease may be taken now."""
        return self.why_not(now) is None

    def full(self) -> bool:
        """Whether as many leases are open, in all workers, as the operator allows."""
        limit = self.spec.max_in_flight
        return limit is not None and self.in_flight() >= limit

    def in_flight(self) -> int:
        """Return the leases open now, in all workers."""
        return self.learned.in_flight()
