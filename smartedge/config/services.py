"""The services of `backends.json`: the keys that each has, and what the same keys at the top mean for all of them.

The short form, `backends` at the top, is a service `default`. A key that stands at the top holds for every service that does not
say it itself, key by key inside the sections. This is done with the text's own objects before anything is checked, so that
a service is checked as what it is in the end, and an error stands where it was written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from hashlib import blake2b
from typing import Annotated, Any, Literal, NamedTuple, Self, cast
from weakref import WeakValueDictionary

from pydantic import AfterValidator, ConfigDict, PrivateAttr, ValidatorFunctionWrapHandler, WrapValidator

from smartedge.balancer.breaker import BreakerPolicy
from smartedge.balancer.health import ANSWERED, OK_STATUSES, PATH, HealthPolicy
from smartedge.balancer.outliers import OutlierPolicy
from smartedge.balancer.retry import DEADLINE_S, RetryPolicy
from smartedge.balancer.spec import DEFAULT_SERVICE, BackendSpec, Protocol, TlsSpec
from smartedge.config import strategy as config_strategy
from smartedge.config import values
from smartedge.config.backends import BackendConfig, Backends, HealthConfig, canonical_list, protocol_problem, says_something
from smartedge.config.discover import DiscoverConfig
from smartedge.config.discover import problems as discover_problems
from smartedge.config.locality import LocalityConfig
from smartedge.config.problems import SMALLEST, Finding, Step, model_in, path_text
from smartedge.config.route_values import service_name
from smartedge.config.section import Grace, Section, canonical_json, canonical_object
from smartedge.config.sections import (
    BreakerConfig,
    FailureConfig,
    HashConfig,
    OutliersConfig,
    RateLimitConfig,
    RetryConfig,
    ServiceLimitsConfig,
    ServiceTimeoutsConfig,
    StickyConfig,
)

ServiceName = Annotated[str, AfterValidator(service_name)]


class ServiceConfig(Section):
    """What one service goes by: its backends, and how they are used."""

    model_config = ConfigDict(json_schema_extra={"anyOf": [{"required": ["backends"]}, {"required": ["discover"]}]})

    backends: Backends = ()
    """The servers that requests are shared out to: URLs, or objects. One of `backends` and `discover` must be there."""
    discover: DiscoverConfig | None = None
    """Where more of them [come from](discovery.md): DNS, Consul, etcd, a file."""
    strategy: Annotated[str, AfterValidator(config_strategy.checked)] = "adaptive"
    """How one is chosen: `adaptive`, `round_robin`, `ewma`, `least_requests`, `random`, `consistent_hash` or a class of your
    own, `package.module:Class`."""
    hash: HashConfig = HashConfig()
    """What a request is known by."""
    sticky: StickyConfig = StickyConfig()
    """Whether a client stays with its backend."""
    locality: LocalityConfig = LocalityConfig()
    """Which backends come first by [where they stand](geo.md)."""
    health: HealthConfig = HealthConfig()
    """How backends are probed."""
    timeouts: ServiceTimeoutsConfig = ServiceTimeoutsConfig()
    """How long the edge waits for what."""
    retry: RetryConfig = RetryConfig()
    """When a request is tried again."""
    failure: FailureConfig = FailureConfig()
    """Which answers are failures of their backend."""
    breaker: BreakerConfig = BreakerConfig()
    """When a failing backend is ejected."""
    outliers: OutliersConfig = OutliersConfig()
    """When a backend is ejected for being much worse than the others."""
    limits: ServiceLimitsConfig = ServiceLimitsConfig()
    """How much it takes in."""
    rate_limit: RateLimitConfig = RateLimitConfig()
    """How often one client may ask."""
    preserve_host: bool = True
    """Send the client's Host; false sends the backend's own."""
    protocol: Literal["http/1.1", "h2", "h2c"] = "http/1.1"
    """What is spoken to backends: [`h2`](http2.md#backends-and-grpc) is HTTP/2 over TLS, `h2c` without, as gRPC needs it."""
    panic: Literal["all", "fail"] = "all"
    """With fewer than half of the backends available: `all` uses the ejected ones too, `fail` does without them."""
    slow_start_s: Grace = 0.0
    """Time in which a backend that comes back grows from a tenth of its weight to all of it; 0 gives it all at once."""

    _with_found: tuple[tuple[BackendConfig, ...], ServiceConfig] | None = PrivateAttr(None)
    _written: ServiceConfig | None = PrivateAttr(None)

    @cached_property
    def settings(self) -> Mapping[str, Any]:
        """All keys but the backends, as plain data; worked out once, as a reload compares those of all services."""
        return self.model_dump(mode="json", exclude={"backends"})

    @cached_property
    def canonical(self) -> str:
        """The canonical text, as part of the whole configuration's; who reads it back gets this object, while it is in use."""
        texts = {key: canonical_json(value) for key, value in self.settings.items()}
        if self.backends:
            texts["backends"] = canonical_list(self.backends)
        text = canonical_object(texts)
        _in_use[_digest(text)] = self
        return text

    def with_backends(self, found: tuple[BackendConfig, ...]) -> Self:
        """Return the same with backends that were found beside those that are written, which come first.

        Of two with one id or one address the written one counts. What is returned for the same backends is the same object.
        """
        if not found:
            return self
        if self._with_found is None or self._with_found[0] is not found:
            taken = {step for backend in self.backends for step in (backend.id, values.origin(backend.url))}
            others = found
            if taken:
                others = tuple(one for one in found if taken.isdisjoint((one.id, values.origin(one.url))))
            copy = self.model_copy(update={"backends": self.backends + others})
            copy._written, copy._with_found = self, None
            self._with_found = found, copy
        return cast(Self, self._with_found[1])

    @property
    def written(self) -> Self:
        """The same without the backends that were found."""
        return cast(Self, self._written or self)

    def specs(self, service: str = DEFAULT_SERVICE, nodes: int = 1) -> tuple[BackendSpec, ...]:
        """Build what the balancer works with, in the order of the file; common settings are filled in.

        nodes: of the cluster, that are alive.
        """
        return tuple(map(self.spec_maker(service, nodes), self.backends))

    def spec_maker(self, service: str = DEFAULT_SERVICE, nodes: int = 1) -> Callable[[BackendConfig], BackendSpec]:
        """Return what builds the spec of one backend."""
        breaker, health = BreakerPolicy(**self.breaker.model_dump()), self._health_policy(None)
        return lambda backend: self._spec(backend, breaker, health, service, nodes)

    def _health_policy(self, own: HealthConfig | None) -> HealthPolicy:
        health = self.health.model_dump() | (own.model_dump(exclude_unset=True) if own else {})
        path, written, headers = health.pop("path"), health.pop("statuses"), tuple(health.pop("headers").items())
        statuses = ANSWERED if path is None else OK_STATUSES
        if written is not None:
            statuses = values.status_codes(written)
        return HealthPolicy(**health, path=path or PATH, headers=headers, statuses=statuses)

    def _spec(
        self, backend: BackendConfig, breaker: BreakerPolicy, health: HealthPolicy, service: str, nodes: int
    ) -> BackendSpec:
        cap = backend.max_in_flight or self.limits.in_flight_per_backend
        if isinstance(cap, int) and self.limits.shared_by_nodes:
            cap = max(1, cap // nodes)
        return BackendSpec(
            id=backend.id,
            url=backend.url,
            weight=backend.weight,
            state=backend.state,
            health=self._health_policy(backend.health) if backend.health else health,
            breaker=breaker,
            max_in_flight=cap,
            preserve_host=self.preserve_host if backend.preserve_host is None else backend.preserve_host,
            tls=self.tls_spec_of(backend),
            slow_start_s=self.slow_start_s,
            labels=backend.labels,
            base=values.origin(backend.url).base.encode(),
            service=service,
            zone=backend.zone,
            region=backend.region,
            location=backend.location,
            priority=backend.priority,
            protocol=self.protocol_of(backend),
        )

    def protocol_of(self, backend: BackendConfig) -> Protocol:
        """What is spoken to a backend; to one that was found HTTP/2 with or without TLS, as its URL says."""
        protocol = backend.protocol or self.protocol
        return protocol if protocol == "http/1.1" else "h2" if backend.url.startswith("https:") else "h2c"

    def tls_spec_of(self, backend: BackendConfig) -> TlsSpec | None:
        """How TLS is spoken to a backend; None as usual, or not at all."""
        tls = backend.tls_spec
        return replace(tls or TlsSpec(), h2=True) if self.protocol_of(backend) == "h2" else tls

    @property
    def retry_policy(self) -> RetryPolicy:
        """When to try again, as the balancer's own value."""
        fields = self.retry.model_dump(exclude={"deadline_s", "statuses"})
        deadline_s = self.retry.deadline_s or max(DEADLINE_S, self.timeouts.first_byte_s)
        return RetryPolicy(statuses=frozenset(self.retry.statuses), deadline_s=deadline_s, **fields)

    @property
    def failures(self) -> frozenset[int]:
        """The statuses of answers that are failures of their backend."""
        return values.status_codes(self.failure.statuses)

    @property
    def shared_by_nodes(self) -> bool:
        """Whether something of it is divided among the nodes of a cluster."""
        return self.limits.shared_by_nodes or (self.rate_limit.shared_by_nodes and self.rate_limit.per_s is not None)

    @property
    def outlier_policy(self) -> OutlierPolicy:
        """What makes an outlier, as the balancer's own value."""
        return OutlierPolicy(**self.outliers.model_dump())


_in_use: WeakValueDictionary[bytes, ServiceConfig] = WeakValueDictionary()
"""The services of all configurations in use, by what they were made of: one that stays as it is is not checked again."""


def _digest(text: str) -> bytes:
    return blake2b(text.encode(), digest_size=16).digest()


def _as_before(said: object, check: ValidatorFunctionWrapHandler) -> ServiceConfig:
    """Check a service, unless one made of the same is in use; what names files is always looked at."""
    text = canonical_json(said) if isinstance(said, dict) else ""
    if not text or '_file":"' in text:
        return check(said)  # type: ignore[no-any-return]
    key = _digest(text)
    found = _in_use.get(key)
    if found is None:
        found = _in_use[key] = check(said)
    return found


CheckedService = Annotated[ServiceConfig, WrapValidator(_as_before)]


class NamedServices(dict[str, ServiceConfig]):
    """Services in the order of their names, as the canonical text has them; part of a Config, and as frozen as that."""

    def __init__(self, services: Mapping[str, ServiceConfig] | None = None) -> None:
        super().__init__(sorted((services or {}).items()))

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(tuple(self.items()))


class WrittenService(NamedTuple):
    """One service of a configuration. steps: where it stands there. config: what it goes by, what holds for all filled in."""

    name: str
    steps: tuple[Step, ...]
    config: ServiceConfig


def with_defaults(document: object) -> object:
    """Give each service of a document the keys at the top that it does not say itself; what is no object is left alone."""
    services = document.get("services") if isinstance(document, dict) else None
    if not isinstance(document, dict) or not isinstance(services, dict) or not services:
        return document
    keys = ServiceConfig.model_fields.keys() - {"backends", "discover"}
    common = {key: document[key] for key in ServiceConfig.model_fields if key in keys and key in document}
    for key, value in common.items():
        section = model_in(ServiceConfig.model_fields[key].annotation)
        if section is not None and isinstance(value, dict):
            common[key] = {inner: value[inner] for inner in value if inner in section.model_fields}
    merged = {name: _over(common, said) if isinstance(said, dict) else said for name, said in services.items()}
    return {**document, "services": merged}


def _over(common: Mapping[str, Any], said: Mapping[str, Any]) -> dict[str, Any]:
    merged = {**common, **said}
    for key, value in said.items():
        above = common.get(key)
        if isinstance(value, dict) and isinstance(above, dict):
            if key == "health" and "type" in value:  # a path for all services is none for one that is not asked
                above = {inner: one for inner, one in above.items() if says_something(inner, value["type"])}
            merged[key] = {**above, **value}
    return merged


def said_once(found: list[Finding], document: object) -> list[Finding]:
    """Leave out what was found in services only because it is wrong at the top. document: as it was written."""
    services = document.get("services") if isinstance(document, dict) else None
    at_the_top = {finding for finding in found if finding[0][:1] != ("services",)}
    return [
        (path, message)
        for path, message in found
        if path[:1] != ("services",) or (path[2:], message) not in at_the_top or _is_written(services, path[1:])
    ]


def _is_written(value: Any, steps: tuple[Step, ...]) -> bool:
    for step in steps:
        try:
            value = value[step]
        except (LookupError, TypeError):
            return False
    return True


def problems(document: object, pause: Callable[[], None]) -> Iterator[Finding]:
    """Find what is wrong with the services of a document together, and between the backends of each. pause: called after each."""
    if not isinstance(document, dict):
        return
    services = document.get("services")
    names = service_names(document)
    if not _is_short(document) and not services and (services is None or isinstance(services, dict)):
        yield ("backends",), f"is missing; the smallest configuration is {SMALLEST}"
    if _is_short(document) and isinstance(services, dict) and DEFAULT_SERVICE in services:
        key = "backends" if "backends" in document else "discover"
        yield ("services", DEFAULT_SERVICE), f'stands beside "{key}" at the top, which is the service of this name; write one'
    if len(names) > 1 and not document.get("routes"):
        first, second, *_ = shown = [values.escaped(name) for name in names]
        example = f'"routes": [{{"path": "/{second}", "to": "{second}"}}, {{"to": "{first}"}}]'
        yield ("routes",), f"must say which requests go to which of the services {', '.join(shown)}, such as {example}"
    if _is_short(document):
        yield from _of_service(document, (), pause)
    for name, service in services.items() if isinstance(services, dict) else ():
        if isinstance(service, dict):
            yield from _of_service({"protocol": document.get("protocol"), **service}, ("services", name), pause)


def _is_short(document: Mapping[str, Any]) -> bool:
    """Whether the service `default` stands at the top."""
    return "backends" in document or document.get("discover") is not None


def _of_service(service: Mapping[str, Any], where: tuple[Step, ...], pause: Callable[[], None]) -> Iterator[Finding]:
    """Find what is wrong with where a service has its backends from. where: the path of the service."""
    written, discover = service.get("backends"), service.get("discover")
    if discover is None and "backends" not in service:
        yield (
            (*where, "backends"),
            'is missing; such as ["http://localhost:8081"], or "discover" beside the service\'s other keys',
        )
    if discover is None and written == []:
        yield (*where, "backends"), f"must hold at least one backend; the smallest configuration is {SMALLEST}"
    yield from _duplicates(written, (*where, "backends"), pause)
    yield from _wrong_protocols(service.get("protocol"), written, (*where, "backends"))
    yield from discover_problems(discover, (*where, "discover"))


def _wrong_protocols(protocol: object, entries: object, where: tuple[Step, ...]) -> Iterator[Finding]:
    """Backends whose URL cannot be spoken to as the service says, and that say nothing else themselves."""
    if not isinstance(protocol, str) or protocol == "http/1.1":
        return
    for index, entry in enumerate(entries if isinstance(entries, list) else []):
        fields = entry if isinstance(entry, dict) else {"url": entry}
        if fields.get("protocol") is None and (wrong := protocol_problem(protocol, fields.get("url"))):
            yield (*where, index), f'is for "protocol": "{protocol}", which {wrong}'


def service_names(document: object) -> list[str]:
    """Give the names of a document's services, the short form's first."""
    if not isinstance(document, dict):
        return []
    services = document.get("services")
    names = [name for name in services if isinstance(name, str)] if isinstance(services, dict) else []
    return list(dict.fromkeys([DEFAULT_SERVICE, *names] if _is_short(document) else names))


def _duplicates(entries: object, where: tuple[Step, ...], pause: Callable[[], None]) -> Iterator[Finding]:
    """Backends with the id or address of an earlier one; what is wrong in itself is passed over. where: the path of the list."""
    seen: dict[object, int] = {}
    for index, entry in enumerate(entries if isinstance(entries, list) else []):
        pause()
        plain = isinstance(entry, str)
        fields = {"url": entry} if plain else entry if isinstance(entry, dict) else {}
        url, label = fields.get("url"), fields.get("id")
        if isinstance(label, str) and seen.setdefault(label, index) != index:
            message = f"{values.shown(label)} is already the id of {path_text(where)}[{seen[label]}]"
            yield (*where, index, "id"), message
        try:
            origin = values.origin(values.backend_url(url)) if isinstance(url, str) else None
        except ValueError:
            continue
        if origin and seen.setdefault(origin, index) != index:
            path = (*where, index) if plain else (*where, index, "url")
            yield path, f"{values.shown(url)} is already the url of {path_text(where)}[{seen[origin]}]"
