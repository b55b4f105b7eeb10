"""The key `discover`: which sources may stand there, what they are in the end, and how what is wrong is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from smartedge.config.model import Config, ConfigError, parse

OWN = """
class Source:
    def __init__(self, region, size=1):
        pass
    def snapshot(self):
        return []

class Nothing:
    pass
"""


def config(discover: Any, **more: Any) -> Config:
    return parse(json.dumps({"discover": discover, **more}))


def wrong(discover: Any, **more: Any) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        config(discover, **more)
    return {problem.path: problem.message for problem in caught.value.problems}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "own_source.py").write_text(OWN)
    return tmp_path


@pytest.mark.parametrize(
    ("kind", "said", "key", "value"),
    [
        ("dns", {"name": "Web.Internal", "port": 8000}, "name", "web.internal"),
        (
            "dns",
            {"name": "web", "port": 8000, "servers": ["10.0.0.2", "::1", "[::1]:54"]},
            "servers",
            ("10.0.0.2:53", "[::1]:53", "[::1]:54"),
        ),
        ("dns", {"name": "_http._tcp.web.", "type": "SRV"}, "max_ttl_s", 300.0),
        ("consul", {"service": "api", "tags": ["prod"], "near": "_agent"}, "address", "http://127.0.0.1:8500"),
        ("etcd", {"prefix": "/services/api/"}, "endpoints", ("http://127.0.0.1:2379",)),
        (
            "etcd",
            {"prefix": "/x/", "defaults": {"weight": 3, "health": {"path": "/up"}}},
            "entry_defaults",
            {"weight": 3, "health": {"path": "/up"}},
        ),
        ("file", {"path": "api.json", "allow_empty": True, "defaults": {}}, "entry_defaults", {}),
    ],
)
def test_a_source_is_read_with_its_defaults_and_written_back_the_same(kind: str, said: Any, key: str, value: Any) -> None:
    made = config({kind: said})

    assert getattr(made.discover.sources[kind], key) == value
    assert parse(made.to_json()).to_json() == made.to_json()


def test_a_service_may_have_several_sources_beside_written_backends_or_none() -> None:
    made = parse(
        json.dumps(
            {
                "services": {
                    "web": {"discover": {"file": {"path": "a"}, "dns": {"name": "web", "port": 1}}},
                    "api": {"discover": {"etcd": {"prefix": "/a/"}}, "backends": ["http://a:1"]},
                    "old": {"backends": []} | {"discover": {"file": {"path": "b"}}},
                },
                "routes": [{"path": "/api", "to": "api"}, {"path": "/old", "to": "old"}, {"to": "web"}],
            }
        )
    )

    found = {service.name: list(service.config.discover.sources) for service in made.all_services()}
    assert found == {"api": ["etcd"], "old": ["file"], "web": ["dns", "file"]}
    assert parse(made.to_json()) == made


def test_the_short_form_may_have_a_source_alone_which_no_other_service_inherits() -> None:
    made = config(
        {"file": {"path": "a"}},
        services={"web": {"backends": ["http://a:1"]}},
        routes=[{"path": "/w", "to": "web"}, {"to": "default"}],
    )

    assert [(service.name, service.config.discover is None) for service in made.all_services()] == [
        ("default", False),
        ("web", True),
    ]


@pytest.mark.parametrize(
    ("discover", "path", "message"),
    [
        ([], "discover", "must be an object, not a list"),
        ({}, "discover", "must name a source: one of dns, consul, etcd, file, or a class of your own"),
        ({"dns": {"name": "web"}}, "discover.dns.port", "is missing; A and AAAA records say no port"),
        (
            {"dns": {"name": "web", "type": "SRV", "port": 1}},
            "discover.dns.port",
            "must not stand beside SRV, whose records say it",
        ),
        ({"dns": {"name": "web", "type": "MX", "port": 1}}, "discover.dns.type", 'must be "A" or "SRV", not "MX"'),
        ({"dns": {"name": "a b", "port": 1}}, "discover.dns.name", 'must be a name such as "web.internal", not "a b"'),
        (
            {"dns": {"name": "a", "port": 1, "servers": ["ns"]}},
            "discover.dns.servers[0]",
            'must be an address such as "10.0.0.2" or "10.0.0.2:5353", not "ns"',
        ),
        ({"dns": {"name": "a", "port": 1, "max_ttl_s": 0.5}}, "discover.dns.max_ttl_s", "must not be less than min_ttl_s"),
        ({"consul": {}}, "discover.consul.service", "is missing"),
        (
            {"consul": {"service": "a", "address": "unix:/x"}},
            "discover.consul.address",
            '"unix:/x" must start with http:// or https://',
        ),
        (
            {"consul": {"service": "a", "token_file": "/nowhere"}},
            "discover.consul.token_file",
            'names "/nowhere", which is no file here',
        ),
        ({"dns": {"name": "a", "port": 1, "min_ttl_s": 400}}, "discover.dns.max_ttl_s", "must not be less than min_ttl_s"),
        ({"etcd": {"prefix": "/", "endpoints": []}}, "discover.etcd.endpoints", "must hold at least 1, not 0"),
        (
            {"etcd": {"prefix": "/", "endpoints": ["etcd://a"]}},
            "discover.etcd.endpoints[0]",
            '"etcd://a" must start with http:// or https://',
        ),
        (
            {"etcd": {"prefix": "/", "endpoints": ["127.0.0.1:2379"]}},
            "discover.etcd.endpoints[0]",
            '"127.0.0.1:2379" must start with http:// or https://',
        ),
        (
            {"etcd": {"prefix": "/", "defaults": {"weight": "2"}}},
            "discover.etcd.defaults.weight",
            'must be a whole number, not "2" (write it without quotes)',
        ),
        (
            {"etcd": {"prefix": "/", "defaults": {"url": "x"}}},
            "discover.etcd.defaults",
            'must not hold "url", which each backend that is found has of its own',
        ),
        ({"etcd": {"prefix": "/", "defaults": 3}}, "discover.etcd.defaults", "must be an object, not 3"),
        ({"file": {"path": ""}}, "discover.file.path", 'must be a text of one line that is not empty, not ""'),
    ],
)
def test_what_is_wrong_with_a_source_is_said_by_its_path(discover: Any, path: str, message: str) -> None:
    assert wrong(discover) == {path: message}


@pytest.mark.parametrize(
    ("said", "beginning"),
    [
        (
            {"etdc": {}},
            'must be "dns", "consul", "etcd", "file" or a class such as "package.module:Class", not "etdc"; did you mean "etcd"?',
        ),
        ({"own_source:Nothing": {}}, '"own_source:Nothing" must be a class with a method "snapshots" or "snapshot"'),
        ({"own_source:Source": {}}, "does not fit the class: TypeError: missing a required argument: 'region'"),
        (
            {"own_source:Source": {"region": 1, "sice": 2}},
            "does not fit the class: TypeError: got an unexpected keyword argument 'sice'",
        ),
        ({"own_source:Source": 3}, "must be an object, not 3"),
        ({"no_such_module:Source": {}}, '"no_such_module:Source" cannot be imported: ModuleNotFoundError'),
    ],
)
def test_a_source_of_ones_own_that_cannot_be_made_is_refused(said: Any, beginning: str, here: Path) -> None:
    (kind,) = said

    found = wrong(said)
    assert list(found) in ([f"discover.{kind}"], [f'discover["{kind}"]'])
    assert found.popitem()[1].startswith(beginning)


def test_a_source_of_ones_own_has_its_options_and_the_common_keys(here: Path) -> None:
    made = config({"own_source:Source": {"region": "eu", "size": 3, "every_s": 1.0, "defaults": {"weight": 2}}})

    source = made.discover.sources["own_source:Source"]
    assert (source.options, source.every_s, source.entry_defaults) == ({"region": "eu", "size": 3}, 1.0, {"weight": 2})
    assert parse(made.to_json()).to_json() == made.to_json()


def test_srv_and_name_servers_of_ones_own_ask_for_dnspython(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smartedge.config.discover.find_spec", lambda name: None)

    assert config({"dns": {"name": "web", "port": 80}})
    assert wrong({"dns": {"name": "web", "type": "SRV"}}) == {
        "discover.dns.type": "cannot be \"SRV\" without the package dnspython: pip install 'smartedge[dns]'"
    }
    assert "smartedge[dns]" in wrong({"dns": {"name": "web", "port": 1, "servers": ["::1"]}})["discover.dns.servers"]


def test_a_service_without_backends_and_without_a_source_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        parse('{"services": {"web": {}, "api": {"backends": []}}, "routes": [{"path": "/a", "to": "api"}, {"to": "web"}]}')

    found = {problem.path: problem.message for problem in caught.value.problems}
    assert found["services.web.backends"].startswith("is missing; such as")
    assert found["services.api.backends"].startswith("must hold at least one backend")
