"""Where servers stand: zones, regions, coordinates, and the edge's own zone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from smartedge.config.model import Config, ConfigError, load, parse

PLACES = {"b": {"region": "south", "location": [-23.55, -46]}, "a": {}}


def config(**keys: Any) -> Config:
    return parse(json.dumps({"backends": [{"url": "http://a:1"}], **keys}))


def test_zones_have_a_region_and_a_location_or_only_a_name() -> None:
    found = config(zones=PLACES, zone="a")
    assert [(name, one.region, one.location) for name, one in found.zones.items()] == [
        ("a", None, None),
        ("b", "south", (-23.55, -46.0)),
    ]
    assert found.zone == "a"
    again = parse(found.to_json())
    assert (again, again.etag, hash(again)) == (found, found.etag, hash(found))
    assert config().zones == {}
    assert config().zone is None


def test_a_backend_says_where_it_stands_and_when_its_turn_is() -> None:
    written = {"url": "http://a:1", "zone": "a", "region": "north", "location": [0, 180], "priority": 10}
    (spec,) = config(backends=[written]).specs()
    assert (spec.zone, spec.region, spec.location, spec.priority) == ("a", "north", (0.0, 180.0), 10)
    (plain,) = config().specs()
    assert (plain.zone, plain.region, plain.location, plain.priority) == (None, None, None, 0)


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ([91, 0], "must have a latitude from -90 to 90, not 91; the latitude comes first"),
        ([-90.5, 170], "must have a latitude from -90 to 90, not -90.5"),
        ([0, 180.5], "must have a longitude from -180 to 180, not 180.5"),
        ([1], "must be a latitude and a longitude in degrees, such as [-23.55, -46.63], not a list"),
        ([1, 2, 3], "must be a latitude and a longitude in degrees"),
        (["1", 2], "must be a latitude and a longitude in degrees"),
        ([True, 2], "must be a latitude and a longitude in degrees"),
        ("1,2", 'must be a latitude and a longitude in degrees, such as [-23.55, -46.63], not "1,2"'),
        ({"lat": 1, "lon": 2}, "must be a latitude and a longitude in degrees"),
        ([10**400, 2], "must have a latitude from -90 to 90, not 1000000"),
    ],
)
def test_a_location_that_is_none_is_refused(written: Any, message: str) -> None:
    backend = {"url": "http://a:1", "location": written}
    with pytest.raises(ConfigError) as caught:
        config(backends=[backend], zones={"a": {"location": written}})
    found = {problem.path: problem.message for problem in caught.value.problems}
    assert found.keys() == {"backends[0].location", "zones.a.location"}
    assert all(text.startswith(message) for text in found.values())


@pytest.mark.parametrize(
    ("keys", "path", "message"),
    [
        ({"zones": []}, "zones", "must be an object"),
        ({"zones": {"a b": {}}}, 'zones["a b"]', "must be 1 to 64 of the characters"),
        ({"zones": {"none": {}}}, "zones.none", 'must not be "none"'),
        ({"zones": {"a": {"regoin": "x"}}}, "zones.a.regoin", 'is an unknown key; did you mean "region"?'),
        ({"zones": {"a": {"region": "x y"}}}, "zones.a.region", "must be 1 to 64"),
        ({"zone": ""}, "zone", "must be 1 to 64"),
        ({"backends": [{"url": "http://a", "priority": -1}]}, "backends[0].priority", "must be at least 0"),
        ({"backends": [{"url": "http://a", "priority": 65536}]}, "backends[0].priority", "must be at most 65535"),
        ({"backends": [{"url": "http://a", "region": "?"}]}, "backends[0].region", "must be 1 to 64"),
    ],
)
def test_what_is_wrong_is_said_where_it_stands(keys: dict[str, Any], path: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config(**keys)
    ((found, text),) = [(problem.path, problem.message) for problem in caught.value.problems]
    assert found == path
    assert text.startswith(message)


def test_the_edges_zone_is_its_flags_its_variables_or_the_files(tmp_path: Path) -> None:
    file = tmp_path / "backends.json"
    file.write_text(json.dumps({"backends": ["http://a:1"], "zone": "in-file"}))
    env = {"SMARTEDGE_ZONE": "in-env"}
    assert load(file).zone == "in-file"
    assert load(file, env).zone == "in-env"
    assert load(file, env, {"zone": "in-flag"}).zone == "in-flag"
    with pytest.raises(ConfigError, match="--zone: must be 1 to 64 of the characters"):
        load(file, env, {"zone": "São Paulo"})
    with pytest.raises(ConfigError, match="SMARTEDGE_ZONE: must be 1 to 64 of the characters"):
        load(file, {"SMARTEDGE_ZONE": "a b"})
