"""The configuration: `backends.json`, variables and flags become one frozen `Config`, or one `ConfigError`.

A flag beats a `SMARTEDGE_*` variable, which beats the file, which beats the default. Numbers are strict: "2"
is no 2 and true is no 1. Below this file nobody sees a dict or a default. Leaves: `config/sections.py` (inner
models), `config/values.py` (single values), `config/problems.py` (JSON, wording), `config/sources.py` (file, flags).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from smartedge.balancer.spec import DEFAULT_SERVICE
from smartedge.config import values
from smartedge.config.access_log import LogFormat, LogHeaders, LogTarget, RotateBytes, RotateSeconds
from smartedge.config.backends import BackendConfig, Backends, canonical_list, checked_beforehand
from smartedge.config.certificates import AUTO, AcmeConfig, CertificateConfig, Certificates, Ciphers
from smartedge.config.certificates import problems as certificate_problems
from smartedge.config.cluster import Cluster
from smartedge.config.discover import DiscoverConfig
from smartedge.config.problems import SMALLEST, ConfigError, Finding, Problem, decode, explain
from smartedge.config.routes import RouteConfig, with_ids
from smartedge.config.routes import problems as route_problems
from smartedge.config.section import (
    File,
    Folder,
    Grace,
    Label,
    Listed,
    Networks,
    Seconds,
    beside,
    canonical_json,
    canonical_object,
)
from smartedge.config.sections import ExplainConfig, LimitsConfig, TimeoutsConfig
from smartedge.config.services import (
    CheckedService,
    NamedServices,
    ServiceConfig,
    ServiceName,
    WrittenService,
    said_once,
    service_names,
    with_defaults,
)
from smartedge.config.services import problems as service_problems
from smartedge.config.sources import DEFAULT_PATH, Overlay, Read, admin_token, config_path, read_file, sticky_secret
from smartedge.config.tracing import Tracing
from smartedge.config.zones import NamedZones, Zones

__all__ = ["Config", "ConfigError", "Problem", "admin_token", "config_path", "json_schema", "load", "parse", "parse_canonical"]


def _workers(value: object) -> int | str:
    if value == "auto" or (type(value) is int and 1 <= value <= MAX_WORKERS):
        return value
    raise ValueError(f'must be a whole number from 1 to {MAX_WORKERS}, or "auto", not {values.shown(value)}')


MAX_WORKERS = 64
"""As many as there are slots (workers/state_dir.py)."""

CHECKED_APART = 50
"""So many backends of a service are checked one by one, with pauses: all at a stretch would hold up requests."""

_WORKERS_SCHEMA = {"anyOf": [{"type": "integer", "minimum": 1, "maximum": MAX_WORKERS}, {"const": "auto"}]}

_NAMES = Field(json_schema_extra={"propertyNames": {"pattern": "^[a-z0-9-]{1,63}$"}, "default": {}})
Services = Annotated[dict[ServiceName, CheckedService], AfterValidator(NamedServices), _NAMES]
Address = Annotated[str, AfterValidator(values.bind_text)]
AdminAddress = Annotated[str, AfterValidator(values.admin_address)]
Workers = Annotated[int | str, PlainValidator(_workers), WithJsonSchema(_WORKERS_SCHEMA)]


class Config(ServiceConfig):
    """The whole configuration, checked and complete; `parse` and `load` build it.

    The keys of a service stand at its top, too: they are those of the service `default`, and what all others go by.
    """

    model_config = ConfigDict(json_schema_extra={"anyOf": [{"required": [key]} for key in ("backends", "discover", "services")]})

    backends: Backends = ()
    """The servers of the service `default`: URLs, or objects. One of `backends`, `discover` and `services` must be there."""
    discover: DiscoverConfig | None = None
    """Where more backends of the service `default` [come from](discovery.md): DNS, Consul, etcd, a file."""
    services: Services = Field(default_factory=NamedServices)
    """More [services](services.md) by name, each with backends and keys of its own; what it does not say is as it stands here."""
    routes: Annotated[tuple[RouteConfig, ...], Listed, AfterValidator(with_ids)] = ()
    """Which requests go where, and what happens to them on the way; with one service they may be left out."""
    timeouts: TimeoutsConfig = TimeoutsConfig()
    """How long the edge waits for what."""
    limits: LimitsConfig = LimitsConfig()
    """How much the edge takes in."""
    explain: ExplainConfig = ExplainConfig()
    """Which requests' decisions are kept, to be asked for."""
    trusted_proxies: Networks = ()
    """Proxies whose X-Forwarded-* is believed: CIDR ranges."""
    forwarded_header: bool = False
    """Send the standard's `Forwarded` (RFC 7239) besides X-Forwarded-*, with what trusted proxies say by those."""
    admin_allow: Networks = ()
    """CIDR ranges that may reload and read status and metrics."""
    shutdown_grace_s: Grace = 10.0
    """Time to end requests in flight when the edge stops."""
    resolve_s: Annotated[float, Field(ge=0.1, le=86_400)] = 5.0
    """How often a backend's host name is looked up; a look-up that fails changes nothing."""
    drain_s: Grace = 60.0
    """Time to end requests in flight on a removed backend."""
    bind: Address = "127.0.0.1:8080"
    """Address that clients connect to."""
    admin_bind: AdminAddress | None = None
    """Address for the admin pages alone: `HOST:PORT`, or `unix:/PATH` (mode 0600); null has them on `bind`."""
    workers: Workers = 1
    """Processes that serve; `auto` is one for each processor."""
    zones: Zones = Field(default_factory=NamedZones)
    """Places by name, such as `{"sa-east-1a": {"region": "sa-east-1", "location": [-23.55, -46.63]}}`."""
    zone: Label | None = None
    """The zone that this edge stands in; null is not known."""
    certfile: File | None = None
    """PEM file of the certificate that clients on `bind` are shown, which then speak https; read again at every reload."""
    keyfile: Annotated[File | None, beside("certfile")] = None
    """PEM file of its key, when `certfile` does not hold it."""
    certificates: Certificates = ()
    """More [certificates](tls.md), chosen by the name that a client asks for; the first is shown where none fits. A text is the
    name of a host for which one is got, `"auto"` all hosts of the routes."""
    certificates_dir: Folder | None = None
    """Folder of more: `NAME.pem`, `NAME.crt` with `NAME.key`, or certbot's `NAME/fullchain.pem` with `privkey.pem`."""
    strict_sni: bool = False
    """Refuse clients that ask for a name which no certificate is for, or for none."""
    tls_min_version: Literal["1.2", "1.3"] = "1.2"
    """Oldest version of TLS that clients may speak."""
    tls_ciphers: Ciphers | None = None
    """Cipher suites of TLS 1.2 in OpenSSL's words; null is Mozilla's "intermediate" list."""
    client_ca_file: File | None = None
    """PEM file of the authorities whose certificates clients show; null asks for none."""
    client_certificates: Literal["optional", "required"] = "required"
    """Whether a client must show one, where there is a `client_ca_file`."""
    hsts_s: Annotated[int, Field(ge=0, le=315_360_000)] | None = None
    """How long browsers are to come by https alone (`Strict-Transport-Security`); null does not say so."""
    http2: bool | None = None
    """Offer [HTTP/2](http2.md) to clients that speak TLS; null does where the package hpack is installed (`smartedge[http2]`)."""
    h2c: bool = False
    """Let clients without TLS speak HTTP/2, who begin with it at once (a proxy in front, gRPC inside a network)."""
    http_bind: Address | None = None
    """Address of a second listener without TLS, which sends everybody to https; null has none."""
    https_port: Annotated[int, Field(ge=1, le=65_535)] | None = None
    """Port of the URLs that it sends to; null is that of `bind`."""
    acme_webroot: Folder | None = None
    """Folder from which `http_bind` answers `/.well-known/acme-challenge/`, for another program that gets certificates."""
    acme: Annotated[AcmeConfig, Field(validate_default=True)] = AcmeConfig()
    """Where automatic certificates come from."""
    take_over: bool = True
    """Under plain `gunicorn -k gevent`, serve connections [with our own handler](deployment.md#under-gunicorn); false leaves them
    to gunicorn's loop."""
    access_log: LogTarget = False
    """A [line for each request](access-log.md): true for standard output, or the name of a file."""
    access_log_format: LogFormat = "json"
    """How a line looks: `json`, `combined` (as Apache and nginx write it) or `logfmt`."""
    access_log_headers: LogHeaders = ()
    """Fields of the request whose values are logged, too, such as `Accept-Language`; `answer:NAME` is one of the answer."""
    access_log_sample_ratio: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Share of the usual requests that have a line; those with an error, a retry or a hedge, and the slow ones, always have."""
    access_log_slow_s: Seconds | None = 1.0
    """From how many seconds on a request is slow; null is never."""
    access_log_rotate_bytes: RotateBytes = None
    """Largest size of the file before it is moved aside, once for all workers; null lets it grow."""
    access_log_rotate_s: RotateSeconds = None
    """Span of time whose lines one file holds, counted in UTC, so that 86400 begins one each midnight; null is without end."""
    access_log_keep: Annotated[int, Field(ge=0, le=10_000)] = 10
    """How many files that were moved aside are kept."""
    access_log_compress: bool = False
    """Compress them with gzip."""
    tracing: Tracing = None
    """How the edge takes part in [traces](tracing.md): true, a collector's address, or an object; null or false is not at all."""
    watch: bool = False
    """Reload when somebody changes the configuration file, also by turning a symbolic link (Kubernetes)."""
    cluster: Cluster | None = None
    """The [cluster](cluster.md) that this node is part of: `etcd://HOST:2379,HOST2:2379/PREFIX`, or an object; null is none."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """What of itself the edge logs, to standard error: this and what is worse."""

    @model_validator(mode="before")
    @classmethod
    def _for_all(cls, document: object) -> object:
        return with_defaults(document)

    @field_validator("admin_bind")
    @classmethod
    def _another_address(cls, admin_bind: str | None, info: ValidationInfo) -> str | None:
        if admin_bind and admin_bind == info.data.get("bind") and not admin_bind.endswith(":0"):
            raise ValueError("must differ from bind")
        return admin_bind

    @field_validator("http_bind")
    @classmethod
    def _a_third_address(cls, http_bind: str | None, info: ValidationInfo) -> str | None:
        taken = [key for key in ("bind", "admin_bind") if http_bind and info.data.get(key) == http_bind]
        if taken and not str(http_bind).endswith(":0"):
            raise ValueError(f"must differ from {taken[0]}")
        return http_bind

    @field_validator("acme")
    @classmethod
    def _as_they_ask(cls, acme: AcmeConfig, info: ValidationInfo) -> AcmeConfig:
        """Automatic certificates need the authority's terms, and a port that it can ask."""
        if any(entry.name for entry in info.data.get("certificates", ())) and not acme.agree_tos:
            raise ValueError(
                "must say that you agree to the authority's terms of service (agree_tos: true), for there are names in"
                " certificates"
            )
        return acme

    @property
    def automatic_names(self) -> tuple[str, ...]:
        """The hosts for which certificates are got and renewed."""
        return tuple(dict.fromkeys(name for entry in self.certificates for name in self.names_of(entry)))

    def names_of(self, entry: CertificateConfig) -> tuple[str, ...]:
        """The hosts that an entry of `certificates` gets one for; "auto" stands for the exact hosts of the routes."""
        if entry.name != AUTO:
            return () if entry.name is None else (entry.name,)
        hosts = [host for route in getattr(self, "routes", ()) for host in route.host or ()]
        return tuple(dict.fromkeys(host for host in hosts if not host.startswith("*.")))

    @property
    def speaks_tls(self) -> bool:
        """Whether clients on `bind` speak https."""
        return bool(self.certfile or self.certificates or self.certificates_dir)

    def all_services(self) -> tuple[WrittenService, ...]:
        """Return the services, the short form's first, then by name; without routes there is but one."""
        short = (WrittenService(DEFAULT_SERVICE, (), self),) if self.backends or self.discover else ()
        return short + tuple(WrittenService(name, ("services", name), one) for name, one in self.services.items())

    def with_found(self, found: Mapping[str, tuple[BackendConfig, ...]]) -> Config:
        """Return the same with what was found for its services; `etag` and `to_json` go on saying what was written."""
        written = self.written
        top = found.get(DEFAULT_SERVICE, ()) if written.discover else ()
        services = {
            name: one.with_backends(found.get(name, ()) if one.discover else ()) for name, one in written.services.items()
        }
        if not top and all(one is written.services[name] for name, one in services.items()):
            return written
        whole = written.with_backends(top) if top else written.model_copy()
        whole._written = written
        return whole.model_copy(update={"services": NamedServices(services)})

    @cached_property
    def etag(self) -> str:
        """Sixteen hexadecimal digits that are the same exactly when the configuration is, as it was written."""
        if self.written is not self:
            return self.written.etag
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:16]

    def to_json(self) -> str:
        """The canonical text of what was written: every key, sorted; `parse` makes an equal configuration of it."""
        return self.written._canonical

    @cached_property
    def _canonical(self) -> str:
        return self._write_out(at_once)

    def write_out(self, pause: Callable[[], None]) -> None:
        """Write the canonical text beforehand: for hundreds of backends it takes milliseconds. pause: called after each."""
        self.__dict__["_canonical"] = self._write_out(pause)

    def _write_out(self, pause: Callable[[], None]) -> str:
        document = self.model_dump(mode="json", exclude={"backends", "services"})
        texts = {key: canonical_json(value) for key, value in document.items()}
        if self.backends:  # missing, where there are services, and never empty
            texts["backends"] = canonical_list(self.backends, pause)
        if self.services:
            for service in self.services.values():
                canonical_list(service.backends, pause)  # which the service's own text is made of, without a pause
            written = [f"{json.dumps(name)}:{service.canonical}" for name, service in self.services.items()]
            texts["services"] = ",".join(written).join("{}")
        return canonical_object(texts)


def _long_lists(document: object) -> Iterator[list[object]]:
    """Give the `backends` of all services of a document that are so many that checking them takes long."""
    if isinstance(document, dict):
        services = document.get("services")
        for service in (document, *(services.values() if isinstance(services, dict) else ())):
            entries = service.get("backends") if isinstance(service, dict) else None
            if isinstance(entries, list) and len(entries) >= CHECKED_APART:
                yield entries


def at_once() -> None:
    """Go on without a pause."""


def parse(
    text: bytes | str,
    *,
    origin: str = DEFAULT_PATH,
    env: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | None = None,
    pause: Callable[[], None] = at_once,
) -> Config:
    """Check JSON text and make a Config of it, or raise ConfigError with every problem.

    origin: what errors call the text. env, overrides: variables and flags laid over it, as in `load`. pause: called between the
    steps, of which there are some for each backend.
    """
    document, repeated = decode(text, origin, pause)
    pause()
    return _build(document, repeated, Overlay(env or {}, overrides or {}), origin, pause)


def parse_canonical(document: object, origin: str, pause: Callable[[], None] = at_once) -> Config:
    """Make a Config of what the text says that `to_json` gave; nothing is laid over it any more. Raises ConfigError."""
    return _build(document, [], Overlay({}, {}), origin, pause)


def load(
    path: str | os.PathLike[str] | None = None,
    env: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | None = None,
    read: Read = read_file,
) -> Config:
    """Read the file and lay variables and flags (by their key, None for not given) over it.

    The file may be missing when a variable or a flag names the backends.
    """
    env, overrides = env or {}, overrides or {}
    sticky_secret(env)
    file, overlay = config_path(path, env), Overlay(env, overrides)
    text = read(file)
    if text is not None:
        return parse(text, origin=file, env=env, overrides=overrides)
    if overlay.hides("backends"):
        return _build({}, [], overlay, file, at_once)
    message = f"there is no such file; write one, such as {SMALLEST}, or name another with --config"
    raise ConfigError([Problem("", message)], status=400, origin=file)


def json_schema() -> dict[str, Any]:
    """The JSON Schema of `backends.json`, for editors and the reference table."""
    schema = Config.json_schema()
    schema["properties"]["$schema"] = {
        "type": "string",
        "description": "Where an editor finds the schema of this file (`smartedge config schema`); the edge does not look at it.",
    }
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _build(document: object, repeated: list[Finding], overlay: Overlay, origin: str, pause: Callable[[], None]) -> Config:
    if isinstance(document, dict) and isinstance(document.get("$schema"), str):
        document = {key: value for key, value in document.items() if key != "$schema"}  # for editors, not for us
    document = overlay.over(document)
    found = [finding for finding in repeated if not overlay.hides(finding[0][0])]
    config = None
    try:
        config = Config.model_validate(document, context=checked_beforehand(_long_lists(document), pause))
    except ValidationError as error:
        found += explain(error.errors(include_url=False), Config, document)
    pause()
    found = said_once(found, document)
    found += service_problems(document, pause)
    pause()
    found += route_problems(document.get("routes") if isinstance(document, dict) else None, service_names(document))
    if config is None or found:
        found += certificate_problems(document)
        problems = [Problem(overlay.where(path), message) for path, message in found]
        raise ConfigError(problems, status=422, origin=origin)
    pause()
    config.write_out(pause)
    return config
