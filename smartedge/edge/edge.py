"""One worker's edge: every part, built from the configuration, begun when the worker serves, and replaced by a reload.

The parts do not know each other; this is where one's event becomes another's call. Time and chance come in here.
"""

from __future__ import annotations

import gc
import logging
import os
import random
from collections.abc import Callable, Mapping, Sequence
from time import monotonic, time
from typing import Any

from smartedge import __version__
from smartedge.balancer.backend import Backend
from smartedge.balancer.cells import GAUGES, LAYOUT, ROW_CELLS
from smartedge.balancer.errors import EdgeError
from smartedge.balancer.learned import Learned
from smartedge.balancer.pool import Pool
from smartedge.balancer.rate_limit import TABLE_CELLS, RateLimiter
from smartedge.config.model import Config, ConfigError, Problem, parse
from smartedge.config.sources import Overlay, sticky_secret
from smartedge.discovery.file import FileSource
from smartedge.discovery.names import LookUp, look_up
from smartedge.edge import announce
from smartedge.edge import parts as settings
from smartedge.edge.access import may_ask
from smartedge.edge.backends import BackendRegistry
from smartedge.edge.cautions import ProxyWatch, cautions, say
from smartedge.edge.files import NamedFiles
from smartedge.edge.follower import Follower, give_up, parse_exact
from smartedge.edge.parts import Strategist
from smartedge.edge.reload import Reloader
from smartedge.edge.reload_report import Reloaded
from smartedge.edge.request_ids import RequestIds
from smartedge.edge.watch import Watch
from smartedge.health.loop import HealthLoop
from smartedge.health.probe import HttpProbe
from smartedge.http.environ_keys import REQUEST_ID
from smartedge.http.request import Request
from smartedge.http.tls import ServerTls
from smartedge.observe import console
from smartedge.observe.decisions import Decisions
from smartedge.observe.recent import LastCheck, Recent
from smartedge.observe.request_log import RequestLog
from smartedge.process import hosting
from smartedge.process.whereabouts import where_it_is, write_down
from smartedge.proxy.affinity import client_address
from smartedge.proxy.forward import Forwarder
from smartedge.proxy.limiter import ClientLimiter, client_reader
from smartedge.proxy.service import Service, ServicePolicy
from smartedge.proxy.upgrade import exchange_for
from smartedge.workers.identity import edge_identity
from smartedge.workers.membership import Membership, Table, open_membership
from smartedge.workers.process import Housekeeping, LateLock
from smartedge.workers.shared_secret import Secret
from smartedge.workers.state_dir import StateError

log = logging.getLogger("smartedge")

TELL_S = 0.05
"""How often workers tell each other what is not on the board at once."""


class Edge:
    """Everything that one worker runs.

    config_path: where the configuration is kept, None when flags named the backends. overrides: flags, laid over every new
    configuration too. token: SMARTEDGE_ADMIN_TOKEN. listeners: the names of the sockets that clients connect to, the admin
    pages' last, where the server tells. look_after: called once a second. Nothing is opened or probed before `begin`.
    """

    version = __version__

    def __init__(
        self,
        config: Config,
        *,
        config_path: str | None = None,
        overrides: Mapping[str, Any] | None = None,
        token: str | None = None,
        env: Mapping[str, str] = os.environ,
        look_up: LookUp = look_up,
    ) -> None:
        self.token = token
        self.began = False
        self._beginning = LateLock()
        self.recent = Recent()
        self.ids = RequestIds()
        self.edge_row = Learned()
        self.started_at = monotonic()
        self._env = dict(env)
        self.listeners: Sequence[Any] = ()
        self.look_after: Callable[[], None] = lambda: None
        self._place: Membership | None = None
        self._clients: Table | None = None
        self._rng = random.Random()
        self.members = BackendRegistry(self.edge_row, self._rng, look_up)
        self.request_log = RequestLog(self._client_of)
        self._strategist = Strategist(self.edge_row, monotonic)
        self._secret = Secret(sticky_secret(self._env))
        self._config_path = config_path
        self._source = FileSource(config_path) if config_path is not None else None
        self._origin = config_path or "the request body"
        self._overrides = overrides
        watch = ProxyWatch(lambda: not self.admin_apart and self.token is None)
        ratio = config.explain.sample_ratio
        self.decisions = Decisions(ratio, self._rng, self._may_ask, client_of=self._client_of, on_sampled=watch)
        self.tls = ServerTls()
        self.files = NamedFiles(self.tls, self.members.contexts, self._renewed, self._unusable)
        self.files.begin(config)
        backends = self.members.build(config)
        self.pool = Pool(backends, self._strategist.make(config), self._rng, config.panic, self.edge_row)
        self._watch = Watch(self.pool, self.edge_row)
        self.service = Service("default", self.pool, self._service_policy(config, backends), self.edge_row, self)
        hop = settings.hop(config, b"smartedge", settings.trusted(config))
        self.forwarder = Forwarder(self.service, hop, self.edge_row, self.ids.next)
        self.forwarder.exchange_for = exchange_for
        self.forwarder.explain = self.decisions
        self.server_limits = settings.server_limits(config)
        self.admin_apart = config.admin_bind is not None
        self._housekeeping = Housekeeping(self._tidy)
        self._telling = Housekeeping(self._tell, TELL_S)
        self._reloader = Reloader(
            self._source,
            config,
            self.parsed,
            self._prepare,
            renew=self.files.prepare,
            exact=parse_exact,
            may_lack=Overlay(self._env, overrides or {}).hides("backends") and not os.path.exists(config_path or ""),
        )
        self.follower = Follower(self.edge_row, self._reloader)
        probe = HttpProbe(self.members.contexts, clients_host=lambda: self.forwarder.clients_host)
        self._health = HealthLoop(lambda: self.pool.backends, probe, self._flipped, self._rng, leads=self.follower.leads)

    # ---- what the admin pages ask ----

    @property
    def config(self) -> Config:
        """The configuration in use."""
        return self._reloader.config

    @property
    def generation(self) -> int:
        """Its number."""
        return self._reloader.generation

    def now(self) -> float:
        """Return the time in seconds of a monotonic clock."""
        return monotonic()

    def meet_workers(self) -> None:
        """Notice who has come, so that what is added up is the whole edge's."""
        self.members.meet(self.pool.backends)

    def workers(self) -> Sequence[Mapping[str, Any]]:
        """Return what every live worker of this edge is and does."""
        return self.follower.workers(monotonic())

    @property
    def draining(self) -> bool:
        """Whether those in front of the edge should send it nothing more."""
        return self.follower.draining

    def drain(self, draining: bool) -> None:
        """Let all workers say that they are draining, and serve on; or take it back."""
        self.follower.set_draining(draining)

    def last_check(self, backend: Backend) -> LastCheck | None:
        """Return the latest probe of a backend."""
        check = backend.learned.last_check
        if check is None:
            return None
        return LastCheck(time() - (monotonic() - check.at), check.ok, check.status, check.detail, check.took_s)

    def request_id(self, environ: Mapping[str, Any]) -> str:
        """Return the id that an admin request is known by; the app puts it there."""
        return str(environ[REQUEST_ID])

    def reload(self, body: bytes | None, if_match: str | None = None, *, wait: bool = True) -> Reloaded:
        """Apply a configuration, the file's when there is no body; raises ConfigError or EdgeError and changes nothing."""
        applied = self._reloader.reload(body, if_match=if_match, wait=wait)
        announce.reloaded(applied)
        return Reloaded(202 if applied.late else 200, applied.to_json())

    def config_text(self) -> bytes | None:
        """Return what the configuration's file says now, None if there is none; raises OSError."""
        return None if self._source is None else self._source.read()

    def parsed(self, text: bytes) -> Config:
        """Make a Config of a text as a reload would; raises ConfigError."""
        return parse(text, origin=self._origin, env=self._env, overrides=self._overrides)

    def _may_ask(self, request: Request) -> bool:
        return may_ask(request, self.token, self.config.admin_allow)

    def _client_of(self, request: Request) -> bytes:
        return client_address(request, self.forwarder.hop.is_trusted)

    # ---- life ----

    def begin(self) -> None:
        """Take this worker's place and start its loops; called when the worker begins to serve. A second call does nothing."""
        with self._beginning:  # requests that come meanwhile wait
            if not self.began:
                self._begin()
                self.began = True

    def settle(self) -> None:
        """Take this worker's place among the others and open what is written to; raises StateError or ConfigError."""
        if self._place is not None:
            return
        self._rng.seed()  # with --preload all workers would have the same chance
        self._place = open_membership(edge_identity(self._env), ROW_CELLS, LAYOUT, self._env, log, GAUGES)
        self.forwarder.hop = settings.hop(self.config, settings.own_via(edge_identity(self._env)), self.forwarder.hop.is_trusted)
        # The secret of all workers, and what is known of clients' rates, are in the place.
        self.service.adapt_to(self._service_policy(self.config, self.pool.backends))
        self.members.join(self._place, self.pool.backends)
        self.decisions.join(self._place.state.path if self._place.state else None, self._place.slot)
        self._log_to(self.config)()
        self.follower.join_workers(self._place, lambda: self.reload(None, wait=False))

    def _begin(self) -> None:
        hosting.begin(self.config.log_level, self.request_log.reopen, self._env)
        try:
            self.settle()
            assert self._place is not None
            if self.members.begin(self.config, lambda: self.follower.leading, self._reloader.rebuild):
                self._reloader.rebuild()
            self.be_found(self.listeners)
            if self._place.slot == 0:  # one worker says it for all
                say(cautions(self.config, self._env, has_token=self.token is not None))
        except (StateError, ConfigError) as error:
            give_up(error, self._env)
        self._health.start()
        self._housekeeping.start()
        self._telling.start()
        # What is here now stays: the garbage collector need not look through it again and again, holding up every client.
        gc.collect()
        gc.freeze()

    def be_found(self, listeners: Sequence[Any]) -> None:
        """Write down where the admin pages are, so that commands find them. listeners: as above."""
        self.listeners = listeners
        if self._place is not None:
            write_down(self._place.state, where_it_is(self.config, self._config_path, listeners))

    def on_stopping(self) -> None:
        """Give open tunnels `shutdown_grace_s`; requests are waited for by the server, which knows nothing of tunnels."""
        self.forwarder.tunnels.end_all_after(self.config.shutdown_grace_s)

    def stop(self) -> None:
        """End the loops and give up the place; requests in flight have been waited for by the server."""
        self._health.stop()
        self._housekeeping.stop()
        self._telling.stop()
        self.members.close(self.pool.backends)
        self.request_log.close()
        self.decisions.close()
        if self._place is not None:
            self._place.close()

    # ---- configuration ----

    def _prepare(self, config: Config) -> Callable[[], None]:
        """Build everything that a configuration needs; raises ConfigError, or gives what swaps it in, which fails no more."""
        before = self.pool.backends
        backends = self.members.build(config, before)
        strategy = self._strategist.make(config, self.pool.strategy)
        policy, limits = self._service_policy(config, backends), settings.server_limits(config)
        hop = settings.hop(config, self.forwarder.hop.via, settings.trusted(config))
        self.members.claim(backends)
        use_log = self._log_to(config) if self._place is not None else lambda: None

        def use() -> None:
            console.log_at(config.log_level)
            self.members.follow(config)
            self.members.enter(backends, monotonic(), leads=self.follower.leading)
            use_log()
            self.forwarder.hop = hop
            self.service.adapt_to(policy)
            self.server_limits = limits
            self.decisions.apply(config.explain.sample_ratio)
            self.pool.apply(backends, strategy, config.panic)
            self._strategist.retune(strategy, config)
            self.members.leave(before, backends, monotonic() + config.drain_s)
            self._health.wake()

        return use

    def _limiter(self, config: Config) -> ClientLimiter | None:
        """Make what keeps clients to their rate, with what is known of them from before; raises ConfigError."""
        policy = config.rate_policy
        if policy is None or self._place is None:
            return None
        try:
            if self._clients is None:
                self._clients = self._place.table("clients", TABLE_CELLS)
        except StateError as error:
            raise self._unusable(("rate_limit",), str(error)) from error
        limiter = RateLimiter(policy, self._clients.ints, self._clients.reals, self._clients.salt)
        client_of = client_reader(config.rate_limit.by, settings.trusted(config))
        return ClientLimiter(limiter, client_of, self.edge_row)

    def _service_policy(self, config: Config, backends: Sequence[Backend]) -> ServicePolicy:
        """Work out how requests are treated; raises ConfigError."""
        secret = b""
        if config.sticky.cookie is not None:
            state = self._place.state if self._place is not None else None
            try:
                secret = self._secret.read(config.sticky.secret_file, None if state is None else state.path)
            except OSError as error:
                raise self._unusable(("sticky",), f"has no secret: {error}") from error
        affinity = settings.affinity(config, settings.trusted(config), secret, [backend.id for backend in backends])
        return settings.service_policy(config, affinity, self._limiter(config))

    def _log_to(self, config: Config) -> Callable[[], None]:
        """Open the access log; raises ConfigError, or gives what puts it to use."""
        try:
            use = self.request_log.prepare(config.access_log)
        except OSError as error:
            raise self._unusable(("access_log",), f"{config.access_log} cannot be written: {error.strerror}") from error

        def use_log() -> None:
            use()
            self.forwarder.log = self.request_log.exchange if self.request_log.is_open else None

        return use_log

    def _renewed(self) -> None:
        """Go on with files that somebody has replaced: TLS settings towards backends, the secret of sticky cookies."""
        self.members.renew(self.pool.backends)
        self.service.adapt_to(self._service_policy(self.config, self.pool.backends))

    def _unusable(self, steps: tuple[str | int, ...], message: str) -> ConfigError:
        """Make the error for what is right in itself and can't be used; it names where the value came from."""
        where = Overlay(self._env, self._overrides or {}).where(steps)
        return ConfigError([Problem(where, message)], status=422, origin=self._origin)

    # ---- events ----

    def breaker_changed(self, backend: Backend, change: str) -> None:
        """Announce what a breaker did."""
        announce.breaker_changed(backend, change)

    def unreachable(self, backend: Backend) -> None:
        """Have a backend probed soon that traffic could not connect to."""
        self._health.nudge(backend)
        self.members.unreachable(backend)

    def on_refused(self, peer: bytes, error: EdgeError, request_id: str) -> None:
        """Count and log a request that the server refused before anybody saw it."""
        self.edge_row.count(error.status, 0.0, 0, 0)
        self.request_log.refused(request_id, peer, error)

    def _flipped(self, backend: Backend, change: str, result: object) -> None:
        self.pool.touch()
        if change == "closed":
            self.breaker_changed(backend, change)
        else:
            announce.health_changed(backend, change)

    def _tell(self) -> None:
        """Keep up with the other workers, and with backends that answer nothing: what nobody would be told of otherwise."""
        now = monotonic()
        self.follower.follow_newest(now)
        if len(self.edge_row.rows) > 1:
            for backend in self.pool.backends:
                backend.learned.tell_waiting(now)
        for fallen in self.pool.look_for_silence(now):
            announce.silence(fallen)
        for backend in self.pool.backends:
            if backend.learned.silent_since and backend.learned.waiting:
                self.service.move_from(backend, now)

    def _tidy(self) -> None:
        """Once a second: write latencies down, let removed backends go that are idle, notice other workers."""
        now = monotonic()
        self.recent.tick(now, self.pool.backends)
        self.look_after()
        if self.follower.leading:
            self._watch.look(self.config, now)
        self.pool.tidy(now, self.service.policy.retry.hedge_percentile)
        self.request_log.mind(self.edge_row)
        self.files.look(self.config)
        self._strategist.tell(self.pool.strategy, now)
        tunnels = self.forwarder.tunnels
        tunnels.end_overdue(now)
        self.members.tidy(now, lambda key: tunnels.end_of(key, "Its backend was removed, and drain_s is over."))
        self.meet_workers()
        if self.follower.leading:
            self.members.prune()
