"""The compact document that the page in the browser shows: what it says, how often it is made, who may read it."""

from __future__ import annotations

import gzip
import json
import random
from typing import Any

import gevent
import pytest
from flask.testing import FlaskClient

from smartedge.admin.live import COLUMNS, FRESH_S, LEAST_REST, LiveDocument
from smartedge.balancer.spec import STATES
from smartedge.discovery.source_health import SourceHealth
from tests.admin.small_edge import SITE, SmallEdge, client_of, problem, serve

SAME = [
    name for name in COLUMNS if not name.startswith("check_") and name not in ("requests_per_s", "failed_per_s", "share_ratio")
]


def rows_of(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [dict(zip(document["columns"], row, strict=True)) for row in document["backends"]]


def test_its_numbers_are_those_of_the_status(services: SmallEdge) -> None:
    client = client_of(services)
    for backend in services.backends():
        serve(backend, 7, latency_s=0.02)
    serve(services.backend("b1"), 14, 500, latency_s=0.5)
    live, status = client.get("/smartedge/live").get_json(), client.get("/api/status").get_json()
    told = [one for service in status["services"].values() for one in service["backends"]]
    assert [{name: row[name] for name in SAME} for row in rows_of(live)] == [{name: one[name] for name in SAME} for one in told]
    for row, one in zip(rows_of(live), told, strict=True):
        for name in ("requests_per_s", "failed_per_s"):
            assert row[name] == one["recent"][name]
        assert row["share_ratio"] == pytest.approx(one["recent"]["share_ratio"], abs=1e-4)
        check = one["last_check"]
        found = None if check is None else [check["ok"], check["status"], check["detail"]]
        assert found == (None if row["check_ok"] is None else [row["check_ok"], row["check_status"], row["check_detail"]])
    assert live["totals"] == {
        "requests": 7 * 4 + 14,
        "answered_by_edge": 0,
        "failed": 0,
        "in_flight": 0,
        "available": 0,
        "backends": 4,
    }
    for name, service in live["services"].items():
        for member in ("strategy", "status", "up", "total", "waiting"):
            assert service[member] == status["services"][name][member]
        assert service["recent"]["requests_per_s"] == status["services"][name]["recent"]["requests_per_s"]
    assert live["generation"] == status["generation"]
    assert live["workers"] == status["workers"]


def test_what_the_edge_answers_itself_is_counted(edge: SmallEdge, client: FlaskClient) -> None:
    edge.edge_row.count(404, 0.001, 0, 0)
    edge.pool.row.count(503, 0.001, 0, 0)
    live = client.get("/smartedge/live").get_json()
    assert live["totals"]["answered_by_edge"] == 2
    assert live["services"]["default"]["answered_by_edge"] == 1


def test_it_says_panic_when_ejected_backends_are_used_again(edge: SmallEdge, client: FlaskClient) -> None:
    for backend in edge.pool.backends:
        backend.learned.health.probed(True)
    edge.pool.renew_candidates()
    assert client.get("/smartedge/live").get_json()["services"]["default"]["panic"] is False
    for backend in edge.pool.backends:
        backend.learned.breaker.eject(edge.now(), random.Random(1), "test")
    edge.pool.renew_candidates()
    live = client.get("/smartedge/live?fresh=true").get_json()
    assert live["services"]["default"]["panic"] is True
    assert [row["why_not"] for row in rows_of(live)] == ["breaker_open", "breaker_open"]
    assert rows_of(live)[0]["ejected_s"] > 0


def test_it_says_how_the_sources_of_a_service_are() -> None:
    web = {"discover": {"dns": {"name": "web.example", "port": 8000}}, "backends": ["http://localhost:8081"]}
    edge = SmallEdge(services={"web": web})
    edge.sources = [SourceHealth("web", "dns web.example", "stale", edge.now() - 90, 3, "no answer", 2)]
    (source,) = client_of(edge).get("/smartedge/live").get_json()["services"]["web"]["discovery"]
    assert (source["state"], source["age_s"], source["problem"]) == ("stale", 90.0, "no answer")


def test_it_is_made_at_most_twice_a_second_however_many_ask(edge: SmallEdge) -> None:
    live = LiveDocument(edge)
    first = live.newest()
    edge.clock += FRESH_S / 2
    assert live.newest() is first
    edge.clock += FRESH_S
    assert live.newest() is not first
    assert live.made == 2


def test_what_takes_long_is_made_more_rarely(edge: SmallEdge) -> None:
    live = LiveDocument(edge)
    first = live.newest()
    live.took_s = 0.2
    edge.clock += LEAST_REST * 0.2 - 0.1
    assert live.newest() is first
    edge.clock += 0.2
    assert live.newest() is not first


def test_those_who_come_while_it_is_made_wait_for_that_one(edge: SmallEdge) -> None:
    live = LiveDocument(edge)
    made = [gevent.spawn(live.newest) for _ in range(50)]
    gevent.joinall(made, timeout=20, raise_error=True)
    assert live.made == 1
    assert len({id(one.value) for one in made}) == 1


def test_who_asks_for_a_fresh_one_sees_what_was_done_before(edge: SmallEdge, client: FlaskClient) -> None:
    assert [row["state"] for row in rows_of(client.get("/smartedge/live").get_json())] == ["enabled", "enabled"]
    assert client.post("/smartedge/backends/b2/drain").status_code == 200
    edge.clock += 0.001
    assert [row["state"] for row in rows_of(client.get("/smartedge/live?fresh=true").get_json())] == ["enabled", STATES[1]]
    problem(client.get("/smartedge/live?fresh=perhaps"), 400)


def test_it_is_compressed_for_those_who_take_that(client: FlaskClient) -> None:
    plain = client.get("/smartedge/live")
    packed = client.get("/smartedge/live", headers={"Accept-Encoding": "br, gzip"})
    refused = client.get("/smartedge/live", headers={"Accept-Encoding": "gzip;q=0"})
    assert [one.headers.get("Content-Encoding") for one in (plain, packed, refused)] == [None, "gzip", None]
    assert gzip.decompress(packed.data) == plain.data == refused.data
    assert {one.headers["Vary"] for one in (plain, packed)} == {"Accept-Encoding"}
    assert plain.headers["Cache-Control"] == "no-store"


def test_it_is_for_those_who_may(edge: SmallEdge, client: FlaskClient) -> None:
    edge.token = "secret"
    problem(client.get("/smartedge/live"), 401)
    problem(client.get("/smartedge/live", headers={"Authorization": "Bearer wrong"}), 401)
    assert client.get("/smartedge/live", headers={"Authorization": "Bearer secret"}).status_code == 200
    problem(client.post("/smartedge/live", headers={"Authorization": "Bearer secret"}), 405)


def test_five_hundred_backends_are_one_valid_document_of_moderate_size() -> None:
    backends = [{"id": f"backend-{number}", "url": f"http://10.1.{number // 250}.{number % 250}:8000"} for number in range(500)]
    edge = SmallEdge(backends=backends)
    made = LiveDocument(edge).newest()
    document = json.loads(made.plain)
    assert [row["id"] for row in rows_of(document)] == [one["id"] for one in backends]
    assert gzip.decompress(made.gzipped) == made.plain
    assert len(made.plain) < 130_000
    assert len(made.gzipped) < 20_000


def test_text_of_others_is_text_in_it(services: SmallEdge) -> None:
    """The name of a backend cannot hold any of this, but what its probe found can."""
    from smartedge.balancer.health import ProbeResult

    evil = '"</script><script>alert(1)</script>\u202e🦊'
    services.backend("b1").learned.keep_probe(1000.0, ProbeResult(False, 500, evil, 0.1))
    (row, *_) = rows_of(client_of(services).get("/smartedge/live").get_json())
    assert row["check_detail"] == evil


def test_a_service_that_is_about_to_be_put_to_use_is_left_out(services: SmallEdge) -> None:
    del services.services["api"]
    document = client_of(services).get("/smartedge/live").get_json()
    assert list(document["services"]) == ["web"]
    assert SITE["services"].keys() == {"web", "api"}
