"""What a configuration means for one worker, built whole before any of it is in force.

A `Setup` is a frozen value. The `SetupBuilder` makes it of a `Config`, or raises an error and has changed nothing. The `Edge`
puts it to use by one method, `use_setup`, whether the worker starts, takes its place among others, reloads, or goes on with files
and addresses that have changed. What was learned (`Learned`), connections and strategies that still fit are taken over from the
setup before; the objects that live as long as the worker (`Service` with its `Pool`, `Forwarder`) are handed the values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from math import inf
from pathlib import Path
from socket import gethostname

from smartedge.balancer.backend import Backend
from smartedge.balancer.candidates import Panic
from smartedge.balancer.learned import Learned
from smartedge.balancer.near_first import NearFirst
from smartedge.balancer.outliers import OutlierPolicy
from smartedge.balancer.rate_limit import TABLE_CELLS, RateLimiter
from smartedge.balancer.spec import DEFAULT_SERVICE
from smartedge.balancer.strategies.menu import ConsistentHash, RoundRobin, Strategy
from smartedge.config import strategy as config_strategy
from smartedge.config.model import Config, ConfigError, Problem
from smartedge.config.problems import path_text
from smartedge.config.routes import RouteConfig
from smartedge.config.sections import RateLimitConfig
from smartedge.config.services import ServiceConfig, WrittenService
from smartedge.edge import collector, policies
from smartedge.edge.backend_builder import SPARED, Built
from smartedge.edge.backends import BackendRegistry
from smartedge.edge.files import Files, read_files
from smartedge.edge.localities import Localities
from smartedge.edge.origin import ConfigOrigin
from smartedge.edge.protocols import load_http2
from smartedge.edge.routes import build_routes
from smartedge.edge.tracing import TracingBuilder
from smartedge.http.forwarded import IsTrusted
from smartedge.observe.access_log import LineOutput
from smartedge.observe.span_sender import SpanSender
from smartedge.proxy.basic_auth import InThreads
from smartedge.proxy.limiter import ClientLimiter, client_reader
from smartedge.proxy.outbound import Hop
from smartedge.proxy.route import Route
from smartedge.proxy.service import ServicePolicy
from smartedge.proxy.tracer import Tracer
from smartedge.server.front import ServerLimits
from smartedge.workers.membership import Membership, Table
from smartedge.workers.shared_secret import Secret
from smartedge.workers.state_dir import no_room


@dataclass(frozen=True, slots=True)
class ClusterShare:
    """What setups are built with that the nodes of a cluster have in common; outside of one it stays as it is.

    nodes: that are alive. sticky_secrets: newest first.
    """

    nodes: int = 1
    sticky_secrets: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class ServiceSetup:
    """What one service goes on with; part of a `Setup`.

    row: the service's own. ways: where the names of its backends lead to. bounded_load_ratio: of consistent hashing, inf for no
    bound. near: narrows picks by where backends stand; the pool goes on with the one that it has.
    """

    config: ServiceConfig
    row: Learned
    ways: tuple[tuple[str, ...], ...]
    built: Built
    strategy: Strategy
    bounded_load_ratio: float
    panic: Panic
    policy: ServicePolicy
    outliers: OutlierPolicy
    near: NearFirst | None = None

    @property
    def backends(self) -> tuple[Backend, ...]:
        """Its backends."""
        return self.built.backends


@dataclass(frozen=True, slots=True)
class Setup:
    """A configuration and all that was built of it; one is in use in each worker, held by its Reloader.

    services: by name. access_log: None while nothing is written. tracer: None where the edge takes no part in traces. spans:
    sends those that are recorded, None where they go nowhere.
    """

    config: Config
    files: Files
    services: Mapping[str, ServiceSetup]
    routes: tuple[Route, ...]
    hop: Hop
    server_limits: ServerLimits
    access_log: LineOutput | None
    tracer: Tracer | None
    spans: SpanSender | None


class SetupBuilder:
    """Builds each Setup of one worker; owned by its `Edge`, which tells it the membership when there is one.

    Before that nothing is written, no client is held to a rate, and nobody waits for names. edge_row: counts for routes.
    identity: of the edge, which all workers have in common. secret: what sticky cookies are made with. clock: gives seconds.
    """

    def __init__(
        self, origin: ConfigOrigin, registry: BackendRegistry, edge_row: Learned, secret: Secret, clock: Callable[[], float]
    ) -> None:
        self._origin = origin
        self._registry = registry
        self._edge_row = edge_row
        self._secret = secret
        self._clock = clock
        self._membership: Membership | None = None
        self._clients: Table | None = None
        self._built_for: tuple[object, ClusterShare] = None, ClusterShare()
        self._share = ClusterShare()
        self._via = b"smartedge"
        self._passwords = InThreads()
        self._localities = Localities(origin)
        self._tracing = TracingBuilder(origin)
        self.databases = self._localities.databases

    def join_workers(self, membership: Membership, identity: str) -> None:
        """Build from here on for a worker that has its place in the edge of this identity."""
        self._membership = membership
        self._via = own_via(identity)
        self._localities.join_workers(self._state_path())
        self._tracing.join_workers(membership.slot)

    def use_share(self, share: ClusterShare) -> bool:
        """Build with this from here on; say whether it is another."""
        before, self._share, self._secret.of_cluster = self._share, share, share.sticky_secrets
        return share != before

    def build_setup(self, config: Config, before: Setup | None, files: Files | None = None) -> Setup:
        """Build all that a configuration means. files: None has them read now.

        Raises ConfigError with what cannot be used, StateError where the state directory has no room for what it needs.
        """
        load_http2(config, self._origin)
        if files is None:
            files = read_files(config, self._origin, None if before is None else before.files)
        is_trusted = policies.trust(config)
        if before is not None and config.trusted_proxies == before.config.trusted_proxies:
            is_trusted = before.hop.is_trusted
        hop = Hop(self._via, is_trusted, config.forwarded_header)
        self._registry.know_names(config)
        self._localities.follow_config(config)
        old = {} if before is None else before.services
        unchanged = {} if before is None else self._unchanged(config, files, is_trusted, before)
        spans = self._tracing.make_sender(config, (None, None) if before is None else (before.config.tracing, before.spans))
        setup = Setup(
            config=config,
            files=files,
            services={
                one.name: unchanged.get(one.name) or self._build_service(one, files, is_trusted, old.get(one.name))
                for one in config.all_services()
            },
            routes=self._build_routes(config, files, hop),
            hop=hop,
            server_limits=policies.server_limits(config),
            access_log=self._open_log(config, before),
            tracer=self._tracing.make_tracer(config, spans),
            spans=spans,
        )
        self._built_for = self._membership, self._share
        return setup

    def _unchanged(self, config: Config, files: Files, is_trusted: IsTrusted, before: Setup) -> Mapping[str, ServiceSetup]:
        """Give the services of which nothing that they were built of is another than before."""
        if is_trusted is not before.hop.is_trusted or not files.holds_the_same_as(before.files):
            return {}
        if (config.zone, config.zones) != (before.config.zone, before.config.zones):
            return {}
        membership, share = self._built_for
        joined = membership is not self._membership
        pairs = [(one, before.services[one.name]) for one in config.all_services() if one.name in before.services]
        return {
            one.name: setup
            for one, setup in pairs
            if setup.config is one.config
            and setup.ways == self._registry.builder.ways_of(one.config)
            and not (joined and _needs_workers(one.config))
            and not (share.nodes != self._share.nodes and one.config.shared_by_nodes)
            and not (share.sticky_secrets != self._share.sticky_secrets and one.config.sticky.cookie is not None)
        }

    def _build_service(
        self, service: WrittenService, files: Files, is_trusted: IsTrusted, before: ServiceSetup | None
    ) -> ServiceSetup:
        config = service.config
        row = self._registry.row_of(service.name)
        nodes = self._share.nodes
        if self._membership is not None and len(config.backends) >= SPARED:
            collector.spare()  # all that has been read
        built = self._registry.builder.build_backends(service, files, None if before is None else before.built, nodes)
        secrets = self._choose_secrets(service, files) if config.sticky.cookie is not None else ()
        ids = [backend.id for backend in built.backends]
        places = self._localities.client_places_of(service, is_trusted)
        affinity = policies.affinity_of(config, is_trusted, secrets, ids, service.name, places)
        strategy = self._make_strategy(service, None if before is None else before.strategy)
        limiter = self._make_limiter(config.rate_limit, is_trusted, row, apart=_apart(service.name))
        self._registry.claim_rows(service.name, built.fresh)
        return ServiceSetup(
            config,
            row,
            self._registry.builder.ways_of(config),
            built,
            strategy,
            config.hash.bounded_load_ratio or inf,
            config.panic,
            policies.service_policy(config, affinity, limiter),
            config.outlier_policy,
            self._make_near(config),
        )

    def _build_routes(self, config: Config, files: Files, hop: Hop) -> tuple[Route, ...]:
        def limiter_of(route: RouteConfig) -> ClientLimiter | None:
            said = route.rate_limit
            if said is None:
                return None
            return self._make_limiter(said, hop.is_trusted, self._edge_row, apart=b"route %b " % route.id.encode())

        return build_routes(config.routes, config.limits.body_bytes, hop, self._passwords, limiter_of, files.content_of)

    def _make_strategy(self, service: WrittenService, current: Strategy | None) -> Strategy:
        """Return the strategy that a configuration asks for: the current one, if it is that.

        A user's class is not imported again: its code is that of the process's start.
        """
        config = service.config
        if current is not None and current.name == config.strategy:
            return current
        try:
            return config_strategy.make(config.strategy, config.hash.bounded_load_ratio, self._clock)
        except ValueError as error:
            raise ConfigError([Problem(path_text((*service.steps, "strategy")), str(error))], status=422) from error

    def _make_near(self, config: ServiceConfig) -> NearFirst | None:
        locality = self._localities.locality_of(config)
        if locality is None:
            return None

        def make() -> Strategy:
            try:
                return config_strategy.make(config.strategy, config.hash.bounded_load_ratio, self._clock)
            except ValueError:  # one of the user's own, which could be made a moment ago
                return RoundRobin()

        return NearFirst(locality, make)

    def _make_limiter(self, said: RateLimitConfig, is_trusted: IsTrusted, row: Learned, apart: bytes) -> ClientLimiter | None:
        """Make what keeps clients to their rate, with what is known of them from before.

        row: counts who was refused. apart: goes before what clients are known by, so that they have a bucket of its own there.
        """
        policy = said.policy(self._share.nodes)
        if policy is None or self._membership is None:
            return None
        if self._clients is None:
            self._clients = self._membership.table("clients", TABLE_CELLS)
        limiter = RateLimiter(policy, self._clients.ints, self._clients.reals, self._clients.salt)
        client_of = client_reader(said.by, is_trusted)
        return ClientLimiter(limiter, (lambda request: apart + client_of(request)) if apart else client_of, row)

    def _choose_secrets(self, service: WrittenService, files: Files) -> tuple[bytes, ...]:
        path = service.config.sticky.secret_file
        directory = self._state_path()
        try:
            return self._secret.choose(None if path is None else files.content_of(path), directory)
        except OSError as error:
            raise no_room(directory or Path(), error) from error

    def _state_path(self) -> Path | None:
        state = None if self._membership is None else self._membership.state
        return None if state is None else state.path

    def _open_log(self, config: Config, before: Setup | None) -> LineOutput | None:
        target = config.access_log
        if not target or self._membership is None:
            return None
        rotation = policies.log_rotation(config)
        used = None if before is None else (before.config.access_log, policies.log_rotation(before.config))
        if before is not None and before.access_log is not None and used == (target, rotation):
            return before.access_log
        try:
            return LineOutput(target, rotation)
        except OSError as error:
            raise self._origin.unusable(("access_log",), f"{target} cannot be written: {error.strerror}") from error


def _needs_workers(config: ServiceConfig) -> bool:
    """Whether a service is another once the worker has its place among the others."""
    database = config.locality.database
    return config.rate_limit.per_s is not None or config.sticky.cookie is not None or database is not None


def _apart(service: str) -> bytes:
    """What goes before a client in the table of rates: the same one has a bucket in each service."""
    return b"" if service == DEFAULT_SERVICE else b"service %b " % service.encode()


def follow_bound(strategy: Strategy, bounded_load_ratio: float) -> None:
    """Let a strategy that goes on follow its other setting."""
    if isinstance(strategy, ConsistentHash):
        strategy.bounded_load_ratio = bounded_load_ratio


def own_via(identity: str) -> bytes:
    """Make what the edge calls itself in Via: all workers the same, and no other edge; a comment as in RFC 9110 section 7.6.3."""
    return b"smartedge (%b)" % sha256(f"{gethostname()} {identity}".encode()).hexdigest()[:8].encode()
