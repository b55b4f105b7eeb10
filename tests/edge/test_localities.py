"""What zones and localities of a configuration mean in a worker, from one setup to the next."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import gevent
import pytest

from smartedge.app import SmartEdge
from smartedge.balancer.places import NOWHERE, Place
from smartedge.balancer.pool import Pool
from smartedge.balancer.spec import DEFAULT_SERVICE
from smartedge.balancer.strategies.menu import ConsistentHash
from smartedge.config.backends import BackendConfig
from smartedge.config.model import ConfigError, parse
from smartedge.edge.cautions import cautions
from smartedge.edge.edge import Edge
from smartedge.edge.origin import ConfigOrigin
from smartedge.edge.setup import ServiceSetup, Setup
from smartedge.process.preflight import check_usable
from tests import mmdb
from tests.fakes import local_client
from tests.house import request, setup_builder, until
from tests.live.peers import Script, answers

ZONES = {"a": {"region": "south", "location": [-23.5, -46.6]}, "b": {"region": "north", "location": [50, 8]}}
BACKENDS = [{"url": "http://localhost:1", "id": "a1", "zone": "a"}, {"url": "http://localhost:2", "id": "b1", "zone": "b"}]


class Builder:
    """Builds one setup after another."""

    def __init__(self) -> None:
        self.origin = ConfigOrigin(None, {})
        self.builder = setup_builder(self.origin)
        self.setup: Setup | None = None

    def service(self, **keys: Any) -> ServiceSetup:
        document = {"backends": BACKENDS, "zones": ZONES, **keys}
        self.setup = self.builder.build_setup(self.origin.parse_text(json.dumps(document).encode()), self.setup)
        return self.setup.services[DEFAULT_SERVICE]


def test_without_locality_nothing_is_narrowed() -> None:
    service = Builder().service(zone="a")
    assert service.near is None
    assert service.policy.affinity is None


def test_the_edge_stands_where_its_zone_is() -> None:
    builder = Builder()
    near = builder.service(zone="a", locality={"prefer": "edge", "spill_ratio": 2, "blend_rtt": True}).near
    assert near is not None
    assert near.locality.origin == Place("a", "south", (-23.5, -46.6))
    assert (near.locality.spill.spill_ratio, near.locality.blend_rtt, near.locality.by_client) == (2.0, True, False)
    unknown = builder.service(zone="x", locality={"prefer": "edge"}).near
    assert unknown is not None
    assert unknown.locality.origin == Place("x")
    nowhere = builder.service(locality={"prefer": "edge"}).near
    assert nowhere is not None
    assert nowhere.locality.origin == NOWHERE


def test_another_zone_or_table_of_zones_builds_services_anew_and_the_same_does_not() -> None:
    builder = Builder()
    before = builder.service(zone="a", locality={"prefer": "edge"})
    assert builder.setup is not None
    assert builder.builder.build_setup(builder.setup.config, builder.setup).services[DEFAULT_SERVICE] is before
    after = builder.service(zone="b", locality={"prefer": "edge"})
    assert after.near is not None
    assert after.near.locality.origin.zone == "b"


def test_priorities_alone_make_tiers() -> None:
    backup = [BACKENDS[0], {**BACKENDS[1], "priority": 1}]
    near = Builder().service(backends=backup, zone="b").near
    assert near is not None
    assert near.locality.origin == NOWHERE  # nobody has asked for nearness


def test_backends_that_were_found_stand_where_their_source_says() -> None:
    builder = Builder()
    document = {
        "backends": BACKENDS,
        "discover": {"file": {"path": "more.json"}},
        "zones": ZONES,
        "zone": "a",
        "locality": {"prefer": "edge"},
    }
    written = builder.origin.parse_text(json.dumps(document).encode())
    found = [
        BackendConfig(url="http://localhost:3", id="b2", zone="b"),
        BackendConfig(url="http://localhost:4", id="a9", zone="a", priority=10),
    ]
    setup = builder.builder.build_setup(written.with_found({DEFAULT_SERVICE: tuple(found)}), None).services[DEFAULT_SERVICE]
    pool = Pool(setup.backends, setup.strategy, Random(1), near=setup.near)
    pool.candidates(1.0)
    assert pool.near is not None
    view = pool.near.refreshed_view()
    assert [sorted(one.id for one in pool.near.members(run)) for run in view.runs] == [["a1"], ["b1", "b2"], ["a9"]]


def test_each_tier_has_a_strategy_of_its_own_that_goes_by_the_same_settings() -> None:
    service = Builder().service(zone="a", locality={"prefer": "edge"}, strategy="consistent_hash", hash={"bounded_load_ratio": 3})
    assert service.near is not None
    made = service.near._make_strategy()
    assert isinstance(made, ConsistentHash)
    assert made.bounded_load_ratio == 3
    assert service.near._make_strategy() is not made


def test_clients_are_known_by_networks_and_zones(tmp_path: Path) -> None:
    said = {"prefer": "client", "networks": {"10.1.0.0/16": "a", "10.2.0.0/16": "x"}}
    affinity = Builder().service(locality=said).policy.affinity
    assert affinity is not None
    assert affinity.read(request(peer=b"10.1.2.3")) == (b"", None, Place("a", "south", (-23.5, -46.6)))
    assert affinity.read(request(peer=b"10.2.2.3")) == (b"", None, Place("x"))
    assert affinity.read(request(peer=b"10.3.2.3")) == (b"", None, None)


def test_a_database_that_cannot_be_used_refuses_the_configuration(tmp_path: Path) -> None:
    path = tmp_path / "x.mmdb"
    path.write_bytes(b"nothing")
    builder = Builder()
    builder.builder.databases.join_workers(None)
    builder.service()
    before = builder.setup
    said = {"prefer": "client", "database": str(path)}
    message = f"locality.database: names .*{path.name}.*, which is no MaxMind database, or is cut short"
    with pytest.raises(ConfigError, match=message):
        builder.service(locality=said)
    assert builder.setup is before
    config = parse(json.dumps({"backends": BACKENDS, "locality": said}))
    with pytest.raises(ConfigError, match=message):
        check_usable(config, {}, {}, None)
    mmdb.write(path, {"192.0.2.0/24": mmdb.at(1, 2)})
    check_usable(config, {}, {}, None)
    affinity = builder.service(locality=said).policy.affinity
    assert affinity is not None
    assert affinity.read(request(peer=b"192.0.2.1"))[2] == Place(location=(1, 2))


def told(**keys: Any) -> list[str]:
    found = cautions(parse(json.dumps({"backends": BACKENDS, "zones": ZONES, **keys})), {}, has_token=True)
    return [text.partition(":")[0] for text in found]


def test_what_nearness_cannot_go_by_is_told() -> None:
    assert told(locality={"prefer": "edge"}) == ["locality"]
    assert told(locality={"prefer": "edge"}, zone="a") == []
    header = {"prefer": "client", "header": "CF-IPCountry"}
    assert told(locality=header) == ["locality.header"]
    assert told(locality=header, trusted_proxies=["10.0.0.0/8"]) == []
    assert told(locality={"prefer": "client", "networks": {"10.0.0.0/8": "c"}}) == ["locality.networks"]


@pytest.fixture
def far() -> Iterator[Script]:
    with gevent.Timeout(30), Script(answers(body=b"far")) as script:
        yield script


@pytest.fixture
def near() -> Iterator[Script]:
    with Script(answers(body=b"near")) as script:
        yield script


def test_a_worker_follows_a_database_that_is_replaced(
    near: Script, far: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SMARTEDGE_STATE_DIR", str(tmp_path / "state"))
    path = mmdb.write(tmp_path / "x.mmdb", {"127.0.0.0/8": mmdb.at(-20, -45)})
    backends = [{"url": near.url, "id": "a1", "zone": "a"}, {"url": far.url, "id": "b1", "zone": "b"}]
    said = {"prefer": "client", "database": str(path)}
    edge = Edge(parse(json.dumps({"backends": backends, "zones": ZONES, "locality": said})))
    try:
        edge.begin_serving()
        until(lambda: all(one.learned.health.state == "healthy" for one in edge.backends()))
        assert edge._membership is not None
        assert edge._membership.state is not None
        state = edge._membership.state.path
        before = list(state.glob("*.mmdb"))
        assert len(before) == 1
        assert {ask(edge) for _ in range(5)} == {b"near"}
        mmdb.write(path, {"127.0.0.0/8": mmdb.at(52, 13)})
        until(lambda: list(state.glob("*.mmdb")) != before, 20)  # Requests would cost a second of computing until then.
        until(lambda: {ask(edge) for _ in range(5)} == {b"far"})
    finally:
        edge.stop()


def ask(edge: Edge) -> bytes:
    return local_client(SmartEdge(edge)).get("/", buffered=True).data


def test_a_backup_can_be_one_that_gets_nothing_while_any_other_is_available() -> None:
    backup = [BACKENDS[0], {**BACKENDS[0], "url": "http://localhost:3", "id": "a2"}, {**BACKENDS[1], "priority": 1}]
    for said, shares in (({}, [0.7, 0.3]), ({"failover_only": True}, [1.0, 0.0])):
        setup = Builder().service(backends=backup, locality=said)
        pool = Pool(setup.backends, setup.strategy, Random(1), near=setup.near)
        for backend in pool.backends:
            backend.learned.health.probed(backend.id != "a2")
        pool.renew_candidates()
        pool.candidates(1.0)
        assert pool.near is not None
        assert pool.near.refreshed_view().shares == pytest.approx(shares)
