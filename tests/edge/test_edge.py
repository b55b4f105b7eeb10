"""Several services in one worker: each with its own backends and numbers, begun and let go by the setup."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest

from smartedge.app import SmartEdge
from smartedge.balancer.cells import EPOCH, QUEUE_REFUSED, QUEUED, RATE_LIMITED
from smartedge.config.model import parse
from smartedge.edge.edge import Edge
from smartedge.edge.reload import MANY
from smartedge.edge.reload_errors import NotShared
from smartedge.workers.row_book import EDGE_KEY
from tests.fakes import full_disk, local_client
from tests.house import until
from tests.live.peers import Script, answers


@pytest.fixture
def one() -> Iterator[Script]:
    with gevent.Timeout(20), Script(answers()) as script:
        yield script


@pytest.fixture
def edge(one: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Edge]:
    monkeypatch.setenv("SMARTEDGE_STATE_DIR", str(tmp_path / "state"))
    document: dict[str, Any] = {
        "backends": [{"url": one.url, "id": "a"}, {"url": "http://127.0.0.1:1", "id": "b"}],
        "rate_limit": {"per_s": 0.001, "burst": 2},
        "services": {"api": {"backends": [{"url": one.url, "id": "a"}], "strategy": "random"}},
        "routes": [{"id": "api", "path": "/api", "to": "api"}, {"id": "all", "to": "default"}],
    }
    edge = Edge(parse(json.dumps(document)))
    yield edge
    edge.stop()


def ask(edge: Edge, path: str) -> int:
    return local_client(SmartEdge(edge)).get(path, buffered=True).status_code


def test_one_server_in_two_services_is_two_backends_with_numbers_of_their_own(edge: Edge) -> None:
    assert {name: [one.id for one in service.pool.backends] for name, service in edge.services.items()} == {
        "default": ["a", "b"],
        "api": ["a"],
    }
    assert [service.pool.strategy.name for service in edge.services.values()] == ["adaptive", "random"]
    mine, apis = edge.services["default"].pool.backends[0], edge.services["api"].pool.backends[0]
    assert mine.url == apis.url
    assert mine.key != apis.key
    assert mine.learned is not apis.learned
    assert edge.pool is edge.services["default"].pool


def test_of_two_workers_one_leads_from_the_moment_that_both_have_their_place(edge: Edge) -> None:
    """The other took itself for the leader until its first round of probes, and warned that `admin_bind` was taken."""
    other = Edge(edge.config)
    try:
        edge.take_place()
        other.take_place()
        assert [one.follower.leading for one in (edge, other)] == [True, False]
    finally:
        other.stop()


def test_all_are_probed_and_each_gets_what_its_routes_send(edge: Edge, one: Script) -> None:
    edge.begin_serving()
    while any(backend.learned.health.state == "unknown" for backend in edge.backends()):
        gevent.sleep(0.01)
    assert len(list(edge.backends())) == 3
    assert [ask(edge, "/api/x"), ask(edge, "/x")] == [200, 200]
    leases = [service.pool.backends[0].learned.totals() for service in edge.services.values()]
    assert [sum(row) > 0 for row in leases] == [True, True]


def test_a_client_has_its_rate_in_each_service(edge: Edge, one: Script) -> None:
    edge.begin_serving()
    while any(backend.learned.health.state == "unknown" for backend in edge.backends()):
        gevent.sleep(0.01)
    assert [ask(edge, path) for path in ("/api", "/api", "/api", "/x", "/x", "/x")] == [200, 200, 429, 200, 200, 429]
    assert [service.pool.row.cells[RATE_LIMITED] for service in edge.services.values()] == [1, 1]
    assert edge.edge_row.cells[RATE_LIMITED] == 0


@pytest.mark.parametrize(
    "more", [{"backends": ["http://127.0.0.1:2"]}, {"rate_limit": {"per_s": 1, "burst": 2}}, {"sticky": {"cookie": "edge"}}]
)
def test_a_full_state_directory_is_no_fault_of_the_configuration(
    more: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was answered 422, "Invalid configuration", "backends: [Errno 28] No space left on device"."""
    monkeypatch.setenv("SMARTEDGE_STATE_DIR", str(tmp_path / "state"))
    before = {"backends": ["http://127.0.0.1:1"]}
    edge = Edge(parse(json.dumps(before)))
    text = json.dumps(before | more).encode()
    try:
        edge.take_place()
        for ask_for in (edge.reload, edge.rollouts.preview):
            with (
                full_disk(0),
                pytest.raises(NotShared, match=r"state.*: File too large.*; nothing changed"),
            ):
                ask_for(text)
        assert edge.generation == 1
        edge.reload(text)
        assert edge.generation == 2
    finally:
        edge.stop()


def test_what_concerns_a_whole_service_has_a_row_of_its_own_until_it_is_gone(edge: Edge, one: Script) -> None:
    edge.begin_serving()
    assert edge._membership is not None
    rows = edge._membership._held
    service, mine = edge.services["api"], edge.pool.row
    row = service.pool.row
    assert row.cells is rows["api"].own[0]
    assert mine.cells is rows["default"].own[0]
    row.add(QUEUE_REFUSED, 3)
    row.add(QUEUED)  # somebody waits, and may write there
    edge.reload(json.dumps({"backends": [{"url": one.url, "id": "a"}]}).encode())
    assert edge.edge_row.cells[QUEUE_REFUSED] == 3
    while edge.registry._leaving:
        gevent.sleep(0.01)
    edge.upkeep.tidy()
    assert "api" in rows
    row.add(QUEUED, -1)
    edge.upkeep.tidy()
    assert "api" not in rows
    row.add(QUEUED)
    assert all(not cells.own[0][QUEUED] for cells in rows.values())


def test_a_service_that_comes_back_at_once_goes_on_in_its_row(edge: Edge, one: Script) -> None:
    edge.begin_serving()
    row, text = edge.services["api"].pool.row, edge.config.to_json().encode()
    edge.reload(json.dumps({"backends": [{"url": one.url, "id": "a"}]}).encode())
    edge.reload(text)
    edge.upkeep.tidy()
    assert edge.services["api"].pool.row is row
    assert edge._membership is not None
    assert row.cells is edge._membership._held["api"].own[0]


def test_probes_borrow_the_host_of_their_own_services_clients(edge: Edge) -> None:
    edge.services["api"].clients_host = b"api.example"
    edge.services["default"].clients_host = b"shop.example"
    assert [edge._services.clients_host(name) for name in ("api", "default", "gone")] == [b"api.example", b"shop.example", None]


def test_a_flip_of_health_counts_at_the_next_pick_of_its_own_service(edge: Edge) -> None:
    edge.begin_serving()
    pools = [service.pool for service in edge.services.values()]
    before = [pool.row.shared[EPOCH] for pool in pools]
    edge._flipped(pools[1].backends[0], "up", None)
    assert [pool.row.shared[EPOCH] != then for pool, then in zip(pools, before, strict=True)] == [False, True]


def test_a_reload_leaves_alone_the_services_that_stay_as_they_are(edge: Edge, one: Script) -> None:
    edge.begin_serving()
    document = json.loads(edge.config.to_json())
    before, backends = edge.setup.services, {name: service.pool.backends for name, service in edge.services.items()}
    document["services"]["web"] = {"backends": [one.url], "panic": "fail"}
    edge.reload(json.dumps(document).encode())
    web, pool = edge.setup.services["web"], edge.services["web"].pool.backends
    document["services"]["api"]["strategy"] = "ewma"
    edge.reload(json.dumps(document).encode())
    assert edge.setup.services["web"] is web
    assert edge.services["web"].pool.backends is pool
    assert edge.setup.services["api"] is not before["api"]
    assert edge.services["api"].pool.backends is not backends["api"]


def test_a_service_is_built_anew_when_its_names_lead_elsewhere_or_clients_are_known_otherwise(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SMARTEDGE_STATE_DIR", str(tmp_path / "state"))
    document = {"services": {"web": {"backends": ["http://a.example"]}}}
    edge = Edge(parse(json.dumps(document)), look_up=lambda _name: ("10.0.0.1",))
    edge.registry.names.found["a.example"] = ("10.0.0.1",)
    try:
        edge.take_place()
        first = edge.setup.services["web"]
        edge._reloader.rebuild_setup()
        assert edge.setup.services["web"] is first
        edge.registry.names.found["a.example"] = ("10.0.0.2",)
        edge._reloader.rebuild_setup()
        second = edge.setup.services["web"]
        assert [one.spec.addresses for one in second.backends] == [("10.0.0.2",)]
        edge.reload(json.dumps({**document, "trusted_proxies": ["10.0.0.0/8"]}).encode())
        assert edge.setup.services["web"] is not second
    finally:
        edge.stop()


def test_a_service_that_is_configured_no_more_is_let_go_and_the_other_goes_on(edge: Edge, one: Script) -> None:
    edge.begin_serving()
    pool, gone = edge.pool, edge.services["api"].pool.backends[0]
    edge.reload(json.dumps({"backends": [{"url": one.url, "id": "a"}]}).encode())
    assert list(edge.services) == ["default"]
    assert edge.pool is pool
    assert gone.transport.adapter._closed
    while gone.key in edge.registry._leaving:
        gevent.sleep(0.01)
    assert edge.config == parse(json.dumps({"backends": [{"url": one.url, "id": "a"}]}))


def many(first: int, count: int = 2 * MANY) -> bytes:
    """A configuration of so many backends, where nobody listens."""
    ids = range(first, first + count)
    return json.dumps({"backends": [{"id": f"b{number}", "url": f"http://127.0.0.1:{number}"} for number in ids]}).encode()


def test_hundreds_of_backends_are_replaced_in_one_step_while_requests_go_on(edge: Edge) -> None:
    """Work that takes long gives way in between, but never with some of it in force and the rest not."""
    edge.begin_serving()
    edge.reload(many(1))
    seen: list[tuple[object, ...]] = []

    def look() -> None:
        while True:
            pool, row = edge.pool, edge._membership
            assert row is not None
            written = tuple(one.id for one in edge.config.backends)
            served = tuple(one.id for one in pool.backends)
            picked = {one.id for one in pool.candidates(edge.now())}
            counted = all(one.learned.cells is row.row_for(one.key).own[0] for one in pool.backends)
            seen.append((written == served, picked <= set(served), counted, edge.generation, served[0]))
            gevent.sleep(0)

    looking = gevent.spawn(look)
    try:
        edge.reload(many(1001))
    finally:
        looking.kill()
    assert {one[:3] for one in seen} == {(True, True, True)}
    steps = [one[3:] for one in seen]
    assert list(dict.fromkeys(steps)) == [(2, "b1"), (3, "b1001")]
    assert steps.count((2, "b1")) > 10


def test_what_hundreds_of_departed_backends_held_is_let_go_of_by_and_by(edge: Edge) -> None:
    edge.begin_serving()
    edge.upkeep.stop()  # which closes what it forgets, too
    edge.reload(many(1))
    gone, membership = edge.pool.backends, edge._membership
    assert membership is not None
    edge.reload(many(51))
    stay = edge.pool.backends
    until(lambda: all(one.transport.adapter._closed for one in gone[:50]))
    edge.upkeep.tidy()
    assert not edge.registry._leaving
    assert set(membership._held) == {EDGE_KEY, "default", *(one.key for one in stay)}
    assert not any(one.transport.adapter._closed for one in stay)
    assert stay[: 2 * MANY - 50] == gone[50:]  # the same objects


def test_the_garbage_collector_is_spared_the_backends_that_a_reload_has_brought(edge: Edge) -> None:
    edge.begin_serving()
    before = gc.get_freeze_count()
    edge.reload(many(1))
    assert gc.get_freeze_count() > before + 2 * MANY
