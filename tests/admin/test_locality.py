"""What status and metrics say of places: tiers, their shares, the distance, and what nearness saves."""

from __future__ import annotations

from typing import Any

import pytest

from smartedge.admin.exposition import exposition
from smartedge.admin.snapshot import read_snapshot
from smartedge.admin.status import read_services, service_document
from smartedge.balancer.near_first import Locality
from smartedge.balancer.places import Place
from smartedge.cli.status_table import status_text
from tests.admin.small_edge import SmallEdge, client_of, serve

ZONES = {"here": Place("here", "south", (-23.5, -46.6)), "far": Place("far", "north", (50.0, 8.0))}
KEYS: dict[str, Any] = {
    "backends": [
        {"url": "http://localhost:8081", "id": "b1", "zone": "here"},
        {"url": "http://localhost:8082", "id": "b2", "zone": "here"},
        {"url": "http://localhost:8083", "id": "b7", "zone": "far"},
        {"url": "http://localhost:8084", "id": "b9", "zone": "far", "priority": 1},
    ],
    "zones": {"here": {"region": "south", "location": [-23.5, -46.6]}, "far": {"region": "north", "location": [50, 8]}},
    "zone": "here",
    "locality": {"prefer": "edge"},
}


@pytest.fixture
def edge() -> SmallEdge:
    edge = SmallEdge(Locality(ZONES["here"], ZONES), **KEYS)
    for backend in edge.backends():
        backend.learned.health.probed(backend.id != "b2")
    edge.pool.renew_candidates()
    return edge


def take(edge: SmallEdge, latency_s: dict[str, float], count: int) -> None:
    for number in range(count):
        began = 1050.0 + number * 0.002
        lease = edge.pool.lease(began)
        lease.answered(began + latency_s[lease.backend.id])
        lease.close(1051.0, "ok")
    edge.pool.learn_kinds(1052.0, 0.95)


def test_the_status_shows_distance_share_and_what_farther_answers_cost(edge: SmallEdge) -> None:
    take(edge, {"b1": 0.010, "b7": 0.210}, 200)
    serve(edge.backend("b1"), 30)
    serve(edge.backend("b7"), 10)
    edge.recent.tick(1060.0, list(edge.backends()))
    (reading,) = read_services(edge)  # type: ignore[arg-type]
    found = service_document(edge, reading)["locality"]  # type: ignore[arg-type]
    assert (found["prefer"], found["zone"]) == ("edge", "here")
    near, far, backup = found["tiers"]
    assert {key: near[key] for key in ("tier", "priority", "nearness", "zones", "share_ratio", "available", "total")} == {
        "tier": 0, "priority": 0, "nearness": "same zone", "zones": ["here"], "share_ratio": 0.7, "available": 1, "total": 2,
    }  # fmt: skip
    assert (far["nearness"], far["zones"], far["share_ratio"], far["available"], far["total"]) == ("farther", ["far"], 0.3, 1, 1)
    assert (near["distance_km"], far["distance_km"]) == (0.0, pytest.approx(9876, rel=0.02))
    assert near["latency_s"] == pytest.approx(0.010, rel=0.01)
    assert far["extra_latency_s"] == pytest.approx(0.200, rel=0.02)
    assert found["extra_latency_s"] == pytest.approx(0.3 * 0.200, rel=0.02)
    assert (backup["priority"], backup["share_ratio"], backup["latency_s"], backup["extra_latency_s"]) == (1, 0.0, None, None)


def test_each_backend_says_where_it_stands_and_the_service_how_much_crosses_zones() -> None:
    edge = SmallEdge(Locality(ZONES["here"], ZONES), **KEYS)
    serve(edge.backend("b1"), 30)
    serve(edge.backend("b7"), 10)
    document = client_of(edge).get("/api/status").get_json()
    shown = {one["id"]: one for one in document["backends"]}
    assert [shown["b1"][key] for key in ("zone", "region", "location", "priority", "distance_km", "tier")] == [
        "here", "south", [-23.5, -46.6], 0, 0.0, 0,
    ]  # fmt: skip
    assert [shown[name]["tier"] for name in ("b2", "b7", "b9")] == [0, 1, 2]
    assert shown["b9"]["priority"] == 1
    assert document["services"]["default"]["locality"]["cross_zone_ratio"] == 0.25


def test_metrics_count_tries_by_zone_and_tier_and_requests_that_cross_zones(edge: SmallEdge) -> None:
    take(edge, {"b1": 0.010, "b7": 0.210}, 100)
    serve(edge.backend("b1"), 30)
    serve(edge.backend("b7"), 10)
    content = b"".join(exposition(read_snapshot(edge))[0])  # type: ignore[arg-type]
    lines = content.decode().splitlines()
    tiers = {
        line.partition(" ")[0]: float(line.partition(" ")[2])
        for line in lines
        if line.startswith("smartedge_tier_requests_total")
    }
    assert tiers.keys() == {
        'smartedge_tier_requests_total{service="default",tier="0",zone="here"}',
        'smartedge_tier_requests_total{service="default",tier="1",zone="far"}',
    }
    assert sum(tiers.values()) == 100
    assert 'smartedge_cross_zone_requests_total{service="default"} 10.0' in lines


def test_the_table_says_what_each_tier_carries(edge: SmallEdge) -> None:
    take(edge, {"b1": 0.010, "b7": 0.210}, 200)
    text = status_text(client_of(edge).get("/api/status").get_json())
    assert "tier 0 (same zone, 0 km): here carries 70.0%, 1 of 2 available" in text
    assert "tier 1 (farther, 9," in text
    assert "km): far carries 30.0%, 1 of 1 available, +200" in text
    assert "priority 1): far carries 0.0%, 1 of 1 available" in text
