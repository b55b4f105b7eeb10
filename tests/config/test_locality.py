"""The key `locality`: what it may say, and what is wrong with the rest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from smartedge.balancer.locality import SpillPolicy
from smartedge.config import locality
from smartedge.config.locality import LocalityConfig
from smartedge.config.model import Config, ConfigError, parse


def config(said: Any, **keys: Any) -> Config:
    return parse(json.dumps({"backends": ["http://a:1"], "locality": said, **keys}))


def wrong(said: Any) -> tuple[str, str]:
    with pytest.raises(ConfigError) as caught:
        config(said)
    ((path, message),) = [(problem.path, problem.message) for problem in caught.value.problems]
    return path, message


def test_nothing_is_preferred_unless_it_is_said() -> None:
    assert LocalityConfig().prefer is None
    assert LocalityConfig().spill == SpillPolicy(1.4, failover_only=False, min_available=1)
    assert config({"prefer": "edge"}).locality.prefer == "edge"


def test_all_keys_come_back_from_the_canonical_text(tmp_path: Path) -> None:
    database = tmp_path / "x.mmdb"
    database.write_bytes(b"x")
    said = {
        "prefer": "client",
        "database": str(database),
        "header": ["CF-IPLatitude", "CF-IPLongitude"],
        "networks": {"2001:db8::/32": "b", "10.1.0.0/16": "a", "10.0.0.0/8": "b", "192.0.2.1": "a"},
        "spill_ratio": 2,
        "failover_only": True,
        "min_available": 3,
    }
    found = config(said)
    assert found.locality.networks == (("10.0.0.0/8", "b"), ("10.1.0.0/16", "a"), ("192.0.2.1/32", "a"), ("2001:db8::/32", "b"))
    assert found.locality.spill == SpillPolicy(2.0, failover_only=True, min_available=3)
    again = parse(found.to_json())
    assert (again, again.etag, hash(again)) == (found, found.etag, hash(found))


def test_services_have_localities_of_their_own() -> None:
    services = {"web": {"backends": ["http://a:1"]}, "api": {"backends": ["http://a:2"], "locality": {"spill_ratio": 2}}}
    found = parse(json.dumps({"services": services, "locality": {"prefer": "edge"}, "routes": [{"to": "web"}]}))
    assert [(one.config.locality.prefer, one.config.locality.spill_ratio) for one in found.all_services()] == [
        ("edge", 2.0),
        ("edge", 1.4),
    ]


@pytest.mark.parametrize(
    ("said", "path", "message"),
    [
        ({"prefer": "nearest"}, "locality.prefer", 'must be "edge" or "client", not "nearest"'),
        ({"prefer": "client"}, "locality", "needs a database, a header or networks that say where clients are"),
        (
            {"prefer": "edge", "header": "CF-IPCountry"},
            "locality.header",
            'says where clients are; it needs prefer to be "client"',
        ),
        ({"networks": {"10.0.0.0/8": "a"}}, "locality.networks", 'says where clients are; it needs prefer to be "client"'),
        ({"prefer": "client", "header": "a b"}, "locality.header", "must be a name of 1 to 64 letters"),
        ({"prefer": "client", "header": ["a"]}, "locality.header", "must be the name of a header field, such as"),
        ({"prefer": "client", "header": 5}, "locality.header", "must be the name of a header field, such as"),
        ({"prefer": "client", "networks": {"10.0.0.0/33": "a"}}, "locality.networks", '"10.0.0.0/33"'),
        ({"prefer": "client", "networks": {"10.0.0.0/8": "a b"}}, "locality.networks", "must be 1 to 64 of the characters"),
        ({"prefer": "client", "networks": {"10.0.0.0/8": 5}}, "locality.networks", 'must have a zone for "10.0.0.0/8", not 5'),
        (
            {"prefer": "client", "networks": {"2001:db8::/32": "a", "2001:DB8::/32": "b"}},
            "locality.networks",
            "has two zones for 2001:db8::/32: a and b",
        ),
        ({"prefer": "client", "networks": ["10.0.0.0/8"]}, "locality.networks", "must be an object of ranges and zones"),
        ({"prefer": "edge", "spill_ratio": 0.9}, "locality.spill_ratio", "must be at least 1"),
        ({"prefer": "edge", "spill_ratio": "1.4"}, "locality.spill_ratio", "must be a number"),
        ({"prefer": "edge", "min_available": 0}, "locality.min_available", "must be at least 1"),
        ({"prefer": "edge", "failover_only": 1}, "locality.failover_only", "must be true or false"),
        ({"blend_rtt": True}, "locality.blend_rtt", 'needs prefer to be "edge"'),
        ({"prefer": "edge", "blend": True}, "locality.blend", 'is an unknown key; did you mean "blend_rtt"?'),
        (
            {"prefer": "client", "database": "/nowhere/x.mmdb"},
            "locality.database",
            'names "/nowhere/x.mmdb", which is no file here',
        ),
        ({"prefer": "client", "database": "/"}, "locality.database", 'names "/", which is no file here'),
    ],
)
def test_what_is_wrong_is_said_where_it_stands(said: Any, path: str, message: str) -> None:
    found, text = wrong(said)
    assert found == path
    assert message in text


def test_what_is_measured_is_not_the_way_from_the_client() -> None:
    path, message = wrong({"prefer": "client", "networks": {"10.0.0.0/8": "a"}, "blend_rtt": True})
    assert (path, message) == (
        "locality.blend_rtt",
        'needs prefer to be "edge": what is measured is the way from here, not from the client',
    )


def test_a_huge_database_and_a_huge_table_are_refused(tmp_path: Path) -> None:
    huge = tmp_path / "x.mmdb"
    with open(huge, "wb") as file:
        file.truncate(locality.MOST_DATABASE_BYTES + 1)
    assert "which is longer than 1073741824 bytes" in wrong({"prefer": "client", "database": str(huge)})[1]
    table = {f"10.{n >> 8}.{n & 255}.0/24": "a" for n in range(locality.MOST_NETWORKS + 1)}
    assert "must hold at most 10000 ranges, not 10001" in wrong({"prefer": "client", "networks": table})[1]
