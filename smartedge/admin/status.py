"""The status document: what the edge knows of itself, in plain data.

Numbers are those of the whole edge, added up over all workers at the moment they are asked; asking changes
nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from smartedge.admin.locality import locality_document, place_document
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
    QUEUE_REFUSED,
    QUEUED,
    RATE_LIMITED,
    RETRIES,
    TUNNELS,
    quantile,
)
from smartedge.balancer.drowning import Drowning, drowning
from smartedge.balancer.pool import Pool
from smartedge.balancer.spec import DEFAULT_SERVICE
from smartedge.config.services import WrittenService
from smartedge.discovery.source_health import SourceHealth
from smartedge.edge.edge import Edge
from smartedge.http.certificates import Certificate
from smartedge.observe.recent import Counted
from smartedge.proxy.compiled import is_compiled
from smartedge.proxy.service import Service
from smartedge.workers.periodic import in_pieces

if TYPE_CHECKING:
    pass

Document = dict[str, Any]
"""What becomes JSON."""


def health_document(edge: Edge) -> tuple[int, Document]:
    """Return the status code and the answer for those who ask whether this edge can be sent requests.

    It can while some service has a backend that can serve: with several services the answer says it of each.
    """
    services = {name: _standing(edge, service.pool) for name, service in edge.services.items()}
    state = "ok" if any(one["status"] == "ok" for one in services.values()) else "no_backend"
    if edge.draining:
        state = "draining"
    counts = {key: sum(one[key] for one in services.values()) for key in ("up", "total")}
    document = {"status": state, **counts}
    return 200 if state == "ok" else 503, document if services.keys() == {DEFAULT_SERVICE} else document | {"services": services}


def _standing(edge: Edge, pool: Pool) -> Document:
    """Say whether a service has a backend that can serve, and how many its probes call healthy."""
    can_serve = bool(pool.candidates(edge.now()))  # this brings the effective weights up to date, too
    up = sum(backend.learned.health.state == "healthy" for backend in pool.backends)
    return {"status": "ok" if can_serve else "no_backend", "up": up, "total": len(pool.backends)}


class ServiceNumbers:
    """The numbers of one service, read once; made for each status, of a service and what the file says of it."""

    def __init__(self, edge: Edge, written: WrittenService, service: Service, discovery: Sequence[Document]) -> None:
        self.discovery = discovery
        self.written = written
        self.pool = service.pool
        self.backends = service.pool.backends
        self.rows = [backend.learned.totals() for backend in in_pieces(self.backends)]
        pairs = zip(self.backends, self.rows, strict=True)
        self.lately = [edge.recent.gained(backend.key, row) for backend, row in in_pieces(pairs)]


def status_document(edge: Edge) -> Document:
    """Return the whole status: the edge, its workers, and every service with its backends and their shares of its requests."""
    edge.meet_workers()
    # First, for reading takes a while: an ETag that is older than the document is refused in If-Match, a newer one would not be.
    etag, generation = edge.etag, edge.generation
    now, config = edge.now(), edge.config
    readings = read_services(edge)
    workers = edge.workers()
    services = {reading.written.name: service_document(edge, reading) for reading in readings}
    return {
        "strategy": config.strategy,
        "generation": generation,
        "etag": etag,
        "version": edge.version,
        "compiled": is_compiled(),
        "draining": edge.draining,
        "trial": edge.rollouts.trial_document(edge.rollouts.trial()),
        "drowning": _drowning(worst_drowning(edge), now),
        "uptime_s": uptime_s(workers),
        "workers": [dict(worker) for worker in workers],
        "cluster": None if edge.cluster is None else edge.cluster.document(),
        "certificates": [certificate_document(one) for one in edge.tls.certificates],
        "totals": _all_totals([one["totals"] for one in services.values()], edge.edge_row.totals()),
        "recent": _rates([one for reading in readings for one in reading.lately], window_s(edge)),
        "backends": services[DEFAULT_SERVICE]["backends"] if DEFAULT_SERVICE in services else [],
        "services": services,
    }


def uptime_s(workers: Iterable[Mapping[str, Any]]) -> float:
    """Return how long the oldest worker has been there: whichever answers, it is the same, and goes with the requests counted."""
    return max((float(worker["uptime_s"]) for worker in workers), default=0.0)


def read_services(edge: Edge, name: str | None = None) -> list[ServiceNumbers]:
    """Read the numbers of all services, or of the one of this name."""
    written = [one for one in edge.config.all_services() if one.name in edge.services and name in (None, one.name)]
    sources = source_documents(edge) if any(one.config.discover for one in written) else {}
    return [ServiceNumbers(edge, one, edge.services[one.name], sources.get(one.name, ())) for one in written]


def source_documents(edge: Edge) -> dict[str, list[Document]]:
    """Say how the sources of discovery are, by service."""
    found: dict[str, list[Document]] = {}
    now = edge.now()
    for health in edge.discovery.healths():
        found.setdefault(health.service, []).append(_source(health, now))
    return found


def _source(health: SourceHealth, now: float) -> Document:
    """Say how a source of discovery is."""
    return {
        "source": health.source,
        "state": health.state,
        "age_s": _rounded(health.age_s(now)),
        "errors": health.errors,
        "problem": health.problem,
        "backends": health.backends,
    }


def service_document(edge: Edge, reading: ServiceNumbers) -> Document:
    """Return the status of one service: what it does, and every backend with its share of the requests."""
    now, window = edge.now(), window_s(edge)
    config, rows = reading.written.config, reading.rows
    requests = [_requests(row) for row in in_pieces(rows)]
    whole = sum(requests)
    answered = sum(one.requests for one in reading.lately)
    own = reading.pool.row.totals()
    written = {backend.id for backend in config.written.backends}
    return {
        "strategy": config.strategy,
        **_standing(edge, reading.pool),
        "drowning": _drowning(drowning(reading.pool.row), now),
        "waiting": int(own[QUEUED]),
        "discovery": reading.discovery,
        "totals": _totals(rows, whole, own),
        "recent": _rates(reading.lately, window),
        "locality": locality_document(config, reading.pool, reading.lately, now, edge.config.zone),
        "backends": [
            _backend(edge, backend, row, now, place_document(reading.pool, backend), count, _ratio(count, whole), recent)
            | {"recent": _recent(recent, window, answered), "discovered": backend.spec.entry[0] not in written}
            for backend, row, count, recent in in_pieces(zip(reading.backends, rows, requests, reading.lately, strict=True))
        ],
    }


def window_s(edge: Edge) -> float:
    """Return how many seconds back `recent` counts from."""
    since = edge.recent.since()
    return edge.now() - (edge.started_at if since is None else since)


def _totals(rows: Sequence[Sequence[float]], requests: int, own: Sequence[float]) -> Document:
    """Add up what the backends of a service have counted. requests: which they have answered. own: the service's row."""
    in_flight = retries = received = sent = 0.0
    for row in in_pieces(rows):
        in_flight += row[IN_FLIGHT]
        retries += row[RETRIES]
        received += row[BYTES_IN]
        sent += row[BYTES_OUT]
    return {
        "requests": requests + _requests(own),
        "answered_by_edge": _requests(own),
        "in_flight": int(in_flight),
        "retries": int(retries),
        **_refusals(own),
        "received_bytes": int(received + own[BYTES_IN]),
        "sent_bytes": int(sent + own[BYTES_OUT]),
    }


def _all_totals(services: Sequence[Document], own: Sequence[float]) -> Document:
    """Add up the totals of all services. own: the edge's row."""
    by_edge = _requests(own)
    first = {
        "requests": by_edge,
        "answered_by_edge": by_edge,
        "in_flight": 0,
        "retries": 0,
        **_refusals(own),
        "received_bytes": int(own[BYTES_IN]),
        "sent_bytes": int(own[BYTES_OUT]),
    }
    return {name: count + sum(one[name] for one in services) for name, count in first.items()}


def _refusals(own: Sequence[float]) -> Document:
    """Say how many requests no backend has seen, by why; own: what the service, or the edge, has counted beside its backends."""
    return {"queue_refused": int(own[QUEUE_REFUSED]), "rate_limited": int(own[RATE_LIMITED])}


def _rates(lately: Sequence[Counted], window: float) -> Document:
    return {
        "window_s": round(window, 3),
        "requests_per_s": _rate(sum(one.requests for one in lately), window),
        "failed_per_s": _rate(sum(one.failed for one in lately), window),
    }


def certificate_document(one: Certificate) -> Document:
    """One certificate that clients are shown; its times are Unix time."""
    return {
        "names": list(one.names),
        "key": one.kind,
        "file": one.files.cert_file,
        "begins_at": one.begins_at,
        "expires_at": one.expires_at,
    }


def worst_drowning(edge: Edge) -> Drowning | None:
    """Find the service whose answers take the longest time of those that take in more than they can do."""
    found = filter(None, (drowning(service.pool.row) for service in edge.services.values()))
    return max(found, key=lambda one: one.now_s, default=None)


def _drowning(found: Drowning | None, now: float) -> Document | None:
    """What a pool is in when it takes in more than it can do; None while all is well."""
    if found is None:
        return None
    return {"for_s": round(now - found.since, 3), "usual_s": round(found.usual_s, 6), "now_s": round(found.now_s, 6)}


def _recent(counts: Counted, window: float, answered: float) -> Document:
    """What a backend did in the last minute; answered: the requests of all backends in it."""
    return {
        "requests_per_s": _rate(counts.requests, window),
        "failed_per_s": _rate(counts.failed, window),
        "share_ratio": _ratio(counts.requests, answered),
    }


def _backend(
    edge: Edge,
    backend: Backend,
    row: Sequence[float],
    now: float,
    place: Document,
    requests: int,
    share: float,
    recent: Counted,
) -> Document:
    why_not = backend.why_not(now)
    return {
        "service": backend.spec.service,
        "id": backend.id,
        "url": backend.url,
        "addresses": list(backend.spec.addresses),
        "weight": backend.full_weight,
        "effective_weight": round(backend.weight_at(now), 3),
        "state": backend.state,
        "will": backend.state,  # what it was called before; goes with the next release
        **place,
        "labels": dict(backend.labels),
        "health": backend.learned.health.state,
        "breaker": backend.learned.breaker.state,
        "available": why_not is None,
        "why_not": why_not,
        "ejected_s": round(backend.learned.breaker.next_change_at(now) - now, 3) if why_not == "breaker_open" else None,
        "in_flight": int(row[IN_FLIGHT]),
        "max_in_flight": backend.cap(),
        "tunnels": int(row[TUNNELS]),
        "requests": requests,
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


def _requests(row: Sequence[float]) -> int:
    """Return how many client requests were answered with what this row's backend sent."""
    return int(sum(row[CODE_CELLS]))


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def _rate(count: float, window: float) -> float:
    return round(count / window, 3) if window > 0 else 0.0


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 6)
