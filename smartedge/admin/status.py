"""The status document: what the edge knows of itself, in plain data.

Numbers are those of the whole edge, added up over all workers at the moment they are asked; asking changes
nothing.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from smartedge.admin.metrics import BackendReading, Snapshot
from smartedge.balancer.backend import Backend
from smartedge.balancer.cells import (
    ABANDONED,
    BYTES_IN,
    BYTES_OUT,
    CODE_CELLS,
    CONNECTS,
    FAILED,
    HEDGES,
    IN_FLIGHT,
    OK,
    OUTRUN,
    RETRIES,
    TUNNELS,
    quantile,
)
from smartedge.balancer.drowning import drowning
from smartedge.balancer.learned import Learned
from smartedge.edge.edge import Edge
from smartedge.http.certificates import Certificate
from smartedge.observe.recent import Counted

Document = dict[str, Any]
"""What becomes JSON."""


def snapshot(edge: Edge) -> Snapshot:
    """Read everything that the metrics show."""
    edge.meet_workers()
    return Snapshot(
        backends=[_reading(edge, backend) for backend in edge.backends()],
        edge=edge.edge_row.totals(),
        generation=edge.generation,
        workers=len(edge.workers()),
        started_at=time.time() - (edge.now() - edge.started_at),
        version=edge.version,
        drowning=drowning(edge.edge_row) is not None,
        certificates=edge.tls.certificates,
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
    zone_of = {backend.id: zones.get(backend.spec.entry[0]) for backend in edge.pool.backends}
    backends = edge.pool.backends
    rows = [backend.learned.totals() for backend in backends]
    own = edge.edge_row.totals()
    requests = [_requests(row) for row in rows]
    lately = [edge.recent.gained(backend.key, row) for backend, row in zip(backends, rows, strict=True)]
    since = edge.recent.since()
    window_s = now - (edge.started_at if since is None else since)
    answered = sum(one.requests for one in lately)
    return {
        "strategy": config.strategy,
        "generation": edge.generation,
        "etag": config.etag,
        "version": edge.version,
        "draining": edge.draining,
        "drowning": _drowning(edge.edge_row, now),
        "uptime_s": round(now - edge.started_at, 3),
        "workers": [dict(worker) for worker in edge.workers()],
        "certificates": [_certificate(one) for one in edge.tls.certificates],
        "totals": {
            "requests": sum(requests) + _requests(own),
            "answered_by_edge": _requests(own),
            "in_flight": sum(int(row[IN_FLIGHT]) for row in rows),
            "retries": sum(int(row[RETRIES]) for row in rows),
            "received_bytes": sum(int(row[BYTES_IN]) for row in (*rows, own)),
            "sent_bytes": sum(int(row[BYTES_OUT]) for row in (*rows, own)),
        },
        "recent": {
            "window_s": round(window_s, 3),
            "requests_per_s": _rate(answered, window_s),
            "failed_per_s": _rate(sum(one.failed for one in lately), window_s),
        },
        "backends": [
            _backend(edge, backend, row, now, zone=zone_of[backend.id], share=_ratio(count, sum(requests)), recent=recent)
            | {"recent": _recent(recent, window_s, answered)}
            for backend, row, count, recent in zip(backends, rows, requests, lately, strict=True)
        ],
    }


def _certificate(one: Certificate) -> Document:
    """One certificate that clients are shown; its times are Unix time."""
    return {
        "names": list(one.names),
        "key": one.kind,
        "file": one.files.cert_file,
        "begins_at": one.begins_at,
        "expires_at": one.expires_at,
    }


def _drowning(edge_row: Learned, now: float) -> Document | None:
    """What the pool is in when it takes in more than it can do; None while all is well."""
    found = drowning(edge_row)
    if found is None:
        return None
    return {"for_s": round(now - found.since, 3), "usual_s": round(found.usual_s, 6), "now_s": round(found.now_s, 6)}


def _recent(counts: Counted, window_s: float, answered: float) -> Document:
    """What a backend did in the last minute; answered: the requests of all backends in it."""
    return {
        "requests_per_s": _rate(counts.requests, window_s),
        "failed_per_s": _rate(counts.failed, window_s),
        "share_ratio": _ratio(counts.requests, answered),
    }


def _backend(
    edge: Edge, backend: Backend, row: Sequence[float], now: float, *, zone: str | None, share: float, recent: Counted
) -> Document:
    why_not = backend.why_not(now)
    return {
        "id": backend.id,
        "url": backend.url,
        "addresses": list(backend.spec.addresses),
        "weight": backend.full_weight,
        "effective_weight": round(backend.weight_at(now), 3),
        "state": backend.state,
        "will": backend.state,  # what it was called before; goes with the next release
        "zone": zone,
        "labels": dict(backend.labels),
        "health": backend.learned.health.state,
        "breaker": backend.learned.breaker.state,
        "available": why_not is None,
        "why_not": why_not,
        "ejected_s": round(backend.learned.breaker.next_change_at(now) - now, 3) if why_not == "breaker_open" else None,
        "in_flight": int(row[IN_FLIGHT]),
        "max_in_flight": backend.cap(),
        "tunnels": int(row[TUNNELS]),
        "requests": _requests(row),
        "share_ratio": share,
        "ok": int(row[OK]),
        "failed": int(row[FAILED]),
        "abandoned": int(row[ABANDONED]),
        "outrun": int(row[OUTRUN]),
        "retries": int(row[RETRIES]),
        "hedges": int(row[HEDGES]),
        "connections": int(row[CONNECTS]),
        "received_bytes": int(row[BYTES_IN]),
        "sent_bytes": int(row[BYTES_OUT]),
        "ewma_s": round(backend.learned.ewma.mean_s, 6),
        "p50_s": _rounded(quantile(0.5, recent.latencies)),
        "p99_s": _rounded(quantile(0.99, recent.latencies)),
        "last_check": _last_check(edge, backend),
    }


def _last_check(edge: Edge, backend: Backend) -> Document | None:
    result = backend.learned.last_probe
    if result is None:
        return None
    return {
        "asked": backend.spec.health.question,
        "at": round(edge.unix_time(backend.learned.last_probe_at), 3),
        "ok": result.ok,
        "status": result.status,
        "detail": result.detail,
        "took_s": round(result.took_s, 6),
    }


def _reading(edge: Edge, backend: Backend) -> BackendReading:
    at = backend.learned.last_probe_at
    return BackendReading(
        service=backend.spec.service,
        id=backend.id,
        weight=backend.full_weight,
        ewma_s=backend.learned.ewma.mean_s,
        healthy=backend.learned.health.state == "healthy",
        state=backend.state,
        breaker=backend.learned.breaker.state,
        last_probe_at=edge.unix_time(at) if at else None,
        cells=backend.learned.totals(),
        max_in_flight=backend.cap(),
    )


def _requests(row: Sequence[float]) -> int:
    """Return how many client requests were answered with what this row's backend sent."""
    return int(sum(row[CODE_CELLS]))


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def _rate(count: float, window_s: float) -> float:
    return round(count / window_s, 3) if window_s > 0 else 0.0


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 6)
