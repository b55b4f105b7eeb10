"""The status document: what the edge knows of itself, in plain data, and what it is asked for that.

Numbers are those of the whole edge, added up over all workers at the moment they are asked; asking changes
nothing.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

from smartedge.balancer.backend import Backend, Learned
from smartedge.balancer.cells import CODE_CELLS, LATENCY_CELLS, Cell, quantile
from smartedge.balancer.pool import Pool
from smartedge.config import Config
from smartedge.control.metrics import BackendReading, Snapshot

Document = dict[str, Any]
"""What becomes JSON."""

TICK_S = 10.0
WINDOW_S = 60.0


@dataclass(frozen=True, slots=True)
class LastCheck:
    """The latest probe of a backend. at: Unix time of its end. status: None without an HTTP answer. detail: one line."""

    at: float
    ok: bool
    status: int | None
    detail: str
    took_s: float


class ReloadResult(Protocol):
    """What a reload has done."""

    @property
    def status(self) -> int:
        """200, or 202 when a worker has not confirmed in time."""
        ...

    @property
    def document(self) -> Mapping[str, Any]:
        """The answer: generation, changes, workers."""
        ...


class Edge(Protocol):
    """What the admin pages need of the edge; `app.py` has it. Asked anew for every request: a reload may replace parts."""

    @property
    def pool(self) -> Pool:
        """The backends, and whether any can serve."""
        ...

    @property
    def config(self) -> Config:
        """The configuration in use."""
        ...

    @property
    def generation(self) -> int:
        """The number of the configuration in use."""
        ...

    @property
    def draining(self) -> bool:
        """Whether the edge takes no new requests."""
        ...

    @property
    def token(self) -> str | None:
        """The secret of the admin pages, if there is one."""
        ...

    @property
    def version(self) -> str:
        """SmartEdge's own."""
        ...

    @property
    def own(self) -> Learned:
        """The edge's own row: the answers that no backend gave."""
        ...

    @property
    def recent(self) -> Recent:
        """The latencies of the last minute."""
        ...

    @property
    def started_at(self) -> float:
        """When serving began, on the clock of `now`."""
        ...

    def now(self) -> float:
        """Return the time in seconds of a monotonic clock."""
        ...

    def meet_workers(self) -> None:
        """Notice who has come, so that what is added up is the whole edge's."""
        ...

    def workers(self) -> Sequence[Mapping[str, Any]]:
        """Return what is known of every live worker, at least `slot` and `pid`."""
        ...

    def last_check(self, backend: Backend) -> LastCheck | None:
        """Return the latest probe of a backend."""
        ...

    def request_id(self, environ: Mapping[str, Any]) -> str:
        """Return the id of a request, the same one that the log has."""
        ...

    def reload(self, body: bytes | None, if_match: str | None) -> ReloadResult:
        """Apply a configuration, the file's if there is no body.

        if_match: the value of an If-Match field. Raises ConfigError or an EdgeError (412 for If-Match), and has changed nothing.
        """
        ...


class Recent:
    """Latencies of about the last minute: what the buckets have gained since they were last written down that long ago."""

    def __init__(self, tick_s: float = TICK_S, window_s: float = WINDOW_S) -> None:
        self._tick_s = tick_s
        self._window_s = window_s
        self._kept: deque[tuple[float, dict[str, list[float]]]] = deque()

    def tick(self, now: float, backends: Sequence[Backend]) -> None:
        """Write the buckets down, if it is time; call it when serving begins, and then as often as you like."""
        if self._kept and now - self._kept[-1][0] < self._tick_s:
            return
        self._kept.append((now, {backend.key: backend.learned.totals()[LATENCY_CELLS] for backend in backends}))
        while len(self._kept) > 1 and now - self._kept[1][0] >= self._window_s:
            self._kept.popleft()

    def gained(self, key: str, buckets: Sequence[float]) -> Sequence[float]:
        """Return how much was counted in each bucket lately; all of it when nothing was written down yet."""
        before = self._kept[0][1].get(key) if self._kept else None
        if before is None:
            return buckets
        gained = [count - old for count, old in zip(buckets, before, strict=True)]
        return buckets if min(gained) < 0 else gained  # less than before: the row belongs to another life of the backend


def snapshot(edge: Edge) -> Snapshot:
    """Read everything that the metrics show."""
    edge.meet_workers()
    return Snapshot(
        backends=[_reading(edge, backend) for backend in edge.pool.backends],
        edge=edge.own.totals(),
        generation=edge.generation,
        workers=len(edge.workers()),
        started_at=time.time() - (edge.now() - edge.started_at),
        version=edge.version,
    )


def health_document(edge: Edge) -> tuple[int, Document]:
    """Return the status code and the answer for those who ask whether this edge can be sent requests."""
    backends = edge.pool.backends
    state = "ok" if edge.pool.candidates(edge.now()) else "no_backend"
    if edge.draining:
        state = "draining"
    up = sum(backend.learned.health.state == "healthy" for backend in backends)
    return 200 if state == "ok" else 503, {"status": state, "up": up, "total": len(backends)}


def status_document(edge: Edge) -> Document:
    """Return the whole status: the edge, its workers, and every backend with its share of the requests."""
    edge.meet_workers()
    now, config = edge.now(), edge.config
    edge.pool.candidates(now)  # brings the effective weights up to date
    zones = {backend.id: backend.zone for backend in config.backends}
    backends = edge.pool.backends
    rows = [backend.learned.totals() for backend in backends]
    own = edge.own.totals()
    requests = [_requests(row) for row in rows]
    return {
        "strategy": config.strategy,
        "generation": edge.generation,
        "etag": config.etag,
        "version": edge.version,
        "draining": edge.draining,
        "uptime_s": round(now - edge.started_at, 3),
        "workers": [dict(worker) for worker in edge.workers()],
        "totals": {
            "requests": sum(requests) + _requests(own),
            "answered_by_edge": _requests(own),
            "in_flight": sum(int(row[Cell.IN_FLIGHT]) for row in rows),
            "retries": sum(int(row[Cell.RETRIES]) for row in rows),
            "received_bytes": sum(int(row[Cell.BYTES_IN]) for row in (*rows, own)),
            "sent_bytes": sum(int(row[Cell.BYTES_OUT]) for row in (*rows, own)),
        },
        "backends": [
            _backend(edge, backend, row, now, zone=zones.get(backend.id), share=_ratio(count, sum(requests)))
            for backend, row, count in zip(backends, rows, requests, strict=True)
        ],
    }


def _backend(edge: Edge, backend: Backend, row: Sequence[float], now: float, *, zone: str | None, share: float) -> Document:
    why_not = backend.why_not(now)
    recent = edge.recent.gained(backend.key, row[LATENCY_CELLS])
    check = edge.last_check(backend)
    return {
        "id": backend.id,
        "url": backend.url,
        "weight": backend.full_weight,
        "effective_weight": round(backend.weight_at(now), 3),
        "will": backend.will,
        "zone": zone,
        "labels": dict(backend.labels),
        "health": backend.learned.health.state,
        "breaker": backend.learned.breaker.state,
        "available": why_not is None,
        "why_not": why_not,
        "in_flight": int(row[Cell.IN_FLIGHT]),
        "max_in_flight": backend.cap(),
        "tunnels": int(row[Cell.TUNNELS]),
        "requests": _requests(row),
        "share_ratio": share,
        "ok": int(row[Cell.OK]),
        "failed": int(row[Cell.FAILED]),
        "abandoned": int(row[Cell.ABANDONED]),
        "retries": int(row[Cell.RETRIES]),
        "hedges": int(row[Cell.HEDGES]),
        "connections": int(row[Cell.CONNECTS]),
        "received_bytes": int(row[Cell.BYTES_IN]),
        "sent_bytes": int(row[Cell.BYTES_OUT]),
        "ewma_s": round(backend.learned.ewma.mean_s, 6),
        "p50_s": _rounded(quantile(0.5, recent)),
        "p99_s": _rounded(quantile(0.99, recent)),
        "last_check": None if check is None else asdict(replace(check, at=round(check.at, 3), took_s=round(check.took_s, 6))),
    }


def _reading(edge: Edge, backend: Backend) -> BackendReading:
    check = edge.last_check(backend)
    return BackendReading(
        id=backend.id,
        weight=backend.full_weight,
        ewma_s=backend.learned.ewma.mean_s,
        healthy=backend.learned.health.state == "healthy",
        will=backend.will,
        breaker=backend.learned.breaker.state,
        last_probe_at=None if check is None else check.at,
        cells=backend.learned.totals(),
        max_in_flight=backend.cap(),
    )


def _requests(row: Sequence[float]) -> int:
    """Return how many client requests were answered with what this row's backend sent."""
    return int(sum(row[CODE_CELLS]))


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 6)
