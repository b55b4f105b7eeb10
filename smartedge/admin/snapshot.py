"""Reads the whole edge for a scrape: every number from where it is counted, added up over all workers."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from smartedge.admin.locality import crosses_zones
from smartedge.admin.readings import (
    BackendReading,
    ClusterReading,
    ServiceReading,
    Snapshot,
    SourceReading,
    WorkerReading,
    backend_labels,
    codes_of,
)
from smartedge.balancer.backend import Backend
from smartedge.balancer.drowning import drowning
from smartedge.edge.edge import Edge
from smartedge.workers.periodic import in_pieces

if TYPE_CHECKING:
    from smartedge.edge.cluster_node import ClusterNode


def read_snapshot(edge: Edge) -> Snapshot:
    """Read everything that the metrics show; requests go on in between."""
    edge.meet_workers()
    return Snapshot(
        backends=_readings(edge),
        services=[
            ServiceReading(name, service.pool.row.totals(), drowning(service.pool.row) is not None)
            for name, service in edge.services.items()
        ],
        edge=edge.edge_row.totals(),
        generation=edge.generation,
        workers=_workers(edge),
        version=edge.version,
        certificates=edge.tls.certificates,
        sources=_sources(edge),
        cluster=None if edge.cluster is None else _cluster(edge.cluster),
    )


def _cluster(node: ClusterNode) -> ClusterReading:
    news, stale_s = node.news.newest, node.stale_s
    age_s = inf if stale_s is None else stale_s
    return ClusterReading(news.state == "live", age_s, news.generation, news.refused is not None, len(news.cards))


def _sources(edge: Edge) -> list[SourceReading]:
    ages = ((one, one.age_s(edge.now())) for one in edge.discovery.healths())
    return [SourceReading(one.service, one.source, inf if age is None else age, one.errors, one.backends) for one, age in ages]


def _workers(edge: Edge) -> list[WorkerReading]:
    return [
        WorkerReading(
            one["slot"],
            one["leader"],
            one["generation"],
            one["started_at"],
            one["loop_lag_s"],
            one.get("memory_bytes"),
            one.get("cpu_s"),
        )
        for one in edge.workers(counted=False)
    ]


def _readings(edge: Edge) -> list[BackendReading]:
    backends = [backend for service in edge.services.values() for backend in service.pool.backends]
    return [_reading(edge, backend) for backend in in_pieces(backends)]


def _reading(edge: Edge, backend: Backend) -> BackendReading:
    at, cells = backend.learned.last_probe_at, backend.learned.totals()
    return BackendReading(
        labels=backend_labels(backend.spec.service, backend.id),
        service=backend.spec.service,
        weight=backend.full_weight,
        ewma_s=backend.learned.ewma.mean_s,
        healthy=backend.learned.health.state == "healthy",
        state=backend.state,
        breaker=backend.learned.breaker.state,
        last_probe_at=edge.unix_time(at) if at else None,
        cells=cells,
        codes=codes_of(cells),
        max_in_flight=backend.cap(),
        zone=backend.spec.zone,
        crosses_zones=crosses_zones(backend, edge.config.zone),
    )
