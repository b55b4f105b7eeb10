"""The key `discover`: where more backends of a service come from, a frozen model for each kind of source.

Nothing is asked here. Durations are seconds. The documentation's reference table is made of the descriptions.
"""

from __future__ import annotations

import inspect
import ipaddress
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_serializer,
    model_validator,
)

from smartedge.config import values
from smartedge.config.backends import BackendConfig
from smartedge.config.named_class import described, find_class
from smartedge.config.problems import Finding, Step
from smartedge.config.section import File, Listed, Seconds, Section, Text, beside

GROUP = "smartedge.discovery"
"""The group of entry points in which packages offer sources."""

_BESIDE_OPTIONS = ("allow_empty", "defaults", "every_s", "timeout_s")
"""Keys of a source of one's own that are ours, and no options of its class."""


def _with_url(value: object) -> object:
    """Make a backend of what is said of each one found, so that it is checked as that."""
    if not isinstance(value, dict) or not value:
        return value or None
    if own := [key for key in ("url", "id") if key in value]:
        raise ValueError(f'must not hold "{own[0]}", which each backend that is found has of its own')
    return {"url": "https://found", **value}


def _without_url(said: BackendConfig | None) -> dict[str, Any]:
    return {} if said is None else said.model_dump(mode="json", exclude_unset=True, exclude={"url"})


def host_name(text: str) -> str:
    """A name to ask a name server for; a dot at its end says that it is whole."""
    if len(text) > 253 or not values.HOST.fullmatch(text):
        raise ValueError(f'must be a name such as "web.internal", not {values.shown(text)}')
    return text.lower()


def name_server(text: str) -> str:
    """The address of a name server, perhaps with a port, in normal form: "10.0.0.2:53", "[::1]:53"."""
    try:
        plain: ipaddress.IPv4Address | ipaddress.IPv6Address | None = ipaddress.ip_address(text)
    except ValueError:
        plain = None
    host, port = (str(plain), None) if plain is not None else values.host_and_port(text, text)
    try:
        ipaddress.ip_address(host)
    except ValueError:
        raise ValueError(f'must be an address such as "10.0.0.2" or "10.0.0.2:5353", not {values.shown(text)}') from None
    if port == 0:
        raise ValueError(f"{values.shown(text)} has port 0, where nothing can be reached")
    return f"[{host}]:{port or 53}" if ":" in host else f"{host}:{port or 53}"


def http_address(text: str) -> str:
    """Where a server's HTTP API is: `http://` or `https://`, a host, perhaps a port and a path."""
    if not text.lower().startswith(("http://", "https://")):
        raise ValueError(f"{values.shown(text)} must start with http:// or https://")
    return values.backend_url(text)


EachFound = Annotated[
    BackendConfig | None, BeforeValidator(_with_url), PlainSerializer(_without_url), WithJsonSchema({"type": "object"})
]
Name = Annotated[str, AfterValidator(host_name)]
Server = Annotated[str, AfterValidator(name_server)]
HttpAddress = Annotated[str, AfterValidator(http_address)]
Port = Annotated[int, Field(ge=1, le=65_535)]


class SourceConfig(Section):
    """What every kind of source has."""

    allow_empty: bool = False
    """Believe an answer that there is no backend; else the last ones that were found stay."""
    defaults: Annotated[EachFound, Field(json_schema_extra={"default": {}})] = None
    """Keys of `backends[]` for each one found that does not say them itself, such as `{"weight": 2}`."""

    @property
    def entry_defaults(self) -> Mapping[str, Any]:
        """The same as `defaults`, as it was written."""
        return _without_url(self.defaults)


class DnsConfig(SourceConfig):
    """A name in DNS, looked up again and again."""

    name: Name
    """Name that is asked for: `web.internal`, or `_http._tcp.web.internal` for SRV."""
    type: Literal["A", "SRV"] = "A"
    """`A`: every A and AAAA record is a backend; `SRV`: host, port, weight and priority come from the records."""
    port: Annotated[Port | None, Field(validate_default=True)] = None
    """Port of the backends; needed unless `type` is `SRV`."""
    scheme: Literal["http", "https"] = "http"
    """Of the backends' URLs."""
    servers: Annotated[tuple[Server, ...], Listed] = ()
    """Name servers to ask, `["10.0.0.2:5353"]`; none for the system's."""
    min_ttl_s: Seconds = 1.0
    """Shortest time between two look-ups, whatever the records say."""
    max_ttl_s: Annotated[Seconds, Field(validate_default=True)] = 300.0
    """Longest time between two look-ups."""
    timeout_s: Seconds = 5.0
    """Time after which a look-up has failed."""

    @field_validator("type", "servers")
    @classmethod
    def _with_dnspython(cls, value: object, info: ValidationInfo) -> object:
        if value and value != "A" and find_spec("dns") is None:
            what = '"SRV"' if info.field_name == "type" else "servers of your own"
            raise ValueError(f"cannot be {what} without the package dnspython: pip install 'smartedge[dns]'")
        return value

    @field_validator("port")
    @classmethod
    def _as_records_say(cls, port: int | None, info: ValidationInfo) -> int | None:
        kind = info.data.get("type")
        if port is None and kind == "A":
            raise ValueError("is missing; A and AAAA records say no port")
        if port is not None and kind == "SRV":
            raise ValueError("must not stand beside SRV, whose records say it")
        return port

    @field_validator("max_ttl_s")
    @classmethod
    def _longer_than_the_shortest(cls, longest: float, info: ValidationInfo) -> float:
        if longest < info.data.get("min_ttl_s", longest):
            raise ValueError("must not be less than min_ttl_s")
        return longest


class ConsulConfig(SourceConfig):
    """A service in Consul's catalogue."""

    service: Text
    """Name of the service."""
    tags: Annotated[tuple[Text, ...], Listed] = ()
    """Only instances that have all of these."""
    near: Text | None = None
    """Sorted by the distance from this node; `_agent` is the one that is asked."""
    address: HttpAddress = "http://127.0.0.1:8500"
    """Where the agent's HTTP API is."""
    datacenter: Text | None = None
    """Another datacenter than the agent's."""
    namespace: Text | None = None
    """Namespace of Consul Enterprise."""
    token_file: File | None = None
    """File with the ACL token; null goes by `CONSUL_HTTP_TOKEN`."""
    ca_file: File | None = None
    """PEM file of authorities to trust instead of the system's."""
    cert_file: File | None = None
    """PEM file of the certificate that the edge shows."""
    key_file: Annotated[File | None, beside("cert_file")] = None
    """PEM file of its key, when `cert_file` does not hold it."""
    scheme: Literal["http", "https"] = "http"
    """Of the backends' URLs."""
    only_passing: bool = True
    """Leave out instances whose checks in Consul do not pass."""


class EtcdConfig(SourceConfig):
    """A prefix in etcd: each key below it is a backend."""

    prefix: Text
    """What the keys begin with; a value is a URL, or an object as in `backends[]`."""
    endpoints: Annotated[tuple[HttpAddress, ...], Listed, Field(min_length=1)] = ("http://127.0.0.1:2379",)
    """Members of the etcd cluster, asked in turn when one fails."""
    user: Text | None = None
    """User name; null goes by `SMARTEDGE_ETCD_USER`. The password is in `SMARTEDGE_ETCD_PASSWORD`."""
    ca_file: File | None = None
    """PEM file of authorities to trust instead of the system's."""
    cert_file: File | None = None
    """PEM file of the certificate that the edge shows."""
    key_file: Annotated[File | None, beside("cert_file")] = None
    """PEM file of its key, when `cert_file` does not hold it."""


class FileConfig(SourceConfig):
    """A file that holds a list of backends, read again when it changes."""

    path: Text
    """Name of the file, relative to the folder of the configuration's own."""


class OwnSourceConfig(SourceConfig):
    """A source of one's own: all other keys are options of its class."""

    model_config = ConfigDict(extra="allow")

    every_s: Seconds = 5.0
    """How often a source with `snapshot()` is asked."""
    timeout_s: Seconds = 60.0
    """Time after which a source that says nothing is begun anew: in `snapshot()`, or between two of `snapshots()`."""

    @property
    def options(self) -> Mapping[str, Any]:
        """What the class is called with, as keywords."""
        return self.model_extra or {}


class DiscoverConfig(Section):
    """Where more backends of a service come from; what several kinds find is added together."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, OwnSourceConfig]

    dns: DnsConfig | None = None
    """A name in [DNS](discovery.md)."""
    consul: ConsulConfig | None = None
    """A service in Consul."""
    etcd: EtcdConfig | None = None
    """Keys in etcd."""
    file: FileConfig | None = None
    """A file."""

    @model_validator(mode="after")
    def _has_one(self) -> DiscoverConfig:
        if not self.sources:
            raise ValueError(f"must name a source: one of {', '.join(KINDS)}, or a class of your own")
        return self

    @model_serializer(mode="wrap")
    def _those_there_are(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {kind: said for kind, said in serialize(self).items() if said is not None}

    @property
    def sources(self) -> Mapping[str, SourceConfig]:
        """The sources by kind: `dns`, `consul`, `etcd`, `file`, or the name of a class of one's own."""
        built_in = {kind: getattr(self, kind) for kind in KINDS}
        return {kind: said for kind, said in {**built_in, **(self.__pydantic_extra__ or {})}.items() if said is not None}


KINDS = tuple(DiscoverConfig.model_fields)
"""The kinds that need no class of one's own."""


def source_class(name: str) -> Any:
    """Find the class of a source of one's own; raises ValueError."""
    wanted = find_class(name, GROUP, KINDS)
    methods = [method for each in ("snapshots", "snapshot") if callable(method := getattr(wanted, each, None))]
    if not (inspect.isclass(wanted) and methods):
        raise ValueError(f'{values.shown(name)} must be a class with a method "snapshots" or "snapshot"')
    method = methods[0]
    if inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(method):
        raise ValueError(f"{values.shown(name)} has an async method; a source waits as gevent does")
    return wanted


def problems(discover: object, where: tuple[Step, ...]) -> Iterator[Finding]:
    """Find what is wrong with the sources of one's own that a document names. where: the path of `discover`."""
    for name, said in discover.items() if isinstance(discover, dict) else ():
        if name in KINDS:
            continue
        try:
            wanted = source_class(name)
        except ValueError as error:
            yield (*where, name), str(error)
            continue
        if isinstance(said, dict):
            options = {key: value for key, value in said.items() if key not in _BESIDE_OPTIONS}
            try:
                inspect.signature(wanted).bind(**options)
            except TypeError as error:
                yield (*where, name), f"does not fit the class: {described(error)}"
            except ValueError:
                pass  # written in C, which need not say
