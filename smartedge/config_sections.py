"""The sections of `backends.json`: a frozen model each, with every key's type, bounds, default, description.

Durations are seconds, sizes bytes. The documentation's reference table is made of the descriptions.
"""

from __future__ import annotations

import os
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationInfo,
    WithJsonSchema,
    field_serializer,
    field_validator,
)

from smartedge import config_values as values


def _existing_file(text: str) -> str:
    if not os.path.isfile(values.line(text)):
        raise ValueError(f"names {values.shown(text)}, which is no file here")
    return text


def _hedge(value: object) -> Literal[False]:
    if value is not False:
        raise ValueError("must be false: hedged requests are not built yet")
    return value


def _sorted(items: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(sorted(set(items)))


_STATUS_SCHEMA = {"anyOf": [{"type": "integer", "minimum": 100, "maximum": 599}, {"type": "string"}]}

Seconds = Annotated[float, Field(gt=0, le=86_400)]  # a day: sockets and timers take no number without end
Grace = Annotated[float, Field(ge=0, le=86_400)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]
Size = Annotated[int, Field(ge=1_024, le=1 << 30)]
Label = Annotated[str, AfterValidator(values.label)]
Text = Annotated[str, AfterValidator(values.line)]
File = Annotated[str, AfterValidator(_existing_file)]
# Lists are read as tuples, which do not change; strict=False allows just that, the items stay strict.
Listed = Field(strict=False)
StatusItem = Annotated[int | str, PlainValidator(values.status_item), WithJsonSchema(_STATUS_SCHEMA)]


class Section(BaseModel):
    """What all sections share: frozen, no unknown keys, no conversions, no NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True)


class HealthConfig(Section):
    """How backends are probed."""

    path: Annotated[str, AfterValidator(values.health_path)] = "/health"
    """What is asked for."""
    interval_s: Seconds = 2.0
    """Time between two probes of a backend."""
    timeout_s: Seconds = 1.0
    """Time after which a probe has failed."""
    fall: Count = 3
    """Failed probes in a row that make a healthy backend unhealthy."""
    rise: Count = 2
    """Good probes in a row that make an unhealthy backend healthy."""
    statuses: Annotated[tuple[StatusItem, ...], Listed] = ("200-299",)
    """Statuses of a good probe: codes, classes ("2xx") or ranges ("200-299")."""

    @field_validator("statuses")
    @classmethod
    def _shortest(cls, items: tuple[int | str, ...]) -> tuple[int | str, ...]:
        if not items:
            raise ValueError('must hold at least one status, such as "2xx"')
        return values.status_ranges(items)


class TlsConfig(Section):
    """How the edge speaks TLS to an https backend."""

    verify: bool = True
    """Check the backend's certificate."""
    ca_file: File | None = None
    """PEM file of authorities to trust instead of the system's."""
    cert_file: File | None = None
    """PEM file of the certificate that the edge shows."""
    key_file: File | None = None
    """PEM file of its key, when `cert_file` does not hold it."""
    server_name: Text | None = None
    """Name to ask for and check instead of the URL's host."""

    @field_validator("key_file")
    @classmethod
    def _with_certificate(cls, key_file: str | None, info: ValidationInfo) -> str | None:
        if key_file and info.data.get("cert_file", "wrong in itself") is None:
            raise ValueError("needs a cert_file beside it")
        return key_file


class BackendConfig(Section):
    """One backend: in the file an object, or only its URL."""

    url: Annotated[str, AfterValidator(values.backend_url)]
    """`http://` or `https://`, a host, perhaps a port; nothing else."""
    id: Label = ""
    """Name in status, metrics and logs; by default host and port, `localhost-8081`."""
    weight: Annotated[int, Field(ge=1, le=1000)] = 1
    """Share of the requests, 1 to 1000."""
    zone: Label | None = None
    """Where it stands; shown in the status."""
    health: HealthConfig | None = None
    """Keys of `health` that differ for this backend."""
    preserve_host: bool | None = None
    """Differs from the common value unless null."""
    max_in_flight: Count | None = None
    """Most requests open at once; null sets no limit."""
    tls: TlsConfig | None = None
    """TLS settings of an https backend."""

    @field_validator("tls")
    @classmethod
    def _only_https(cls, tls: TlsConfig | None, info: ValidationInfo) -> TlsConfig | None:
        if tls and info.data.get("url", "").startswith("http://"):
            raise ValueError("is for an https:// URL only")
        return tls

    @field_serializer("health")
    def _overrides(self, health: HealthConfig | None) -> dict[str, Any] | None:
        """Only what was written: a default here would hide the common value."""
        return health.model_dump(mode="json", exclude_unset=True) if health else None


class TimeoutsConfig(Section):
    """How long the edge waits."""

    connect_s: Seconds = 2.0
    """For a connection to a backend, TLS included."""
    first_byte_s: Seconds = 30.0
    """For an answer's first byte once the request is sent."""
    idle_s: Seconds = 60.0
    """For the next bytes of a body, from a client or a backend."""
    head_s: Seconds = 10.0
    """For a client's whole request head."""
    keepalive_s: Seconds = 75.0
    """For a client's next request on an open connection."""
    tunnel_idle_s: Seconds = 3600.0
    """For the next byte either way in a tunnel (`Upgrade`, such as WebSocket)."""


class RetryConfig(Section):
    """When a request is tried again, and how often."""

    statuses: Annotated[tuple[Annotated[int, Field(ge=400, le=599)], ...], Listed, AfterValidator(_sorted)] = (502, 503, 504)
    """Answers to try again, 400 to 599; idempotent methods only."""
    attempts: Annotated[int, Field(ge=1, le=100)] = 3
    """Most tries of one request, the first included; 1 never repeats."""
    deadline_s: Seconds = 60.0
    """Time for all tries together."""
    body_bytes: Annotated[int, Field(ge=0, le=1 << 30)] = 65_536
    """Bytes of a request body kept to be sent again; a longer one is sent only once."""
    hedge: Annotated[Literal[False], BeforeValidator(_hedge)] = False
    """Ask a second backend when the first is slow. Not built yet: only false."""


class BreakerConfig(Section):
    """When a failing backend is ejected, and for how long."""

    failures: Count = 5
    """Failures in a row that eject a backend."""
    ratio: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Share of failures in the window that ejects a backend."""
    window_s: Seconds = 10.0
    """Length of that window."""
    min_requests: Count = 20
    """Requests in the window below which the share says nothing."""
    open_s: Seconds = 5.0
    """Time out of service at the first ejection; it doubles each time."""
    max_open_s: Annotated[Seconds, Field(validate_default=True)] = 300.0
    """Longest time out of service."""

    @field_validator("max_open_s")
    @classmethod
    def _not_below_open(cls, max_open_s: float, info: ValidationInfo) -> float:
        if max_open_s < info.data.get("open_s", 0):
            raise ValueError(f"must be at least open_s ({info.data['open_s']:g}), not {max_open_s:g}")
        return max_open_s


class LimitsConfig(Section):
    """How much the edge takes in."""

    target_bytes: Size = 8_192
    """Longest request target; beyond it 414."""
    head_bytes: Size = 65_536
    """Largest request head; beyond it 431."""
    headers: Annotated[int, Field(ge=16, le=10_000)] = 200
    """Most header fields of a request; beyond it 431."""
    body_bytes: Annotated[int, Field(ge=0, le=1 << 62)] = 0
    """Largest request body; beyond it 413. 0 sets no limit."""
    answer_head_bytes: Size = 65_536
    """Largest head of a backend's answer; beyond it 502."""
    connections_per_backend: Annotated[int, Field(ge=0, le=65_536)] = 128
    """Most idle connections kept open to each backend."""
