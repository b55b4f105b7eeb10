"""The entries of `backends` and how they are probed: a frozen model each.

Durations are seconds. The documentation's reference table is made of the descriptions.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from typing import Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_serializer,
    field_validator,
)

from smartedge.balancer.spec import TlsSpec
from smartedge.config import values
from smartedge.config.problems import explain, path_text
from smartedge.config.section import (
    Cap,
    Count,
    File,
    Label,
    Labels,
    Listed,
    ProbeHeaders,
    Seconds,
    Section,
    StatusItem,
    Text,
    beside,
    canonical_json,
)
from smartedge.config.zones import Location

_OF_HTTP: Final = ("path", "host", "headers", "port", "body", "statuses")
"""Keys of `health` about a probe that asks; of these one that only connects goes by the port."""


def says_something(key: str, kind: object) -> bool:
    """Say whether a key of `health` means anything to probes of this type."""
    return kind == "http" or key not in _OF_HTTP or (key == "port" and kind == "tcp")


class HealthConfig(Section):
    """How backends are probed."""

    type: Literal["http", "tcp", "grpc", "none"] = "http"
    """`http` asks for `path`, `tcp` only for a connection (with TLS for https), `grpc` calls `grpc.health.v1.Health/Check`;
    `none` asks nothing, and takes it for healthy."""
    method: Literal["GET", "HEAD", "OPTIONS", "POST"] = "GET"
    """How `path` is asked for."""
    path: Annotated[str, AfterValidator(values.health_path)] | None = None
    """What is asked for; null for `/health`, and as nobody has said that there is such a thing, any answer below 500 is good."""
    host: Annotated[str, AfterValidator(values.probe_host)] | None = None
    """Host of a probe; null for the one of the backend's URL, and if the backend refuses that one that clients sent."""
    headers: Annotated[ProbeHeaders, Field(json_schema_extra={"default": {}})] = ()
    """More header fields of a probe, such as `{"X-Forwarded-Proto": "https"}`."""
    port: Annotated[int, Field(ge=1, le=65_535)] | None = None
    """Port that is probed; null for the one of the URL."""
    body: Annotated[str, AfterValidator(values.probe_body)] | None = None
    """Text that the answer must hold, in its first 64 KiB."""
    interval_s: Seconds = 2.0
    """Time between two probes of a backend."""
    timeout_s: Seconds = 1.0
    """Time after which a probe has failed."""
    fall: Count = 3
    """Failed probes in a row that make a healthy backend unhealthy."""
    rise: Count = 2
    """Good probes in a row that make an unhealthy backend healthy."""
    statuses: Annotated[tuple[StatusItem, ...], Listed] | None = None
    """Statuses of a good probe: codes, classes ("2xx") or ranges ("200-299"); null is 200-299 where `path` is written."""

    @field_validator("statuses")
    @classmethod
    def _shortest(cls, items: tuple[int | str, ...] | None) -> tuple[int | str, ...] | None:
        if items is None:
            return None
        if not items:
            raise ValueError('must hold at least one status, such as "2xx"')
        return values.status_ranges(items)

    @field_validator(*_OF_HTTP)
    @classmethod
    def _of_its_type(cls, value: object, info: ValidationInfo) -> object:
        kind = info.data.get("type", "http")
        if value and not says_something(str(info.field_name), kind):
            raise ValueError(f'says nothing to a probe of type "{kind}"')
        return value

    @field_validator("body")
    @classmethod
    def _with_body(cls, body: str | None, info: ValidationInfo) -> str | None:
        if body and info.data.get("method") == "HEAD":
            raise ValueError("cannot be looked for in the answer to a HEAD, which has none")
        return body


class TlsConfig(Section):
    """How the edge speaks TLS to an https backend."""

    verify: bool = True
    """Check the backend's certificate."""
    ca_file: File | None = None
    """PEM file of authorities to trust instead of the system's."""
    cert_file: File | None = None
    """PEM file of the certificate that the edge shows."""
    key_file: Annotated[File | None, beside("cert_file")] = None
    """PEM file of its key, when `cert_file` does not hold it."""
    server_name: Text | None = None
    """Name to ask for and check instead of the URL's host."""


class BackendConfig(Section):
    """One backend: in the file an object, or only its URL."""

    url: Annotated[str, AfterValidator(values.backend_url)]
    """`http://` or `https://`, a host, perhaps a port and a path; or a socket, `unix:/run/app.sock`."""
    id: Label = ""
    """Name in status, metrics and logs; by default host, port and path, `localhost-8081`; `0--1-8081` of `http://[::1]:8081`."""
    weight: Annotated[int, Field(ge=0, le=1000)] = 1
    """Share of the requests, 1 to 1000; with 0 it takes none but those of sticky sessions."""
    state: Literal["enabled", "draining", "disabled"] = "enabled"
    """`draining` takes no requests but those of sticky sessions, `disabled` none; the admin endpoints change it, too."""
    zone: Label | None = None
    """Where it stands: one of `zones`, which say more of it, or any other name."""
    region: Label | None = None
    """The region that it stands in; null for that of its zone."""
    location: Location | None = None
    """Latitude and longitude in degrees, such as `[-23.55, -46.63]`; null for those of its zone."""
    priority: Annotated[int, Field(ge=0, le=65_535)] = 0
    """Lower ones go first, as in SRV records; a higher one is for a backup, which helps where those before it can't carry all."""
    protocol: Literal["http/1.1", "h2", "h2c"] | None = None
    """Differs from the common value unless null; `h2` is for an https:// URL, `h2c` for one without TLS."""
    health: HealthConfig | None = None
    """Keys of `health` that differ for this backend."""
    preserve_host: bool | None = None
    """Differs from the common value unless null."""
    max_in_flight: Cap | None = None
    """Most requests open at once, a number or `"adaptive"`; null for `limits.in_flight_per_backend`."""
    tls: TlsConfig | None = None
    """TLS settings of an https backend."""
    labels: Annotated[Labels, Field(json_schema_extra={"default": {}})] = ()
    """Texts by name, at most 16, for strategies of your own; shown in the status."""

    @cached_property
    def found_document(self) -> dict[str, Any]:
        """What was said of it, as plain data; of one that was found, which is told to other workers and kept on disk."""
        return self.model_dump(mode="json", exclude_unset=True)

    @cached_property
    def found_text(self) -> str:
        """The same as JSON."""
        return json.dumps(self.found_document, separators=(",", ":"))

    @cached_property
    def canonical(self) -> str:
        """The canonical text, as part of the whole configuration's: every key, sorted."""
        return canonical_json(self.model_dump(mode="json"))

    @property
    def tls_spec(self) -> TlsSpec | None:
        """The same as `tls`, as the balancer's own value."""
        return TlsSpec(**self.tls.model_dump()) if self.tls else None

    @field_validator("tls")
    @classmethod
    def _only_https(cls, tls: TlsConfig | None, info: ValidationInfo) -> TlsConfig | None:
        if tls and not info.data.get("url", "https://").startswith("https://"):
            raise ValueError("is for an https:// URL only")
        return tls

    @field_validator("protocol")
    @classmethod
    def _as_the_url_says(cls, protocol: str | None, info: ValidationInfo) -> str | None:
        if protocol and (wrong := protocol_problem(protocol, info.data.get("url"))):
            raise ValueError(wrong)
        return protocol

    @field_validator("health")
    @classmethod
    def _no_port_of_a_socket(cls, health: HealthConfig | None, info: ValidationInfo) -> HealthConfig | None:
        if health and health.port and info.data.get("url", "").startswith("unix:"):
            raise ValueError("must not have a port, which a unix socket has none of")
        return health

    @field_serializer("health")
    def _overrides(self, health: HealthConfig | None) -> dict[str, Any] | None:
        """Only what was written: a default here would hide the common value."""
        return health.model_dump(mode="json", exclude_unset=True) if health else None


def protocol_problem(protocol: str, url: object) -> str | None:
    """Say why a backend's URL does not go with a protocol; None where it does."""
    if not isinstance(url, str) or protocol == "http/1.1":
        return None
    if protocol == "h2" and not url.startswith("https://"):
        return 'is HTTP/2 over TLS and needs an https:// URL; without TLS it is "h2c"'
    if protocol == "h2c" and url.startswith("https://"):
        return 'is HTTP/2 without TLS; for an https:// URL it is "h2"'
    return None


def _backend_entry(value: object) -> object:
    """An entry may be a plain URL, which is short for an object with only that."""
    if isinstance(value, str):
        return {"url": value}
    if isinstance(value, dict):
        return value
    raise ValueError(f'must be a URL or an object with a "url", not {values.shown(value)}')


def _with_ids(backends: tuple[BackendConfig, ...]) -> tuple[BackendConfig, ...]:
    """Give each an id: one that was not written is made of host and port."""
    plain = Counter(backend.id or id_of(backend.url) for backend in backends)
    return tuple(b if b.id else b.model_copy(update={"id": id_of(b.url, alone=plain[id_of(b.url)] == 1)}) for b in backends)


def id_of(url: str, *, alone: bool = True) -> str:
    """Make a label of host, port and path; a digest keeps labels apart that would be equal (not alone) or too long.

    The zeros that an IPv6 address begins with are one: commands take what begins with a dash for an option.
    """
    origin = values.origin(url)
    name = origin.host if origin.scheme == "unix" else f"{origin.host}-{origin.port}"
    name = f"0{name}" if name.startswith("::") else name
    name = "-".join(re.findall(r"[A-Za-z0-9._-]+", name.replace(":", "-") + origin.base)).lstrip("-") or "none"
    if alone and len(name) <= 64 and name != "none":
        return name
    return f"{name[:55]}-{hashlib.sha256(url.encode()).hexdigest()[:8]}"


def _as_checked(entry: object, check: ValidatorFunctionWrapHandler, info: ValidationInfo) -> BackendConfig:
    """Check an entry, unless that has been done beforehand (see `checked_beforehand`)."""
    found = (info.context or {}).get(id(entry))
    return check(entry) if found is None else found  # type: ignore[no-any-return]


BackendEntry = Annotated[
    BackendConfig,
    BeforeValidator(_backend_entry, json_schema_input_type=str | BackendConfig),
    WrapValidator(_as_checked),
]
Backends = Annotated[tuple[BackendEntry, ...], Listed, AfterValidator(_with_ids)]
"""A list of backends, each a URL or an object."""


_ENTRY: TypeAdapter[BackendConfig] = TypeAdapter(BackendEntry)


def checked_beforehand(lists: Iterable[Sequence[object]], pause: Callable[[], None]) -> Mapping[int, BackendConfig]:
    """Check the entries of these lists one by one; return what they are, by the `id()` of the entry.

    As the context of the check of all that they stand in, it spares that the hundreds of them, which it would check at a stretch.
    What is wrong is left to it, to be told with its place. pause: called after each.
    """
    checked: dict[int, BackendConfig] = {}
    for entries in lists:
        for entry in entries:
            with suppress(ValidationError):
                checked[id(entry)] = _ENTRY.validate_python(entry)
            pause()
    return checked


def canonical_list(backends: Sequence[BackendConfig], pause: Callable[[], None] = lambda: None) -> str:
    """Write backends as the canonical text has them, each but once. pause: called after each."""
    texts: list[str] = []
    for backend in backends:
        texts.append(backend.canonical)
        pause()
    return ",".join(texts).join("[]")


def check_entry(entry: object) -> BackendConfig:
    """Make a backend of one entry that stands in no list, with an empty id where it says none; raises ValueError."""
    try:
        return _ENTRY.validate_python(entry)
    except ValidationError as error:
        found = explain(error.errors(include_url=False), BackendConfig, entry)
        raise ValueError("; ".join(f"{path_text(path)} {text}" if path else text for path, text in found)) from None
