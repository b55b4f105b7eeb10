"""OpenTelemetry's own variables, as far as they count for the edge."""

from __future__ import annotations

import pytest

from smartedge.config.otel import otel_headers, otel_settings
from smartedge.config.problems import ConfigError


def said(to_collector: bool = False, **env: str) -> dict[str, tuple[object, str]]:
    return {key: (value, variable) for key, (value, variable) in otel_settings(env, to_collector=to_collector).items()}


def test_the_variable_for_traces_goes_before_the_one_for_all() -> None:
    both = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://all", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": " http://traces/v1/traces "}
    assert said(**both) == {"otlp": ("http://traces/v1/traces", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")}
    del both["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"]
    assert said(**both) == {"otlp": ("http://all", "OTEL_EXPORTER_OTLP_ENDPOINT")}
    assert said(OTEL_EXPORTER_OTLP_ENDPOINT=" ") == {}


def test_files_and_compression_go_with_a_collector() -> None:
    env = {"OTEL_EXPORTER_OTLP_CERTIFICATE": "ca.pem", "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION": "gzip"}
    assert said(**env) == {}
    found = said(to_collector=True, **env)
    assert found == {
        "ca_file": ("ca.pem", "OTEL_EXPORTER_OTLP_CERTIFICATE"),
        "compression": ("gzip", "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION"),
    }


def test_where_spans_go_may_be_said_elsewhere() -> None:
    assert said(to_collector=True, OTEL_EXPORTER_OTLP_ENDPOINT="http://all:4317", OTEL_EXPORTER_OTLP_PROTOCOL="grpc") == {}


def test_a_protocol_that_the_edge_does_not_speak_is_refused() -> None:
    with pytest.raises(ConfigError, match='OTEL_EXPORTER_OTLP_PROTOCOL: must be "http/protobuf"'):
        said(OTEL_EXPORTER_OTLP_ENDPOINT="http://all:4317", OTEL_EXPORTER_OTLP_PROTOCOL="grpc")
    assert "otlp" in said(OTEL_EXPORTER_OTLP_ENDPOINT="http://all", OTEL_EXPORTER_OTLP_PROTOCOL="http/protobuf")


@pytest.mark.parametrize(
    ("exporter", "otlp"), [("none", None), ("console", None), ("otlp", "http://c"), ("console, otlp", "http://c")]
)
def test_the_exporter_that_is_asked_for_counts(exporter: str, otlp: str | None) -> None:
    found = said(OTEL_TRACES_EXPORTER=exporter, OTEL_EXPORTER_OTLP_ENDPOINT="http://c")
    assert found.get("otlp", (None, ""))[0] == otlp


def test_the_exporter_has_a_place_of_its_own_by_default() -> None:
    assert said(OTEL_TRACES_EXPORTER="otlp") == {"otlp": ("http://localhost:4318", "OTEL_TRACES_EXPORTER")}


@pytest.mark.parametrize(
    ("sampler", "argument", "ratio"),
    [
        ("always_on", "", 1.0),
        ("parentbased_always_on", "0.5", 1.0),
        ("always_off", "", 0.0),
        ("traceidratio", "0.25", 0.25),
        ("parentbased_traceidratio", "0.25", 0.25),
        ("parentbased_traceidratio", "", 1.0),
        ("traceidratio", "a quarter", "a quarter"),
        ("jaeger_remote", "0.25", None),
        ("", "0.25", None),
    ],
)
def test_samplers_are_ratios(sampler: str, argument: str, ratio: object) -> None:
    found = said(OTEL_TRACES_SAMPLER=sampler, OTEL_TRACES_SAMPLER_ARG=argument)
    assert found.get("sample_ratio", (None, ""))[0] == ratio


def test_all_of_it_can_be_switched_off() -> None:
    assert said(OTEL_SDK_DISABLED="True", OTEL_EXPORTER_OTLP_ENDPOINT="http://c", OTEL_TRACES_SAMPLER="always_on") == {}


def test_headers_are_pairs_whose_values_may_be_encoded() -> None:
    env = {"OTEL_EXPORTER_OTLP_HEADERS": "authorization=Basic%20abc=, x-team = a ,,broken,=x,b\nad=1"}
    assert otel_headers(env) == {"authorization": "Basic abc=", "x-team": "a"}
    assert otel_headers(env | {"OTEL_EXPORTER_OTLP_TRACES_HEADERS": "a=1"}) == {"a": "1"}
    assert otel_headers({}) == {}
