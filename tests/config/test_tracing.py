"""The key `tracing`, its short forms, and what lies over and under it: a flag, variables of ours, the file, OpenTelemetry's."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from smartedge.config.model import ConfigError, parse
from smartedge.config.tracing import TracingConfig

MISSING: Any = object()


def read(said: Any = MISSING, env: dict[str, str] | None = None, flag: str | None = None) -> TracingConfig | None:
    document: dict[str, Any] = {"backends": ["http://a"]} | ({} if said is MISSING else {"tracing": said})
    config = parse(json.dumps(document), env=env, overrides={"tracing": flag})
    assert parse(config.to_json()) == config
    return config.tracing


def refused(*args: Any, **more: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        read(*args, **more)
    return str(caught.value)


@pytest.mark.parametrize("said", [MISSING, None, False])
def test_it_is_off_unless_it_is_said(said: Any) -> None:
    assert read(said) is None


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        (True, {}),
        ({}, {}),
        ("http://c:4318", {"otlp": "http://c:4318"}),
        ({"sample_ratio": 0.5, "trusted": ["10.0.0.0/8"]}, {"sample_ratio": 0.5, "trusted": ("10.0.0.0/8",)}),
    ],
)
def test_there_are_short_forms(said: Any, meant: dict[str, Any]) -> None:
    found = read(said)
    assert found is not None
    assert found.model_dump(exclude_defaults=True) == meant


@pytest.mark.parametrize(
    ("otlp", "url"),
    [
        ("http://c:4318", "http://c:4318/v1/traces"),
        ("http://c:4318/", "http://c:4318/v1/traces"),
        ("https://c/otlp", "https://c/otlp/v1/traces"),
        ("https://c/otlp/v1/traces", "https://c/otlp/v1/traces"),
    ],
)
def test_spans_are_posted_to_the_path_that_the_protocol_has(otlp: str, url: str) -> None:
    found = read(otlp)
    assert found is not None
    assert found.traces_url == url
    assert TracingConfig().traces_url is None


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("collector:4318", "tracing.otlp"),
        (3, "tracing: must be an object"),
        ({"ratio": 1}, "tracing.ratio: is an unknown key"),
        ({"sample_ratio": 1.1}, "tracing.sample_ratio: must be at most 1"),
        ({"trusted": ["10.0.0.1/8"]}, "tracing.trusted[0]"),
        ({"otlp": "http://user:secret@c"}, "must not hold a user name or password"),
        ({"headers": {"Content-Length": "3"}}, "tracing.headers"),
        ({"key_file": __file__}, "needs a cert_file beside it"),
        ({"compression": "zip"}, "tracing.compression"),
        ({"queue": 0}, "tracing.queue"),
        ({"others_per_s": -1}, "tracing.others_per_s"),
    ],
)
def test_what_is_wrong_is_named(said: Any, words: str) -> None:
    message = refused(said)
    assert words in message
    assert "secret" not in message


@pytest.mark.parametrize("module", ["opentelemetry", "opentelemetry.proto", "opentelemetry.sdk"])
def test_a_collector_without_the_extra_is_refused_by_its_name(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name == module or name.startswith(f"{module}.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    assert "tracing.otlp: needs OpenTelemetry: pip install 'smartedge[otel]'" in refused("http://c:4318")
    assert read(True) is not None  # to pass ids on needs nothing


def test_a_flag_goes_before_a_variable_before_the_file_before_opentelemetry_s() -> None:
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://otel", "OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.5"}
    ours = env | {"SMARTEDGE_TRACING": "http://variable"}
    for found, otlp in (
        (read(True, env), "http://otel"),
        (read({"otlp": "http://file"}, env), "http://file"),
        (read({"otlp": "http://file"}, ours), "http://variable"),
        (read({"otlp": "http://file"}, ours, "http://flag"), "http://flag"),
        (read(MISSING, ours), "http://variable"),
        (read(MISSING, env, "true"), "http://otel"),
    ):
        assert found is not None
        assert (found.otlp, found.sample_ratio) == (otlp, 0.5)
    kept = read({"otlp": "http://file", "sample_ratio": 0.25}, ours)
    assert kept is not None
    assert (kept.otlp, kept.sample_ratio) == ("http://variable", 0.25)


def test_a_switch_of_ours_turns_it_on_and_off() -> None:
    assert read("http://file", {"SMARTEDGE_TRACING": "off"}) is None
    on = read(MISSING, {"SMARTEDGE_TRACING": "on"})
    assert on == TracingConfig()
    kept = read({"sample_ratio": 1}, {"SMARTEDGE_TRACING": "1"})
    assert kept is not None
    assert kept.sample_ratio == 1


def test_opentelemetry_s_variables_switch_nothing_on() -> None:
    assert read(MISSING, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://otel"}) is None


@pytest.mark.parametrize(
    ("said", "env", "flag", "words"),
    [
        (True, {"OTEL_EXPORTER_OTLP_ENDPOINT": "otel:4318"}, None, 'OTEL_EXPORTER_OTLP_ENDPOINT: "otel:4318" must start with'),
        (True, {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "x"}, None, "OTEL_TRACES_SAMPLER_ARG: must be"),
        (MISSING, {"SMARTEDGE_TRACING": "ftp://c"}, None, 'SMARTEDGE_TRACING: "ftp://c" must start with'),
        (MISSING, {}, "collector", '--tracing: "collector" must start with'),
        ({"sample_ratio": 2}, {"SMARTEDGE_TRACING": "http://c"}, None, ": tracing.sample_ratio: must be at most 1"),
    ],
)
def test_what_is_wrong_is_named_where_it_came_from(said: Any, env: dict[str, str], flag: str | None, words: str) -> None:
    message = refused(said, env=env, flag=flag)
    assert message.removeprefix("backends.json: ").startswith(words.removeprefix(": "))
    assert ("backends.json" in message) is words.startswith(": ")
