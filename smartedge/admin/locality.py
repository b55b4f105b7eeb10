"""What the status says of places: the tiers of a service as its edge sees them, what each carries, and what nearness saves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from smartedge.balancer.backend import Backend
from smartedge.balancer.near_first import NearFirst
from smartedge.balancer.places import NOWHERE, Place, distance_km
from smartedge.balancer.pool import Pool
from smartedge.balancer.tier_views import latency_of
from smartedge.config.services import ServiceConfig
from smartedge.observe.recent import Counted

Document = dict[str, Any]


def locality_document(
    config: ServiceConfig, pool: Pool, lately: Sequence[Counted], now: float, zone: str | None
) -> Document | None:
    """Say how a service goes by places; None where it does not. lately: what each backend has done. zone: the edge's."""
    if pool.near is None:
        return None
    pool.candidates(now)  # shares are those of now
    with pool.lock:
        tiers = _tiers(pool.near)
    counts = {backend.id: one.requests for backend, one in zip(pool.backends, lately, strict=True)}
    answered = sum(counts.values())
    for tier in tiers:
        members = tier.pop("members")
        tier["recent_share_ratio"] = sum(counts[one] for one in members) / answered if answered else 0.0
    extra = [tier["share_ratio"] * tier["extra_latency_s"] for tier in tiers if tier["extra_latency_s"] is not None]
    return {
        "prefer": config.locality.prefer,
        "zone": zone,
        "tiers": tiers,
        "extra_latency_s": round(sum(extra), 6) if extra else None,
        "cross_zone_ratio": cross_zone_ratio(pool.backends, counts, zone),
    }


def cross_zone_ratio(backends: Sequence[Backend], counts: dict[str, float], zone: str | None) -> float | None:
    """Return which part of the requests went to another zone than the edge's; None while nobody knows that one, or none came."""
    answered = sum(counts.values())
    if zone is None or not answered:
        return None
    return sum(counts[backend.id] for backend in backends if crosses_zones(backend, zone)) / answered


def crosses_zones(backend: Backend, zone: str | None) -> bool:
    """Whether requests to a backend leave the edge's zone."""
    return zone is not None and backend.spec.zone != zone


def place_document(pool: Pool, backend: Backend) -> Document:
    """Say where a backend stands, as the edge sees it."""
    near = pool.near
    if near is None:
        place, origin, tier = Place(*_own_place(backend)), NOWHERE, None
    else:
        place, origin, tier = near.place_of(backend), near.locality.origin, near.tier_number(backend)
    known = origin.location is not None and place.location is not None
    return {
        "zone": place.zone,
        "region": place.region,
        "location": None if place.location is None else list(place.location),
        "priority": backend.spec.priority,
        "distance_km": round(distance_km(origin.location, place.location), 1) if known else None,  # type: ignore[arg-type]
        "tier": tier,
    }


def _own_place(backend: Backend) -> tuple[str | None, str | None, tuple[float, float] | None]:
    return backend.spec.zone, backend.spec.region, backend.spec.location


def _tiers(near: NearFirst) -> list[Document]:
    view, origin = near.refreshed_view(), near.locality.origin
    latencies = [latency_of(run) for run in view.runs]
    base = latencies[view.tiers.index(view.nearest[0])] if view.tiers else None
    found = []
    for number, (tier, run, share, latency_s) in enumerate(zip(view.tiers, view.runs, view.shares, latencies, strict=True)):
        km = tier.distance_km(origin)
        found.append(
            {
                "tier": number,
                "priority": tier.priority,
                "nearness": tier.nearness,
                "zones": sorted({str(group.place) for group in tier.groups}),
                "distance_km": None if km is None else round(km, 1),
                "share_ratio": round(share, 6),
                "available": run.count.available,
                "total": run.count.backends,
                "latency_s": None if latency_s is None else round(latency_s, 6),
                "extra_latency_s": None if latency_s is None or base is None else round(latency_s - base, 6),
                "members": [backend.id for backend in near.members(run)],
            }
        )
    return found
