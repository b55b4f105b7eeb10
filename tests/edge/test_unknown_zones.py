"""Which zones are named and not explained."""

from __future__ import annotations

import json
from typing import Any

from smartedge.config.model import parse
from smartedge.edge.cautions import cautions
from smartedge.edge.unknown_zones import unknown_zones


def told(**keys: Any) -> list[str]:
    config = parse(json.dumps(keys))
    found = unknown_zones(config)
    assert [
        text for text in cautions(config, {}, has_token=False) if "none of the zones" in text or "where no backend does" in text
    ] == found
    return found


def test_a_zone_that_the_table_does_not_have_is_told_with_the_one_that_was_meant() -> None:
    backends = [{"url": "http://a:1", "id": "b1", "zone": "east-1a"}, {"url": "http://a:2", "id": "b2", "zone": "esat-1a"}]
    assert told(backends=backends, zones={"east-1a": {}}, zone="west") == [
        'zone: the edge stands in "west", which is none of the zones',
        'backends: b2 stands in "esat-1a", which is none of the zones; did you mean "east-1a"?',
    ]


def test_those_of_services_are_told_with_their_service() -> None:
    services = {"api": {"backends": [{"url": "http://a:1", "id": "b1", "zone": "x"}]}}
    assert told(services=services, zones={"y": {}}, routes=[{"to": "api"}]) == [
        'backends: api/b1 stands in "x", which is none of the zones'
    ]


def test_without_a_table_any_name_will_do() -> None:
    assert told(backends=[{"url": "http://a:1", "zone": "x"}, "http://a:2"], zone="y") == []
    assert told(backends=["http://a:2"], zones={"y": {}}, zone="y") == []


def test_without_a_table_the_edge_and_its_clients_should_stand_where_some_backend_does() -> None:
    backends = [{"url": "http://a:1", "zone": "east"}]
    assert told(backends=backends, zone="esat", locality={"prefer": "edge"}) == [
        'zone: the edge stands in "esat", where no backend does; did you mean "east"?'
    ]
    assert told(backends=backends, zone="east", locality={"prefer": "edge"}) == []
    assert told(backends=backends, locality={"prefer": "client", "networks": {"10.0.0.0/8": "wset", "11.0.0.0/8": "east"}}) == [
        'locality.networks: a client in 10.0.0.0/8 stands in "wset", where no backend does'
    ]
    found = {"file": {"path": "more.json"}}
    assert told(backends=backends, discover=found, zone="x", locality={"prefer": "edge"}) == []
