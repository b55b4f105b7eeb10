"""The status: what has been counted and learned, in plain data."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from smartedge.admin.exposition import exposition
from smartedge.admin.snapshot import read_snapshot
from smartedge.admin.status import status_document
from smartedge.balancer.cells import FAILED, QUEUE_REFUSED, RATE_LIMITED, RETRIES, latency_cell
from smartedge.config.backends import BackendConfig
from smartedge.discovery.source_health import SourceHealth
from smartedge.http.certificates import PemFiles
from smartedge.http.server_tls import Named, TlsSettings, read_shown
from smartedge.proxy.compiled import is_compiled
from tests.admin.small_edge import WORKER, SmallEdge, client_of, serve
from tests.certificates import Authority
from tests.house import backend as make_backend

NOTHING = {
    "requests": 0,
    "answered_by_edge": 0,
    "in_flight": 0,
    "retries": 0,
    "queue_refused": 0,
    "rate_limited": 0,
    "received_bytes": 0,
    "sent_bytes": 0,
}


def test_what_was_refused_before_any_backend_saw_it_is_counted_by_service_and_in_all(
    edge: SmallEdge, client: FlaskClient
) -> None:
    edge.services["default"].pool.row.add(QUEUE_REFUSED, 3)
    edge.edge_row.add(RATE_LIMITED, 2)
    document = client.get("/api/status").get_json()
    in_all, of_service = document["totals"], document["services"]["default"]["totals"]
    assert (in_all["queue_refused"], in_all["rate_limited"]) == (3, 2)
    assert (of_service["queue_refused"], of_service["rate_limited"]) == (3, 0)


@pytest.mark.parametrize("path", ["/api/status", "/smartedge/live"])
def test_whichever_worker_answers_says_how_long_the_edge_has_been_up(edge: SmallEdge, client: FlaskClient, path: str) -> None:
    """One that had just taken a dead one's place said `up 2 s` beside the requests of hours, and its neighbour said the hours."""
    edge.all_workers = [WORKER | {"uptime_s": 2.0}, WORKER | {"slot": 1, "pid": 4712, "uptime_s": 7200.0}]
    assert client.get(path).get_json()["uptime_s"] == 7200.0


def test_the_status_of_an_edge_that_has_not_served_yet(edge: SmallEdge, client: FlaskClient) -> None:
    answer = client.get("/api/status")
    document = answer.get_json()
    assert answer.headers["ETag"] == f'"{document["etag"]}"'
    assert answer.headers["Cache-Control"] == "no-store"
    backends, services = document.pop("backends"), document.pop("services")
    assert document == {
        "strategy": "adaptive",
        "generation": 17,
        "etag": edge.config.etag,
        "version": "0.1.0",
        "compiled": is_compiled(),
        "draining": False,
        "trial": None,
        "drowning": None,
        "uptime_s": 60.0,
        "workers": [WORKER],
        "cluster": None,
        "certificates": [],
        "recent": {"window_s": 60.0, "requests_per_s": 0.0, "failed_per_s": 0.0},
        "totals": NOTHING,
    }
    assert services == {
        "default": {
            "strategy": "adaptive",
            "status": "ok",
            "drowning": None,
            "waiting": 0,
            "discovery": [],
            "up": 0,
            "total": 2,
            "totals": NOTHING,
            "recent": {"window_s": 60.0, "requests_per_s": 0.0, "failed_per_s": 0.0},
            "locality": None,
            "backends": backends,
        }
    }
    assert backends[0] == {
        "service": "default",
        "id": "b1",
        "url": "http://localhost:8081",
        "addresses": [],
        "weight": 1,
        "effective_weight": 1,
        "state": "enabled",
        "will": "enabled",
        "zone": "eu",
        "region": None,
        "location": None,
        "priority": 0,
        "distance_km": None,
        "tier": None,
        "labels": {},
        "health": "unknown",
        "breaker": "closed",
        "available": False,
        "why_not": "unprobed",
        "ejected_s": None,
        "in_flight": 0,
        "max_in_flight": None,
        "tunnels": 0,
        "requests": 0,
        "share_ratio": 0.0,
        "ok": 0,
        "failed": 0,
        "abandoned": 0,
        "outrun": 0,
        "retries": 0,
        "hedges": 0,
        "connections": 0,
        "received_bytes": 0,
        "sent_bytes": 0,
        "ewma_s": 0.0,
        "p50_s": None,
        "p99_s": None,
        "last_check": {"asked": "GET /health", "at": 1.75e9, "ok": True, "status": 200, "detail": "status 200", "took_s": 0.002},
        "recent": {"requests_per_s": 0.0, "failed_per_s": 0.0, "share_ratio": 0.0},
        "discovered": False,
    }
    assert (backends[1]["zone"], backends[1]["last_check"]) == (None, None)


def test_the_status_shows_how_the_requests_were_shared_out(edge: SmallEdge, client: FlaskClient) -> None:
    serve(edge.backend("b1"), 30)
    serve(edge.backend("b2"), 9)
    serve(edge.backend("b2"), 1, code=404)
    edge.edge_row.count(503, 0.001, bytes_in=1, bytes_out=2)
    document = client.get("/api/status").get_json()
    assert [backend["requests"] for backend in document["backends"]] == [30, 10]
    assert [backend["share_ratio"] for backend in document["backends"]] == [0.75, 0.25]
    assert document["totals"] == NOTHING | {
        "requests": 41, "answered_by_edge": 1, "in_flight": 0, "retries": 0, "received_bytes": 401, "sent_bytes": 4002,
    }  # fmt: skip


def test_the_status_shows_what_leases_did(edge: SmallEdge, client: FlaskClient) -> None:
    for backend in edge.pool.backends:
        backend.learned.health.probed(True)
    edge.pool.renew_candidates()
    leases = [edge.pool.lease(1050.0) for _ in range(8)]
    outcomes = ("ok", "failed", "abandoned", "outrun")
    for lease, outcome in zip(leases, outcomes * 2, strict=False):
        lease.answered(1050.1)
        lease.close(1050.2, outcome)  # type: ignore[arg-type]
    document = client.get("/api/status").get_json()
    assert [sum(backend[word] for backend in document["backends"]) for word in (*outcomes, "in_flight")] == [2, 2, 2, 2, 0]
    assert document["totals"]["in_flight"] == 0
    assert all(
        backend["health"] == "healthy" and backend["available"] and backend["ewma_s"] > 0 for backend in document["backends"]
    )


def test_certificates_are_shown_with_their_names_and_their_end(edge: SmallEdge, tmp_path: Path) -> None:
    path = Authority().sign(tmp_path / "shop.pem", "shop.example", "*.shop.example", days=10)
    edge.tls.use(read_shown(TlsSettings((Named(("certfile",), PemFiles(path)),)), None))
    (shown,) = status_document(edge)["certificates"]
    assert (shown["names"], shown["key"], shown["file"]) == (["shop.example", "*.shop.example"], "ECDSA", path)
    assert shown["expires_at"] == pytest.approx(time.time() + 10 * 86_400, abs=60)
    text = b"".join(exposition(read_snapshot(edge))[0])
    for name in shown["names"]:
        assert f'smartedge_certificate_expires_timestamp_seconds{{file="{path}",name="{name}"}} 1.' in text.decode()


def test_asking_changes_nothing(edge: SmallEdge, client: FlaskClient) -> None:
    backend = edge.backend("b1")
    backend.learned.health.probed(True)
    for _ in range(5):
        backend.learned.breaker.failed(1000.0, random.Random(1))
    assert backend.learned.breaker.state == "open"
    for path in ("/health", "/api/status", "/metrics"):
        client.get(path)
    assert client.get("/api/status").get_json()["backends"][0]["breaker"] == "open"
    edge.clock = 1002.0
    shown = client.get("/api/status").get_json()["backends"][0]
    assert shown["why_not"] == "breaker_open"
    assert 0 < shown["ejected_s"] <= 5


def test_quantiles_are_those_of_about_the_last_minute(edge: SmallEdge, client: FlaskClient) -> None:
    b1, backends = edge.backend("b1"), edge.pool.backends

    def quantiles() -> tuple[float | None, float | None]:
        status = client.get("/api/status").get_json()["backends"][0]
        return status["p50_s"], status["p99_s"]

    serve(b1, 100, latency_s=1.0)
    assert quantiles()[0] == pytest.approx(1.0, rel=0.3)  # since the start, as nothing was written down yet
    edge.recent.tick(1060.0, backends)
    assert quantiles() == (None, None)
    serve(b1, 98, latency_s=0.01)
    serve(b1, 2, latency_s=0.1)
    assert quantiles() == (pytest.approx(0.01, rel=0.3), pytest.approx(0.1, rel=0.3))
    for now in range(1060, 1121, 1):
        edge.recent.tick(float(now), backends)
    assert quantiles()[1] == pytest.approx(0.1, rel=0.3)
    for now in range(1121, 1131, 1):
        edge.recent.tick(float(now), backends)
    assert quantiles() == (None, None)


def test_rates_and_shares_are_those_of_the_last_minute_and_not_since_the_start(edge: SmallEdge, client: FlaskClient) -> None:
    """A backend that had come back an hour ago, and took half of the requests, was shown with 3% of them."""
    serve(edge.backend("b1"), 100_000)
    edge.recent.tick(1060.0, edge.pool.backends)
    serve(edge.backend("b1"), 90)
    serve(edge.backend("b2"), 30)
    edge.backend("b2").learned.add(FAILED)
    edge.clock = 1090.0
    document = client.get("/api/status").get_json()
    assert document["recent"] == {"window_s": 30.0, "requests_per_s": 4.0, "failed_per_s": 0.033}
    assert [backend["recent"] for backend in document["backends"]] == [
        {"requests_per_s": 3.0, "failed_per_s": 0.0, "share_ratio": 0.75},
        {"requests_per_s": 1.0, "failed_per_s": 0.033, "share_ratio": 0.25},
    ]


def test_a_backend_that_came_since_the_last_tick_is_counted_from_its_start(edge: SmallEdge, client: FlaskClient) -> None:
    edge.recent.tick(1060.0, [edge.backend("b2")])
    serve(edge.backend("b1"), 10)
    assert client.get("/api/status").get_json()["backends"][0]["p50_s"] is not None


def test_a_backend_that_left_and_came_back_is_counted_from_its_return(edge: SmallEdge, client: FlaskClient) -> None:
    serve(edge.backend("b1"), 10)
    edge.recent.tick(1060.0, edge.pool.backends)
    edge.backend("b1").learned.cells[latency_cell(0.01)] = 4
    assert client.get("/api/status").get_json()["backends"][0]["p50_s"] == pytest.approx(0.01, rel=0.3)


def test_each_service_has_its_own_backends_numbers_and_shares(services: SmallEdge) -> None:
    web, api = (services.services[name].pool.backends[0] for name in ("web", "api"))
    serve(web, 30)
    serve(api, 10)
    document = client_of(services).get("/api/status").get_json()
    assert list(document["services"]) == ["api", "web"]
    shown = document["services"]["api"]
    assert (shown["strategy"], shown["status"], shown["up"], shown["total"]) == ("ewma", "ok", 0, 2)
    assert [(one["service"], one["id"], one["requests"], one["share_ratio"], one["zone"]) for one in shown["backends"]] == [
        ("api", "b1", 10, 1.0, "eu"),
        ("api", "10.0.0.5", 0, 0.0, None),
    ]
    assert [document["services"][name]["totals"]["requests"] for name in ("web", "api")] == [30, 10]
    assert document["totals"]["requests"] == 40
    assert document["backends"] == []  # there is no service "default"


def test_the_totals_are_those_of_all_services_with_what_no_backend_answered(services: SmallEdge) -> None:
    for name, count in (("web", 30), ("api", 10)):
        pool = services.services[name].pool
        serve(pool.backends[0], count)
        pool.backends[1].learned.add(RETRIES, count)
        pool.row.count(503, 0.001, bytes_in=3, bytes_out=5)
    services.edge_row.count(404, 0.001, bytes_in=7, bytes_out=11)
    document = client_of(services).get("/api/status").get_json()
    shown = [document["services"][name]["totals"] for name in ("web", "api")]
    assert [(one["requests"], one["answered_by_edge"], one["retries"]) for one in shown] == [(31, 1, 30), (11, 1, 10)]
    whole = document["totals"]
    assert (whole["requests"], whole["answered_by_edge"], whole["retries"], whole["in_flight"]) == (43, 3, 40, 0)
    for key, by_edge in (("received_bytes", 7), ("sent_bytes", 11)):
        assert whole[key] == by_edge + sum(one[key] for one in shown)


def test_health_is_good_while_some_service_can_serve_and_says_it_of_each(services: SmallEdge) -> None:
    client, pools = client_of(services), [service.pool for service in services.services.values()]
    for backend in services.backends():
        backend.learned.health.probed(True)
    assert client.get("/health").get_json() == {
        "status": "ok",
        "up": 4,
        "total": 4,
        "services": {"web": {"status": "ok", "up": 2, "total": 2}, "api": {"status": "ok", "up": 2, "total": 2}},
    }
    for id_ in ("b1", "10.0.0.5"):
        pools[0].set_state(id_, "disabled")
    answer = client.get("/health")
    assert (answer.status_code, answer.get_json()["services"]["api"]["status"]) == (200, "no_backend")
    for id_ in ("b1", "b2"):
        pools[1].set_state(id_, "disabled")
    answer = client.get("/health")
    assert (answer.status_code, answer.get_json()["status"]) == (503, "no_backend")


def test_the_health_of_the_short_form_names_no_service(client: FlaskClient) -> None:
    assert client.get("/health").get_json() == {"status": "ok", "up": 0, "total": 2}


def test_the_status_says_how_the_sources_of_a_service_are_and_which_backends_they_have_found() -> None:
    edge = SmallEdge(
        services={
            "web": {"discover": {"dns": {"name": "web", "port": 80}}, "backends": ["http://w:1"]},
            "api": {"backends": ["http://a:1"]},
        },
        routes=[{"path": "/api", "to": "api"}, {"to": "web"}],
    )
    edge.config = edge.config.with_found({"web": (BackendConfig.model_validate({"url": "http://f:1", "id": "f"}),)})
    edge.services["web"].pool.replace_backends([make_backend(name) for name in ("w-1", "f")], edge.services["web"].pool.strategy)
    edge.sources = [SourceHealth("web", "dns", "stale", edge.clock - 12.5, 3, "no such name", 1)]

    services = client_of(edge).get("/api/status").json["services"]

    assert services["web"]["discovery"] == [
        {"source": "dns", "state": "stale", "age_s": 12.5, "errors": 3, "problem": "no such name", "backends": 1}
    ]
    assert services["api"]["discovery"] == []
    assert [(one["id"], one["discovered"]) for one in services["web"]["backends"]] == [("w-1", False), ("f", True)]
