"""The entries of `backends`: URLs or objects, and what each is called."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from smartedge.config.model import Config, ConfigError, json_schema, parse

ROOT = Path(__file__).parents[2]
A, B = "http://a:1", "http://b:2"


def config(**keys: Any) -> Config:
    return parse(json.dumps({"backends": [A], **keys}))


def test_an_id_is_made_of_host_and_port_and_is_always_a_unique_label() -> None:
    urls = ["http://a", "https://a:80", "http://[::1]:8081", f"http://{'x' * 63}.example", "http://b:2"]
    loaded = parse(json.dumps({"backends": [*urls, {"url": "http://c", "id": "b-2"}]}))

    ids = [backend.id for backend in loaded.backends]
    assert len(set(ids)) == len(ids)
    assert all(0 < len(name) <= 64 for name in ids)
    assert ids[2] == "0--1-8081"
    assert ids[5] == "b-2"
    assert all(name.startswith("a-80-") for name in ids[:2])
    assert parse(json.dumps({"backends": urls[::-1]})).backends[-1].id == ids[0]


def test_the_schema_knows_both_ways_to_write_a_backend() -> None:
    schema = json_schema()
    kinds = schema["properties"]["backends"]["items"]["anyOf"]
    assert {"type": "string"} in kinds
    assert {"$ref": "#/$defs/BackendConfig"} in kinds
    assert schema["additionalProperties"] is False


@pytest.mark.parametrize(
    ("url", "label"),
    [
        ("http://localhost:8081", "localhost-8081"),
        ("http://localhost:8081/app/v1", "localhost-8081-app-v1"),
        ("unix:/run/app.sock", "run-app.sock"),
        ("unix:/run/app.sock:/app", "run-app.sock-app"),
        ("http://a/~user=1", "a-80-user-1"),
        ("http://[::1]:8081", "0--1-8081"),
        ("http://[::]:8081/-x", "0---8081--x"),
        ("http://[2001:db8::1]", "2001-db8--1-80"),
        ("unix:/-x/app.sock", "x-app.sock"),
        ("unix:/-", "none-2c4d52e2"),
    ],
)
def test_a_backend_without_an_id_is_called_what_it_is(url: str, label: str) -> None:
    (spec,) = parse(json.dumps({"backends": [url]})).specs()
    assert (spec.id, spec.url) == (label, url)


def test_what_an_address_of_ipv6_is_called_is_no_others_name() -> None:
    """Regression: it began with a dash, which commands take for an option."""
    urls = ["http://[::1]:8081", "http://[0::1]:8081", "http://0--1:8081", "http://[::]:8081", "http://[1::]:8081"]
    ids = [backend.id for backend in parse(json.dumps({"backends": urls})).backends]
    assert len(set(ids)) == len(urls)
    assert not [one for one in ids if one.startswith("-")]
    assert parse(json.dumps({"backends": urls[::-1]})).backends[-1].id == ids[0]


def test_backends_below_different_paths_of_one_server_are_different_backends() -> None:
    urls = ["http://a/x", "http://a/y", "http://a", "unix:/a/x:/y", "unix:/a/x", "unix:/a-x"]
    loaded = parse(json.dumps({"backends": urls}))
    assert [backend.url for backend in loaded.backends] == urls
    assert len({backend.id for backend in loaded.backends}) == len(urls)
    with pytest.raises(ConfigError, match="already the url"):
        parse(json.dumps({"backends": ["http://a/x", "http://A:80/x/"]}))


def test_a_socket_speaks_no_tls() -> None:
    with pytest.raises(ConfigError, match="is for an https:// URL only"):
        parse(json.dumps({"backends": [{"url": "unix:/run/a.sock", "tls": {"verify": False}}]}))
