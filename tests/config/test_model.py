from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from smartedge.balancer.breaker import BreakerPolicy
from smartedge.balancer.health import ANSWERED, OK_STATUSES, HealthPolicy
from smartedge.balancer.rate_limit import RatePolicy
from smartedge.balancer.spec import TlsSpec
from smartedge.config.cluster import ClusterConfig
from smartedge.config.discover import ConsulConfig, DnsConfig, EtcdConfig, FileConfig
from smartedge.config.model import CHECKED_APART, Config, ConfigError, json_schema, load, parse
from smartedge.config.route_sections import BasicAuthConfig, ForwardAuthConfig, MirrorConfig
from smartedge.config.section import Section, docstrings
from tests.config.sections import models
from tests.policies import backend_spec, breaker_policy, health_policy, retry_policy

ROOT = Path(__file__).parents[2]
A, B = "http://a:1", "http://b:2"


def config(**keys: Any) -> Config:
    return parse(json.dumps({"backends": [A], **keys}))


def test_the_smallest_configuration_is_a_list_of_urls_and_every_other_key_has_its_default() -> None:
    assert json.loads(parse('{"backends": ["http://localhost:8081"]}').to_json()) == {
        "backends": [
            {
                "url": "http://localhost:8081",
                "id": "localhost-8081",
                "weight": 1,
                "zone": None,
                "region": None,
                "location": None,
                "priority": 0,
                "protocol": None,
                "health": None,
                "preserve_host": None,
                "max_in_flight": None,
                "tls": None,
                "labels": {},
                "state": "enabled",
            }
        ],
        "routes": [],
        "strategy": "adaptive",
        "hash": {"by": "client", "bounded_load_ratio": 1.25},
        "sticky": {
            "cookie": None,
            "secret_file": None,
            "max_age_s": None,
            "path": None,
            "domain": None,
            "same_site": None,
            "secure": None,
        },
        "locality": {
            "prefer": None, "database": None, "header": None, "networks": {}, "spill_ratio": 1.4, "failover_only": False,
            "min_available": 1, "blend_rtt": False,
        },
        "health": {
            "type": "http", "method": "GET", "path": None, "host": None, "headers": {}, "port": None, "body": None,
            "interval_s": 2, "timeout_s": 1, "fall": 3, "rise": 2, "statuses": None,
        },
        "timeouts": {"connect_s": 2, "first_byte_s": 30, "idle_s": 60, "head_s": 10, "keepalive_s": 75, "tunnel_idle_s": 3600},
        "retry": {
            "statuses": [500, 502, 503, 504], "attempts": 3, "deadline_s": None, "wait_s": 1, "body_bytes": 65536,
            "budget_ratio": 0.2, "budget_per_s": 10, "hedge": False, "hedge_percentile": 0.95,
        },
        "failure": {"statuses": ["500-599"]},
        "breaker": {
            "failures": 5, "ratio": 0.5, "window_s": 10, "min_requests": 20, "open_s": 5, "max_open_s": 300,
            "max_ejected_ratio": 1, "observe": False,
        },
        "explain": {"sample_ratio": 0.01},
        "outliers": {
            "latency_factor": None, "failure_ratio": None, "interval_s": 10, "min_requests": 20,
            "max_ejected_ratio": 0.5, "observe": False,
        },
        "limits": {
            "target_bytes": 8192,
            "head_bytes": 65536,
            "headers": 200,
            "body_bytes": 0,
            "answer_head_bytes": 65536,
            "connections_per_backend": 128,
            "in_flight_per_backend": None,
            "shared_by_nodes": False, "queue": 128,
            "queue_s": 1,
        },
        "rate_limit": {"per_s": None, "burst": None, "by": "client", "shared_by_nodes": False},
        "preserve_host": True,
        "protocol": "http/1.1",
        "trusted_proxies": [],
        "forwarded_header": False,
        "admin_allow": [],
        "shutdown_grace_s": 10,
        "panic": "all",
        "slow_start_s": 0,
        "resolve_s": 5,
        "drain_s": 60,
        "bind": "127.0.0.1:8080",
        "admin_bind": None,
        "workers": 1,
        "zones": {},
        "zone": None,
        "certfile": None,
        "keyfile": None,
        "certificates": [],
        "certificates_dir": None,
        "strict_sni": False,
        "tls_min_version": "1.2",
        "tls_ciphers": None,
        "client_ca_file": None,
        "client_certificates": "required",
        "hsts_s": None,
        "http2": None,
        "h2c": False,
        "http_bind": None,
        "https_port": None,
        "acme_webroot": None,
        "acme": {
            "email": None, "agree_tos": False, "directory": "https://acme-v02.api.letsencrypt.org/directory", "ca_file": None,
            "storage": None, "retry_s": 60,
        },
        "access_log": False,
        "access_log_format": "json",
        "access_log_headers": [],
        "access_log_sample_ratio": 1.0,
        "access_log_slow_s": 1.0,
        "access_log_rotate_bytes": None,
        "access_log_rotate_s": None,
        "access_log_keep": 10,
        "access_log_compress": False,
        "log_level": "info",
        "discover": None,
        "take_over": True,
        "tracing": None, "watch": False,
        "cluster": None,
    }  # fmt: skip


def test_the_file_in_the_repository_names_the_two_example_backends() -> None:
    loaded = load(ROOT / "backends.json")
    assert [backend.url for backend in loaded.backends] == ["http://localhost:8081", "http://localhost:8082"]
    assert loaded.strategy == "adaptive"


def test_the_example_of_the_design_is_accepted() -> None:
    loaded = parse(
        """{"backends": ["http://localhost:8081", {"url": "http://localhost:8082", "id": "b2", "weight": 2}],
            "strategy": "round_robin",
            "health": {"path": "/health", "interval_s": 2, "timeout_s": 1, "fall": 3, "rise": 2},
            "timeouts": {"connect_s": 2, "first_byte_s": 30, "idle_s": 60, "head_s": 10},
            "retry": {"statuses": [502, 503, 504], "hedge": false}, "breaker": {}, "limits": {}}"""
    )
    assert [(backend.id, backend.weight) for backend in loaded.backends] == [("localhost-8081", 1), ("b2", 2)]


def test_what_is_not_written_has_its_default() -> None:
    (spec,) = config().specs()
    assert (spec.id, spec.url, spec.weight, spec.state, spec.preserve_host) == ("a-1", A, 1, "enabled", True)
    assert (spec.max_in_flight, spec.tls, spec.slow_start_s, spec.labels, spec.addresses) == (None, None, 0.0, (), ())
    assert spec.health == HealthPolicy("http", "GET", "/health", None, (), None, None, 2.0, 1.0, 3, 2, ANSWERED)
    assert spec.breaker == BreakerPolicy(5, 0.5, 10.0, 20, 5.0, 300.0, 1.0, False)
    assert config().rate_limit.policy() is None


def test_the_deadline_of_all_tries_leaves_room_for_a_long_one_unless_it_is_written() -> None:
    assert config(timeouts={"first_byte_s": 300}).retry_policy.deadline_s == 300
    assert config(timeouts={"first_byte_s": 300}, retry={"deadline_s": 20}).retry_policy.deadline_s == 20


def test_a_cap_is_every_backends_that_has_none_of_its_own() -> None:
    mixed = parse(
        json.dumps(
            {
                "backends": [A, {"url": B, "max_in_flight": 5}, {"url": "http://c", "max_in_flight": "adaptive"}],
                "limits": {"in_flight_per_backend": 9},
            }
        )
    )
    assert [spec.max_in_flight for spec in mixed.specs()] == [9, 5, "adaptive"]
    assert config(limits={"in_flight_per_backend": "adaptive"}).specs()[0].max_in_flight == "adaptive"


def test_a_rate_has_a_burst_of_a_second_unless_it_is_written() -> None:
    assert config(rate_limit={"per_s": 20.5}).rate_limit.policy() == RatePolicy(20.5, 20)
    assert config(rate_limit={"per_s": 0.1}).rate_limit.policy() == RatePolicy(0.1, 1)
    assert config(rate_limit={"per_s": 5, "burst": 7}).rate_limit.policy() == RatePolicy(5, 7)


def test_what_the_nodes_of_a_cluster_share_is_divided_by_those_that_live_and_never_below_one() -> None:
    def policy(nodes: int, **rate: Any) -> RatePolicy | None:
        return config(rate_limit=rate).rate_limit.policy(nodes)

    assert policy(4, per_s=100, burst=10, shared_by_nodes=True) == RatePolicy(25, 2)
    assert policy(4, per_s=2, shared_by_nodes=True) == RatePolicy(0.5, 1)
    assert policy(1, per_s=100, burst=10, shared_by_nodes=True) == RatePolicy(100, 10)
    assert policy(4, per_s=100, burst=10) == RatePolicy(100, 10)

    def caps(nodes: int, **limits: Any) -> list[object]:
        backends = ["http://a", {"url": "http://b", "max_in_flight": 2}, {"url": "http://c", "max_in_flight": "adaptive"}]
        written = config(backends=backends, limits=limits)
        return [spec.max_in_flight for spec in written.specs(nodes=nodes)]

    assert caps(3, in_flight_per_backend=10, shared_by_nodes=True) == [3, 1, "adaptive"]
    assert caps(3, shared_by_nodes=True) == [None, 1, "adaptive"]
    assert caps(3, in_flight_per_backend=10) == [10, 2, "adaptive"]
    assert caps(1, in_flight_per_backend=10, shared_by_nodes=True) == [10, 2, "adaptive"]


def test_what_was_written_arrives_in_the_specs() -> None:
    loaded = parse(
        json.dumps(
            {
                "backends": [
                    {
                        "url": "https://a/",
                        "id": "one",
                        "weight": 7,
                        "zone": "eu-1",
                        "health": {"path": "/up", "statuses": [204, "3xx"]},
                        "preserve_host": True,
                        "max_in_flight": 9,
                        "tls": {"verify": False, "server_name": "a.example"},
                        "labels": {"price": "3", "city": "São Paulo"},
                    },
                    B,
                ],
                "health": {"rise": 5, "path": "/common", "timeout_s": 0.5},
                "breaker": {"failures": 2, "open_s": 400, "max_open_s": 400},
                "preserve_host": False,
                "retry": {"statuses": [503, 500, 503], "attempts": 2, "deadline_s": 5, "body_bytes": 0},
            }
        )
    )
    breaker = breaker_policy(failures=2, open_s=400, max_open_s=400)
    assert loaded.specs() == (
        backend_spec(
            id="one",
            url="https://a",
            weight=7,
            health=health_policy(path="/up", rise=5, timeout_s=0.5, statuses=frozenset({204, *range(300, 400)})),
            breaker=breaker,
            max_in_flight=9,
            preserve_host=True,
            tls=TlsSpec(verify=False, server_name="a.example"),
            labels=(("city", "São Paulo"), ("price", "3")),
            zone="eu-1",
        ),
        backend_spec(
            id="b-2",
            url=B,
            health=health_policy(path="/common", rise=5, timeout_s=0.5, statuses=OK_STATUSES),
            breaker=breaker,
            preserve_host=False,
        ),
    )
    assert loaded.backends[0].zone == "eu-1"
    assert loaded.retry_policy == retry_policy(statuses=frozenset({500, 503}), attempts=2, deadline_s=5, body_bytes=0)


def test_until_a_path_is_written_whatever_answers_below_500_is_good() -> None:
    """An application of one's own has no /health: every request was 503, and the log said only Offline."""

    def health(common: dict[str, Any], own: dict[str, Any] | None = None) -> HealthPolicy:
        text = json.dumps({"backends": [{"url": "http://a", "health": own}], "health": common})
        (spec,) = parse(text).specs()
        assert parse(parse(text).to_json()).specs() == (spec,)
        return spec.health

    assert (health({}).path, health({}).statuses) == ("/health", ANSWERED)
    assert health({"path": "/health"}).statuses == OK_STATUSES
    assert health({}, {"path": "/up"}).statuses == OK_STATUSES
    assert health({"path": "/up"}, {"rise": 1}).statuses == OK_STATUSES
    assert health({"path": "/up"}, {"path": None}).statuses == ANSWERED
    assert health({"statuses": [204]}).statuses == {204}
    assert health({"host": "a:1", "body": "ok", "fall": 1}).statuses == ANSWERED


def test_a_probe_is_what_the_operator_writes() -> None:
    written = {"method": "POST", "host": "a.example:80", "headers": {"X-A": " b", "c": ""}, "port": 9, "body": "ok"}
    (spec,) = parse(json.dumps({"backends": ["http://a"], "health": written})).specs()
    found = spec.health
    assert (found.method, found.host, found.port, found.body) == ("POST", "a.example:80", 9, "ok")
    assert found.headers == (("X-A", "b"), ("c", ""))
    assert found.question == "POST /health on port 9"


def test_a_configuration_cannot_be_changed() -> None:
    loaded = config()
    with pytest.raises(ValidationError):
        loaded.strategy = "ewma"
    with pytest.raises(ValidationError):
        loaded.health.rise = 1
    assert hash(loaded) == hash(config())


def test_the_canonical_text_makes_an_equal_configuration() -> None:
    loaded = config(
        backends=[{"url": "HTTP://A/", "health": {"rise": 9}, "labels": {"b": "2", "a": ""}}, "https://b"],
        hash={"by": "header:X-User", "bounded_load_ratio": None},
        sticky={"cookie": "SRV", "max_age_s": 3600},
        health={"fall": 7, "statuses": [200, "201-204"]},
        trusted_proxies=["10.0.0.1"],
        access_log="x.log",
        access_log_headers=["Accept", "answer:X-Cache"],
        access_log_rotate_bytes=1 << 20,
    )
    again = parse(loaded.to_json())

    assert again == loaded
    assert again.to_json() == loaded.to_json()
    assert again.specs() == loaded.specs()
    assert again.specs()[0].health.fall == 7


def test_the_etag_changes_with_the_meaning_and_not_with_the_writing() -> None:
    one = parse('{"backends": ["http://a:1"], "bind": "localhost:1"}')
    same = parse('{"bind":"LOCALHOST:1","strategy":"adaptive","backends":[{"url":"http://A:1/","weight":1}]}')
    other = parse('{"backends": [{"url": "http://a:1", "weight": 2}], "bind": "localhost:1"}')

    assert one.etag == same.etag != other.etag
    assert len(one.etag) == 16


def test_two_listeners_may_both_let_the_system_choose_their_port() -> None:
    assert config(bind="localhost:0", admin_bind="localhost:0").admin_bind == "localhost:0"


ALSO_NEEDED = {
    (BasicAuthConfig, "file"),
    (ClusterConfig, "endpoints"),
    (ConsulConfig, "service"),
    (DnsConfig, "name"),
    (EtcdConfig, "prefix"),
    (FileConfig, "path"),
    (ForwardAuthConfig, "url"),
    (MirrorConfig, "to"),
}


@pytest.mark.parametrize("model", sorted(models(Config), key=lambda model: model.__name__))
def test_every_key_has_a_description_and_all_but_the_addresses_of_backends_a_default(
    model: type[Section],
) -> None:
    assert docstrings(model).keys() == model.model_fields.keys()
    for name, field in model.model_fields.items():
        assert field.is_required() == (name == "url" or (model, name) in ALSO_NEEDED), name


def test_every_section_is_found_by_the_test_before() -> None:
    assert len(models(Config)) == 37


def test_the_schema_says_what_each_key_is_for() -> None:
    schema = json_schema()
    keys = {
        f"{name}.{key}": field
        for name, section in {**schema["$defs"], "Config": schema}.items()
        for key, field in section.get("properties", {}).items()
    }
    assert len(keys) > 200
    assert [key for key, field in keys.items() if not field.get("description")] == []


def test_a_long_configuration_is_written_out_in_pieces_beforehand() -> None:
    """Its canonical text took 4 ms at a stretch for 500 backends, again at each question."""
    pauses: list[int] = []
    made = config(backends=[f"http://a{number}:80" for number in range(30)])
    whole = made.to_json()
    made.write_out(lambda: pauses.append(1))
    assert len(pauses) == 30
    assert made.to_json() == whole == json.dumps(json.loads(whole), sort_keys=True, separators=(",", ":"))
    assert made.to_json() is made.to_json()


@pytest.mark.parametrize("service", [None, "web"])
def test_the_backends_of_a_long_list_are_checked_one_by_one_as_those_of_a_short_one(service: str | None) -> None:
    """Hundreds at a stretch held up requests for 6 ms, in a reload that replaced them."""
    entries: list[Any] = [f"http://a{number}:80" for number in range(CHECKED_APART)]
    entries[7] = {"url": "https://a7", "id": "seven", "weight": 3, "health": {"path": "/ready"}}
    pauses: list[int] = []

    def parsed(entries: list[Any]) -> Any:
        document = {"backends": entries} if service is None else {"services": {service: {"backends": entries}}}
        whole = parse(json.dumps(document), pause=lambda: pauses.append(1))
        return whole if service is None else whole.services[service]

    made = parsed(entries)
    assert len(pauses) > 3 * CHECKED_APART
    assert made.backends == parsed(entries[:9]).backends + parsed(entries[9:]).backends
    entries[8:10] = [{"url": "http://a8", "wieght": 1}, "ftp://a9"]
    with pytest.raises(ConfigError) as caught:
        parsed(entries)
    with pytest.raises(ConfigError) as alone:
        parsed(entries[8:10])
    told = [[(one.path.rpartition("[")[2], one.message) for one in each.value.problems] for each in (caught, alone)]
    assert [("8].wieght", told[1][0][1]), ("9]", told[1][1][1])] == told[0]
