"""OpenTelemetry's own variables (OTEL_*): what they say of `tracing`, where neither a flag, a variable of ours nor the file does.

They switch nothing on: whoever sets them for all programs of a machine need not want the edge in every trace.
https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/ and .../protocol/exporter/.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote

from smartedge.config.problems import ConfigError, Problem

_PROTOCOL = "http/protobuf"
_DEFAULT_ENDPOINT = "http://localhost:4318"
_FILES = {"CERTIFICATE": "ca_file", "CLIENT_CERTIFICATE": "cert_file", "CLIENT_KEY": "key_file", "COMPRESSION": "compression"}
_RATIOS = {"always_on": 1.0, "always_off": 0.0}


class OtelSetting(NamedTuple):
    """One key of `tracing` and the variable that says it."""

    value: Any
    variable: str


def otel_settings(env: Mapping[str, str], *, to_collector: bool = False) -> dict[str, OtelSetting]:
    """Give the keys of `tracing` that variables say. Raises ConfigError for a protocol that the edge does not speak.

    to_collector: where spans go is said elsewhere, whatever the variables say of it.
    """
    if env.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return {}
    found: dict[str, OtelSetting] = {}
    exporters = [one.strip() for one in env.get("OTEL_TRACES_EXPORTER", "").split(",") if one.strip()]
    endpoint = _of_exporter(env, "ENDPOINT")
    if endpoint is None and "otlp" in exporters:
        endpoint = OtelSetting(_DEFAULT_ENDPOINT, "OTEL_TRACES_EXPORTER")
    if endpoint is not None and (not exporters or "otlp" in exporters) and not to_collector:
        found["otlp"] = endpoint
        protocol = _of_exporter(env, "PROTOCOL")
        if protocol is not None and protocol.value != _PROTOCOL:
            message = f'must be "{_PROTOCOL}", which the edge speaks; or name the collector for that in tracing.otlp'
            raise ConfigError([Problem(protocol.variable, message)], status=422)
    if found or to_collector:
        for name, key in _FILES.items():
            if (said := _of_exporter(env, name)) is not None:
                found[key] = said
    ratio = _ratio(env)
    return found if ratio is None else found | {"sample_ratio": ratio}


def otel_headers(env: Mapping[str, str]) -> dict[str, str]:
    """Give the header fields for a collector: secrets, which are part of no Config and no error. What is none is passed over."""
    said = _of_exporter(env, "HEADERS")
    pairs = [] if said is None else [part.partition("=") for part in said.value.split(",")]
    fields = {unquote(name.strip()): unquote(value.strip()) for name, equals, value in pairs if equals and name.strip()}
    return {name: value for name, value in fields.items() if name.isascii() and (name + value).isprintable() and " " not in name}


def _of_exporter(env: Mapping[str, str], name: str) -> OtelSetting | None:
    """Give what the exporter's variable says, the one for traces first."""
    for variable in (f"OTEL_EXPORTER_OTLP_TRACES_{name}", f"OTEL_EXPORTER_OTLP_{name}"):
        if text := env.get(variable, "").strip():
            return OtelSetting(text, variable)
    return None


def _ratio(env: Mapping[str, str]) -> OtelSetting | None:
    sampler = env.get("OTEL_TRACES_SAMPLER", "").strip().removeprefix("parentbased_")
    if sampler != "traceidratio":
        return OtelSetting(_RATIOS[sampler], "OTEL_TRACES_SAMPLER") if sampler in _RATIOS else None
    variable = "OTEL_TRACES_SAMPLER_ARG"
    text = env.get(variable, "").strip() or "1"
    try:
        return OtelSetting(float(text), variable)
    except ValueError:
        return OtelSetting(text, variable)  # refused with the variable's name
