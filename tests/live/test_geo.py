"""Near first, for real: zones on addresses of their own, answers as late as the way is long, a zone that goes and comes."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import mmdb
from tests.live.acts import Act
from tests.live.edges import COMMON, LiveEdge, start_edge
from tests.live.open_load import OpenLoad
from tests.live.peers import Call, Script, message
from tests.live.processes import wait_until

WAYS_S = {"near": 0.002, "beside": 0.01, "far": 0.06}
ZONES: dict[str, Any] = {
    "near": {"region": "south", "location": [-23.5, -46.6]},
    "beside": {"region": "south", "location": [-23.4, -46.5]},
    "far": {"region": "north", "location": [50, 8]},
}


def at_the_end_of(way_s: float, zone: str) -> Act:
    """Answer with the zone's name, as late as somebody at the other end of such a way."""

    def act(call: Call) -> None:
        while call.request():
            call.pause(way_s)
            call.send(message(body=zone.encode()))

    return act


@contextlib.contextmanager
def zones(counts: dict[str, int]) -> Iterator[dict[str, list[Script]]]:
    """So many backends in each zone; each zone has a loopback address of its own."""
    with contextlib.ExitStack() as stack:
        yield {
            zone: [
                stack.enter_context(Script(at_the_end_of(WAYS_S[zone], zone), host=f"127.0.{number}.1"))
                for _ in range(counts[zone])
            ]
            for number, zone in enumerate(counts, 1)
        }


def members(scripts: dict[str, list[Script]]) -> list[dict[str, Any]]:
    return [{"url": script.url, "zone": zone} for zone, found in scripts.items() for script in found]


def settle(edge: LiveEdge, *wanted: bool) -> None:
    """Wait until the probes have found out who is there, in the order of the backends."""
    wait_until(lambda: tuple(one["health"] == "healthy" for one in edge.backends()) == wanted, 60, f"health to be {wanted}")


def test_a_zone_that_is_killed_and_started_under_load_costs_no_request_and_has_its_share_back_soon(own: LiveEdge) -> None:
    with zones({"near": 2, "beside": 1, "far": 1}) as scripts:
        own.configure(*members(scripts), zones=ZONES, zone="near", locality={"prefer": "edge"})
        settle(own, True, True, True, True)
        with OpenLoad(own.port) as load:
            wait_until(lambda: len(load.answers) >= 100, 30, "a hundred answers")
            assert set(load.bodies(100)) == {b"near"}

            for script in scripts["near"]:
                script.refuse()
            settle(own, False, False, True, True)
            wait_until(lambda: set(load.bodies(50)) == {b"beside"}, 30, "all to go to the zone beside")
            for script in scripts["beside"]:
                script.refuse()
            settle(own, False, False, False, True)
            wait_until(lambda: set(load.bodies(50)) == {b"far"}, 30, "all to go to the far zone")

            for script in (*scripts["near"], *scripts["beside"]):
                script.accept()
            settle(own, True, True, True, True)
            wait_until(lambda: set(load.bodies(50)) == {b"near"}, 15, "the near zone to have its share back")
            load.stop()
        assert load.failures == []
        assert len(load.answers) == load.sent


def test_half_a_zone_keeps_its_share_and_the_rest_goes_to_the_next(own: LiveEdge) -> None:
    with zones({"near": 2, "beside": 1, "far": 1}) as scripts:
        own.configure(*members(scripts), zones=ZONES, zone="near", locality={"prefer": "edge"}, explain={"sample_ratio": 1})
        settle(own, True, True, True, True)
        scripts["near"][0].refuse()
        settle(own, False, True, True, True)
        found = Counter(own.ask(b"/%d" % number).body for number in range(300))
        assert found.keys() == {b"near", b"beside"}
        assert 0.6 < found[b"near"] / 300 < 0.8

        tiers = own.status()["services"]["default"]["locality"]["tiers"]
        assert [(tier["nearness"], tier["zones"], tier["share_ratio"]) for tier in tiers] == [
            ("same zone", ["near"], 0.7),
            ("same region", ["beside"], 0.3),
            ("farther", ["far"], 0.0),
        ]
        decisions = own.admin("/smartedge/decisions").json()["decisions"]
        assert any("(same zone, tier 0 of 3 carries 70%; " in one["summary"] for one in decisions)
        assert any("(same region, tier 1 of 3 carries 30%; " in one["summary"] for one in decisions)
        metrics = own.admin("/metrics").text
        assert 'smartedge_tier_requests_total{service="default",tier="0",zone="near"}' in metrics
        assert 'smartedge_tier_requests_total{service="default",tier="1",zone="beside"}' in metrics


def test_full_backends_spill_before_anybody_waits(own: LiveEdge) -> None:
    with zones({"near": 1, "far": 1}) as scripts:
        caps = [{**member, "max_in_flight": 2} for member in members(scripts)]
        own.configure(*caps, zones=ZONES, zone="near", locality={"prefer": "edge"}, limits={"queue": 0})
        settle(own, True, True)
        scripts["near"][0].play(at_the_end_of(1.0, "near"))
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(own.client()) for _ in range(3)]
            for client in clients:
                client.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
            assert sorted(client.answer().body for client in clients) == [b"far", b"near", b"near"]


def test_it_holds_under_gunicorn_with_several_services_and_a_backup(edge: LiveEdge) -> None:
    with zones({"near": 1, "far": 1}) as scripts:
        services = {
            "web": {"backends": members(scripts), "locality": {"prefer": "edge"}},
            "api": {"backends": [{**one, "priority": int(one["zone"] == "near")} for one in members(scripts)]},
        }
        routes = [{"path": "/api", "to": "api"}, {"to": "web"}]
        document = {"services": services, "routes": routes, "zones": ZONES, "zone": "near", **COMMON}
        assert edge.admin("/api/reload", "POST", body=json.dumps(document)).status == 200
        settle(edge, True, True, True, True)
        assert {edge.ask(b"/x").body for _ in range(10)} == {b"near"}
        assert {edge.ask(b"/api").body for _ in range(10)} == {b"far"}  # the near one is a backup there
        scripts["far"][0].refuse()
        assert {edge.ask(b"/api").body for _ in range(10)} == {b"near"}


@pytest.mark.parametrize("prefer", ["networks", "header", "database"])
def test_the_nearest_to_the_client_answers(own: LiveEdge, tmp_path: Path, prefer: str) -> None:
    """Asked through a trusted proxy, which says who asks; what a client says of itself changes nothing."""
    ways: dict[str, Any] = {
        "networks": {"networks": {"198.51.100.0/24": "far"}},
        "header": {"header": "CF-IPCountry"},
        "database": {"database": str(mmdb.write(tmp_path / "x.mmdb", {"198.51.100.0/24": mmdb.at(52, 13)}))},
    }
    with zones({"near": 1, "far": 1}) as scripts:
        own.configure(
            *members(scripts),
            zones=ZONES,
            zone="near",
            locality={"prefer": "client", **ways[prefer]},
            trusted_proxies=["127.0.0.0/8"],
        )
        settle(own, True, True)
        told = b"X-Forwarded-For: 198.51.100.7\r\nCF-IPCountry: DE\r\n"
        assert {own.ask(headers=told).body for _ in range(10)} == {b"far"}
        for unknown in (
            b"",
            b"X-Forwarded-For: 10.0.0.1\r\nCF-IPCountry: XX\r\n",
            b"X-Forwarded-For: bogus\r\nCF-IPCountry: \xff\r\n",
        ):
            assert {own.ask(headers=unknown).body for _ in range(5)} == {b"near"}  # as at the edge
        own.configure(*members(scripts), zones=ZONES, zone="near", locality={"prefer": "client", **ways[prefer]})
        settle(own, True, True)
        assert {own.ask(headers=told).body for _ in range(5)} == {b"near"}


def test_workers_follow_a_database_that_is_replaced_and_keep_it_when_it_is_spoilt(tmp_path: Path) -> None:
    path = mmdb.write(tmp_path / "x.mmdb", {"127.0.0.0/8": mmdb.at(-20, -45)})
    with zones({"near": 1, "far": 1}) as scripts:
        said = {"prefer": "client", "database": str(path)}
        arguments = ("--workers", "2", "--zone", "near")
        with start_edge(tmp_path, *members(scripts), arguments=arguments, zones=ZONES, locality=said) as edge:
            assert edge.status()["services"]["default"]["locality"]["zone"] == "near"
            settle(edge, True, True)
            assert {edge.ask().body for _ in range(20)} == {b"near"}
            mmdb.write(path, {"127.0.0.0/8": mmdb.at(52, 13)})
            wait_until(lambda: {edge.ask().body for _ in range(20)} == {b"far"}, 30, "both workers to go by the new one")
            path.write_bytes(path.read_bytes()[:100])
            wait_until(lambda: "the one before stays in use" in edge.output, 30, "it to be told")
            assert {edge.ask().body for _ in range(20)} == {b"far"}
            assert json.loads((tmp_path / "backends.json").read_text())["locality"] == said
