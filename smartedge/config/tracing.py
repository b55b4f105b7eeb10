"""The key `tracing`: how the edge takes part in traces, as an object, or as one text or switch that is short for it."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, field_validator

from smartedge.config.discover import HttpAddress
from smartedge.config.section import Count, File, Labels, Networks, ProbeHeaders, Seconds, Section, Text, beside

TRACES_PATH = "/v1/traces"
"""Behind the address of a collector (OTLP/HTTP); an address that ends with it is taken as it is."""


class TracingConfig(Section):
    """How the edge takes part in [traces](tracing.md); `true` is short for all defaults, a text for an `otlp`."""

    sample_ratio: Annotated[float, Field(ge=0, le=1)] = 0.01
    """Share of the traces that begin at the edge which are recorded; in others the client's flag counts."""
    otlp: HttpAddress | None = None
    """Collector that spans are sent to by OTLP/HTTP, `http://127.0.0.1:4318`; null sends none. Needs `smartedge[otel]`."""
    trusted: Networks = ()
    """CIDR ranges of clients, besides `trusted_proxies`, that may have each of their traces recorded."""
    others_per_s: Annotated[int, Field(ge=0, le=1_000_000)] = 10
    """Traces a second, in each worker, that all other clients may have recorded; beyond it `sample_ratio` decides."""
    service_name: Text | None = None
    """Attribute `service.name` of the spans; null goes by `OTEL_SERVICE_NAME`, else it is `smartedge`."""
    attributes: Annotated[Labels, Field(json_schema_extra={"default": {}})] = ()
    """More attributes of the edge itself, such as `{"deployment.environment.name": "prod"}`."""
    headers: Annotated[ProbeHeaders, Field(json_schema_extra={"default": {}})] = ()
    """Header fields for the collector; secrets belong in `OTEL_EXPORTER_OTLP_HEADERS`."""
    compression: Literal["none", "gzip"] = "none"
    """Of what is sent to the collector."""
    ca_file: File | None = None
    """PEM file of authorities to trust instead of the system's."""
    cert_file: File | None = None
    """PEM file of the certificate that the edge shows."""
    key_file: Annotated[File | None, beside("cert_file")] = None
    """PEM file of its key, when `cert_file` does not hold it."""
    timeout_s: Seconds = 10.0
    """Longest that the collector is waited for."""
    queue: Count = 4_096
    """Most spans that wait to be sent, in each worker; those beyond it are lost, and counted."""

    @field_validator("otlp")
    @classmethod
    def _with_opentelemetry(cls, otlp: str | None) -> str | None:
        if otlp is not None and not _is_installed():
            raise ValueError("needs OpenTelemetry: pip install 'smartedge[otel]'")
        return otlp

    @property
    def traces_url(self) -> str | None:
        """Where spans are posted, None for nowhere."""
        if self.otlp is None or self.otlp.endswith(TRACES_PATH):
            return self.otlp
        return self.otlp + TRACES_PATH


def _is_installed() -> bool:
    try:
        return find_spec("opentelemetry.proto") is not None and find_spec("opentelemetry.sdk") is not None
    except ModuleNotFoundError:
        return False


def _object(value: object) -> object:
    """Make the object of a switch, or of an address."""
    if isinstance(value, bool):
        return {} if value else None
    return {"otlp": value} if isinstance(value, str) else value


Tracing = Annotated[TracingConfig | None, BeforeValidator(_object, json_schema_input_type=bool | str | TracingConfig | None)]
"""An object, a text or a switch that is short for one; None where the edge takes no part in traces."""
