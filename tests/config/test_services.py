"""The key `services`: what each service goes by, what the top says for all, and what is wrong with them together."""

from __future__ import annotations

import json
from typing import Any

import pytest

from smartedge.balancer.spec import TlsSpec
from smartedge.config.backends import check_entry
from smartedge.config.model import Config, ConfigError, json_schema, load, parse
from smartedge.config.services import ServiceConfig

A, B = "http://a:1", "http://b:2"
ROUTES = [{"path": "/api", "to": "api"}, {"to": "web"}]


def config(**keys: Any) -> Config:
    return parse(json.dumps(keys))


def site(web: dict[str, Any] | None = None, api: dict[str, Any] | None = None, **keys: Any) -> Config:
    services = {"web": {"backends": [A], **(web or {})}, "api": {"backends": [A, B], **(api or {})}}
    return config(services=services, routes=ROUTES, **keys)


def wrong(**keys: Any) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        config(**keys)
    return {problem.path: problem.message for problem in caught.value.problems}


def test_services_have_backends_and_keys_of_their_own() -> None:
    api, web = site(web={"strategy": "ewma"}, api={"panic": "fail", "preserve_host": False}).all_services()
    assert (web.name, web.steps, web.config.strategy, web.config.panic) == ("web", ("services", "web"), "ewma", "all")
    assert (api.name, api.steps, api.config.strategy, api.config.panic) == ("api", ("services", "api"), "adaptive", "fail")
    assert [(spec.key, spec.preserve_host) for spec in api.config.specs("api")] == [
        ("api a-1 http://a:1", False),
        ("api b-2 http://b:2", False),
    ]


def test_what_stands_at_the_top_holds_for_all_key_by_key_inside_the_sections() -> None:
    found = site(retry={"attempts": 7, "statuses": [503]}, api={"retry": {"deadline_s": 4, "statuses": [502]}}, strategy="random")
    api, web = (one.config for one in found.all_services())
    assert (web.retry.attempts, web.retry.deadline_s, web.retry.statuses) == (7, None, (503,))
    assert (api.retry.attempts, api.retry.deadline_s, api.retry.statuses) == (7, 4, (502,))
    assert [web.strategy, api.strategy] == ["random", "random"]


def test_a_service_can_take_back_what_the_top_says() -> None:
    api, web = (one.config for one in site(rate_limit={"per_s": 5}, api={"rate_limit": {"per_s": None}}).all_services())
    assert web.rate_limit.policy() is not None
    assert api.rate_limit.policy() is None


def test_probes_that_only_connect_do_not_get_the_path_of_all_services() -> None:
    """It was refused as services.api.health.path, which nobody had written."""
    found = site(health={"path": "/up", "port": 90, "fall": 5}, web={"health": {"type": "none"}}, api={"health": {"type": "tcp"}})
    api, web = (one.config.health for one in found.all_services())
    assert (api.type, api.path, api.port, api.fall) == ("tcp", None, 90, 5)
    assert (web.type, web.path, web.port, web.fall) == ("none", None, None, 5)
    with pytest.raises(ConfigError, match="says nothing"):
        site(health={"path": "/up"}, api={"health": {"type": "tcp", "path": "/own"}})


def test_of_limits_and_timeouts_a_service_gets_what_has_to_do_with_backends() -> None:
    found = site(limits={"head_bytes": 70_000, "queue": 5}, timeouts={"head_s": 3, "connect_s": 1}, api={"limits": {"queue": 6}})
    api, web = (one.config for one in found.all_services())
    assert [web.limits.queue, api.limits.queue, api.timeouts.connect_s] == [5, 6, 1]
    assert not hasattr(web.limits, "head_bytes")


def test_the_short_form_beside_services_is_one_service_more() -> None:
    found = config(
        backends=[B],
        strategy="ewma",
        services={"api": {"backends": [A]}},
        routes=[{"path": "/api", "to": "api"}, {"to": "default"}],
    )
    assert [(one.name, one.steps, one.config.strategy) for one in found.all_services()] == [
        ("default", (), "ewma"),
        ("api", ("services", "api"), "ewma"),
    ]


def test_one_service_needs_no_routes() -> None:
    assert [one.name for one in config(services={"web": {"backends": [A]}}).all_services()] == ["web"]


@pytest.mark.parametrize(
    "found",
    [
        config(backends=[A]),
        config(services={"web": {"backends": [A]}}),
        site(retry={"attempts": 2}, web={"health": {"path": "/up"}, "sticky": {"cookie": "w"}}),
    ],
)
def test_the_canonical_text_means_the_same(found: Config) -> None:
    again = parse(found.to_json())
    assert again == found
    assert again.etag == found.etag
    assert hash(again) == hash(found)


def test_the_canonical_text_of_the_short_form_knows_nothing_of_services() -> None:
    """An edge that is upgraded reads what the version before has written, and finds that nothing has changed."""
    assert "services" not in json.loads(config(backends=[A]).to_json())
    assert "backends" not in json.loads(site().to_json())


def test_the_etag_knows_every_service() -> None:
    assert len({site().etag, site(api={"panic": "fail"}).etag, site(web={"panic": "fail"}).etag}) == 3


def test_several_services_without_routes_are_refused_with_what_to_write() -> None:
    found = wrong(services={"web": {"backends": [A]}, "api": {"backends": [B]}})
    assert found == {
        "routes": "must say which requests go to which of the services web, api, such as"
        ' "routes": [{"path": "/api", "to": "api"}, {"to": "web"}]'
    }
    assert "routes" in wrong(backends=[A], services={"web": {"backends": [A]}})


def test_the_service_default_is_written_in_one_place() -> None:
    assert wrong(backends=[A], services={"default": {"backends": [A]}}) == {
        "services.default": 'stands beside "backends" at the top, which is the service of this name; write one'
    }


@pytest.mark.parametrize("services", [None, {}])
def test_a_configuration_without_any_backends_is_told_the_smallest(services: Any) -> None:
    assert wrong(**({} if services is None else {"services": services}))["backends"].startswith("is missing; the smallest")


@pytest.mark.parametrize("services", [[], "web", 3])
def test_services_are_an_object(services: Any) -> None:
    assert wrong(services=services) == {
        "services": f"must be an object, not {'a list' if services == [] else json.dumps(services)}"
    }


@pytest.mark.parametrize("name", ["Web", "a_b", "", "x" * 64, "é"])
def test_names_that_are_no_labels_are_refused(name: str) -> None:
    assert "1 to 63 of the characters a-z 0-9 -" in next(iter(wrong(services={name: {"backends": [A]}}).values()))


def test_problems_are_named_all_at_once_each_with_its_path() -> None:
    entry = {"url": "http://c:3", "wieght": 2}
    found = wrong(
        services={
            "web": {"backends": [A, B, entry, A], "retry": {"atempts": 2}},
            "my-api": {"backends": ["htp://a"], "bakends": [], "attempts": 2, "breaker": 5},
            "empty": {},
            "text": "http://a:1",
        },
        routes=[{"path": "/x", "to": "wbe"}, {"to": "web"}],
    )
    assert found.keys() == {
        "services.web.backends[2].wieght",
        "services.web.backends[3]",
        "services.web.retry.atempts",
        'services["my-api"].backends[0]',
        'services["my-api"].bakends',
        'services["my-api"].attempts',
        'services["my-api"].breaker',
        "services.empty.backends",
        "services.text",
        "routes[0].to",
    }
    assert 'did you mean "weight"?' in found["services.web.backends[2].wieght"]
    assert "already the url of services.web.backends[0]" in found["services.web.backends[3]"]
    assert 'did you mean "attempts"?' in found["services.web.retry.atempts"]
    assert 'did you mean "backends"?' in found['services["my-api"].bakends']
    assert 'did you mean "retry.attempts"?' in found['services["my-api"].attempts']
    assert "there are: empty, my-api, text, web" in found["routes[0].to"]


def test_a_service_may_be_called_as_a_key_is() -> None:
    found = wrong(services={"retry": {"backends": [{"url": A, "tls": {"verfy": True}}]}})
    assert 'did you mean "verify"?' in found["services.retry.backends[0].tls.verfy"]


def test_a_key_of_the_whole_edge_says_where_it_belongs() -> None:
    found = wrong(services={"web": {"backends": [A], "bind": "x", "limits": {"head_bytes": 70_000}}})
    assert found["services.web.bind"].startswith("holds for the whole edge; write it at the top, as bind;")
    assert found["services.web.limits.head_bytes"].startswith(
        "holds for the whole edge; write it at the top, as limits.head_bytes;"
    )


def test_what_is_wrong_at_the_top_is_said_once_and_what_a_service_writes_itself_too() -> None:
    services = {"web": {"backends": [A]}, "api": {"backends": [A], "retry": {"attempts": 0}}}
    found = wrong(services=services, routes=ROUTES, retry={"attempts": 0, "atempts": 2}, strategy="robin")
    assert found.keys() == {"retry.attempts", "retry.atempts", "strategy", "services.api.retry.attempts"}


def test_what_is_wrong_only_together_with_the_top_is_said_of_the_service() -> None:
    found = wrong(services={"web": {"backends": [A], "retry": {"attempts": 1}}}, retry={"hedge": True})
    assert found == {"services.web.retry.hedge": "needs attempts to be at least 2, not 1"}
    assert wrong(services={"web": {"backends": [A], "sticky": {"max_age_s": 5}}}).keys() == {"services.web.sticky.max_age_s"}
    assert config(services={"web": {"backends": [A], "sticky": {"max_age_s": 5}}}, sticky={"cookie": "c"}).all_services()


def test_the_flag_for_backends_is_the_service_default() -> None:
    document = {"services": {"web": {"backends": [A]}}, "routes": [{"path": "/web", "to": "web"}, {"to": "default"}]}
    found = parse(json.dumps(document), overrides={"backends": (B,), "strategy": "random"})
    assert [(one.name, one.config.strategy) for one in found.all_services()] == [("default", "random"), ("web", "random")]
    with pytest.raises(ConfigError, match=r"services.default: stands beside"):
        parse(json.dumps({"services": {"default": {"backends": [A]}}}), env={"SMARTEDGE_BACKENDS": B})


def test_the_schema_asks_for_where_backends_come_from_and_knows_the_names_of_services() -> None:
    schema = json_schema()
    assert schema["anyOf"] == [{"required": ["backends"]}, {"required": ["discover"]}, {"required": ["services"]}]
    services = schema["properties"]["services"]
    assert services["additionalProperties"] == {"$ref": "#/$defs/ServiceConfig"}
    assert services["propertyNames"] == {"pattern": "^[a-z0-9-]{1,63}$"}
    assert schema["$defs"]["ServiceConfig"]["anyOf"] == [{"required": ["backends"]}, {"required": ["discover"]}]
    assert set(schema["$defs"]["ServiceConfig"]["properties"]) == set(ServiceConfig.model_fields)


def test_a_key_of_the_top_that_is_one_of_services_is_the_same_there() -> None:
    for key, field in ServiceConfig.model_fields.items():
        same = key in ("backends", "timeouts", "limits") or Config.model_fields[key].default == field.default
        assert same, key


def test_a_file_with_services_is_loaded(tmp_path: Any) -> None:
    file = tmp_path / "backends.json"
    file.write_text(json.dumps({"services": {"web": {"backends": [A]}}}))
    assert [one.name for one in load(str(file)).all_services()] == ["web"]


def test_a_service_that_is_in_use_just_so_is_not_checked_again() -> None:
    first = site(web={"strategy": "ewma"}, retry={"attempts": 2})
    again = site(web={"strategy": "ewma"}, api={"panic": "fail"}, retry={"attempts": 2})
    assert again.services["web"] is first.services["web"]
    assert again.services["api"] is not first.services["api"]
    assert site(web={"strategy": "ewma"}, retry={"attempts": 3}).services["web"] is not first.services["web"]


def test_a_generation_read_back_has_the_services_that_it_was_written_of() -> None:
    first = site(web={"health": {"path": "/up"}})
    again = parse(first.to_json())
    assert [again.services[name] is first.services[name] for name in ("web", "api")] == [True, True]


def test_a_service_that_names_a_file_is_always_checked(tmp_path: Any) -> None:
    secret = tmp_path / "secret"
    secret.write_text("0123456789abcdef")
    web = {"sticky": {"cookie": "c", "secret_file": str(secret)}}
    first = site(web=web)
    secret.write_text("short")
    with pytest.raises(ConfigError, match=r"services.web.sticky.secret_file: "):
        site(web=web)
    assert first.services["web"].sticky.cookie == "c"


def test_what_is_spoken_to_a_backend_is_its_own_word_or_the_services() -> None:
    document = {
        "protocol": "h2c",
        "backends": ["http://a", {"url": "http://b", "protocol": "http/1.1"}, {"url": "https://c", "protocol": "h2"}],
    }
    first, second, third = parse(json.dumps(document)).specs()
    assert [one.protocol for one in (first, second, third)] == ["h2c", "http/1.1", "h2"]
    assert (first.tls, second.tls, third.tls) == (None, None, TlsSpec(h2=True))


def test_what_is_found_is_spoken_to_as_its_url_says() -> None:
    config = parse('{"protocol": "h2c", "backends": ["http://a"]}')
    found = config.with_backends((check_entry("https://b"),))
    assert [one.protocol for one in found.specs()] == ["h2c", "h2"]
