"""One worker's edge: every part made once, handed the setup of its configuration, begun when the worker serves.

The parts do not know each other; this is where one's event becomes another's call. Time and chance come in here.
"""

from __future__ import annotations

import logging
import os
import random
from collections.abc import Iterator, Mapping, Sequence
from time import monotonic, time
from typing import TYPE_CHECKING, Any

from smartedge import __version__
from smartedge.balancer.backend import Backend
from smartedge.balancer.cells import GAUGES, LAYOUT, ROW_CELLS
from smartedge.balancer.errors import EdgeError
from smartedge.balancer.learned import Learned
from smartedge.balancer.pool import Pool
from smartedge.config.model import Config, ConfigError
from smartedge.config.sources import sticky_secret
from smartedge.discovery.names import LookUp, look_up
from smartedge.edge import collector, policies
from smartedge.edge.access import may_ask
from smartedge.edge.backends import BackendRegistry
from smartedge.edge.cautions import ProxyWatch, log_cautions
from smartedge.edge.certificates import CertificateCare
from smartedge.edge.chronicle import Chronicle
from smartedge.edge.cluster_start import ClusterStart
from smartedge.edge.discovered import begin_discovery, make_discovery
from smartedge.edge.file_watch import FileWatch
from smartedge.edge.follower import Follower, give_up
from smartedge.edge.localities import named_databases
from smartedge.edge.origin import ConfigOrigin
from smartedge.edge.reload import Reloader
from smartedge.edge.reload_report import Reloaded
from smartedge.edge.request_ids import RequestIds
from smartedge.edge.rollouts import Asked, Rollouts
from smartedge.edge.service_set import ServiceSet
from smartedge.edge.setup import Setup, SetupBuilder
from smartedge.edge.tickets import Tickets
from smartedge.edge.upkeep import Upkeep
from smartedge.health.loop import HealthLoop
from smartedge.health.probe import HttpProbe
from smartedge.http.environ_keys import REQUEST_ID
from smartedge.http.forwarded import client_address
from smartedge.http.request import Request
from smartedge.http.server_tls import ServerTls
from smartedge.observe import console
from smartedge.observe.access_log import AccessLog
from smartedge.observe.decisions import Decisions
from smartedge.observe.recent import Recent
from smartedge.observe.traces import Traces
from smartedge.process import hosting
from smartedge.process.admin_door import AdminDoor
from smartedge.process.http_door import HttpDoor
from smartedge.process.whereabouts import clients_listener, whereabouts_of, write_whereabouts
from smartedge.proxy.forward import Forwarder
from smartedge.proxy.service import Service
from smartedge.workers.identity import Succession, edge_identity
from smartedge.workers.late_lock import LateLock
from smartedge.workers.membership import Membership, open_membership
from smartedge.workers.periodic import give_way
from smartedge.workers.shared_secret import Secret
from smartedge.workers.state_dir import StateError

if TYPE_CHECKING:
    from smartedge.edge.cluster_node import ClusterNode

log = logging.getLogger("smartedge")


class Edge:
    """Everything that one worker runs; owned by the app, which calls it for each request, and by whatever starts and stops it.

    config_path: where the configuration is kept, None when flags named the backends. overrides: flags, laid over every new
    configuration too. token: SMARTEDGE_ADMIN_TOKEN. listeners: the names of the sockets that clients connect to, the admin
    pages' last, where the server tells. doors: listen on `http_bind` and `admin_bind` where the server does not. front: see
    ServerTls. succession: from which program we take over. Nothing is opened or probed before `begin_serving`.
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
        front: Any = None,
        cluster: ClusterStart | None = None,
        succession: Succession | None = None,
    ) -> None:
        self.token = token
        self._succession = succession
        self.began = False
        self._beginning = LateLock()
        self.recent = Recent()
        self.ids = RequestIds()
        self.edge_row = Learned()
        self.started_at = monotonic()
        self._env = dict(env)
        self.listeners: Sequence[Any] = ()
        self.doors: tuple[HttpDoor | AdminDoor, ...] = ()
        self.admin_apart = config.admin_bind is not None
        self._membership: Membership | None = None
        self._rng = random.Random()
        self.origin = ConfigOrigin(config_path, self._env, overrides)
        self.registry = BackendRegistry(self.edge_row, self._rng, look_up)
        self.access_log = AccessLog(self._client_of)
        self.traces = Traces(self._client_of)
        self.chronicle = Chronicle(self.edge_row, self._rng, lambda: self.services)
        self.announcer = self.chronicle.announcer
        watch = ProxyWatch(lambda: not self.admin_apart and self.token is None)
        self.decisions = Decisions(
            config.explain.sample_ratio, self._rng, self._may_ask, client_of=self._client_of, on_sampled=watch, row=self.edge_row
        )
        self.tls = ServerTls(front)
        self._tickets = Tickets(self.tls, in_cluster=cluster is not None)
        secret = Secret(sticky_secret(self._env))
        self._builder = SetupBuilder(self.origin, self.registry, self.edge_row, secret, monotonic)
        setup = self._builder.build_setup(config, None)
        self.server_limits = setup.server_limits
        self._services = ServiceSet(setup, self.registry, self.edge_row, self._rng, self, self.ids.next, self.announcer)
        self.forwarder = Forwarder(next(iter(self.services.values())), setup.hop, self.edge_row, self.ids.next)
        self.forwarder.explain, self.forwarder.spans = self.decisions, self.traces.record_exchange
        first = 1 if cluster is None else cluster.generation
        self._reloader = Reloader(self.origin, setup, self._builder.build_setup, self.use_setup, generation=first)
        self.rollouts = Rollouts(self, self._reloader.preview, self.chronicle.history, self.announcer, time)
        self.follower = Follower(self.edge_row, self._reloader)
        self.discovery = make_discovery(self._reloader, self.origin, self._env, self._rng, self.announcer)
        self._file_watch = FileWatch(self.origin.path, self._is_watching, self.reload, self.announcer)
        self.cluster: ClusterNode | None = None
        if cluster is not None:
            from smartedge.edge.cluster_node import ClusterNode  # late: its memory is for nodes only

            parts = self.origin, self._reloader, self._builder, self._tickets, self.follower, lambda: self.services
            self.cluster = ClusterNode(cluster, *parts, self.announcer, self._rng, self._env)
        hosts = self._services.clients_host
        probe = HttpProbe(lambda tls: self.setup.files.context_for(tls), clients_host=hosts, give_way=give_way)
        leads = self.follower.leads
        self.health = HealthLoop(lambda: list(self.backends()), probe, self._flipped, self._rng, monotonic, leads, give_way)
        kept = self._services, self.registry, self.forwarder, self._reloader, self.follower, self.discovery, self.cluster
        care = self.tls, self._tickets, CertificateCare(self._rng), self._builder.databases
        told = self.edge_row, self.recent, self.access_log, self.traces
        self.upkeep = Upkeep(*kept, *care, *told, self.decisions, self.chronicle, self.rollouts, doors=lambda: self.doors)
        self.use_setup(setup)

    # ---- what the admin pages ask ----

    @property
    def setup(self) -> Setup:
        """The setup in use."""
        return self._reloader.setup

    @property
    def config(self) -> Config:
        """The configuration in use."""
        return self._reloader.setup.config

    @property
    def pool(self) -> Pool:
        """The backends of the service that gets what no route sends elsewhere."""
        return self.forwarder.service.pool

    @property
    def services(self) -> Mapping[str, Service]:
        """The services by name."""
        return self._services.services

    @property
    def generation(self) -> int:
        """The number of the configuration in use."""
        return self._reloader.generation

    def now(self) -> float:
        """Return the time in seconds of a monotonic clock."""
        return monotonic()

    def meet_workers(self) -> None:
        """Notice who has come, so that what is added up is the whole edge's."""
        self.registry.meet_workers(list(self.backends()))

    def workers(self, *, counted: bool = True) -> Sequence[Mapping[str, Any]]:
        """Return what every live worker of this edge is and does. counted: see `workers.overview`."""
        return self.follower.workers(monotonic(), counted=counted)

    @property
    def etag(self) -> str:
        """What tells the configuration in use from others: on all nodes of a cluster alike."""
        return self._reloader.shown_etag

    def text_in_use(self) -> bytes | None:
        """Return the configuration as it was written, to be edited; None where it is nowhere. Raises OSError or EdgeError."""
        return self._reloader.text_in_use()

    @property
    def draining(self) -> bool:
        """Whether those in front of the edge should send it nothing more."""
        return self.follower.draining

    def drain(self, draining: bool, *, everywhere: bool = False) -> None:
        """Let all workers say that they are draining, and serve on; or take it back. everywhere: on all nodes of a cluster."""
        if self.cluster is not None:
            self.cluster.drain(draining, everywhere=everywhere)
        self.follower.set_draining(draining)

    def unix_time(self, at: float) -> float:
        """Return the Unix time of a time of the monotonic clock."""
        return time() - (monotonic() - at)

    def request_id(self, environ: Mapping[str, Any]) -> str:
        """Return the id that an admin request is known by; the app puts it there."""
        return str(environ[REQUEST_ID])

    def reload(self, body: bytes | None, *, wait: bool = True, by: str | None = None) -> Reloaded:
        """Apply a configuration, the file's when there is no body, and remember it, as `Rollouts.reload` does."""
        return self.rollouts.reload(body, asked=Asked(by=by, origin="file" if body is None else "api"), wait=wait)

    def apply(self, body: bytes | None, if_match: str | None = None, *, by: str | None = None, **how: bool) -> Reloaded:
        """Apply a configuration, for the Rollouts; raises ConfigError or EdgeError and changes nothing.

        by: see Announcer. how: as `Reloader.reload` has it, and `require_all`, for a cluster: only if all nodes can use it.
        """
        if self.cluster is not None:
            return self.cluster.reload(body, if_match, by=by, **how)
        how.pop("require_all", None)
        return self.announcer.reloaded(self._reloader.reload(body, if_match=if_match, **how), by)

    def _reread(self, by: str) -> None:
        if by == "SIGHUP" or (self.cluster is None and self.origin.path is not None):
            self.reload(None, wait=False, by=by)

    def _is_watching(self) -> bool:
        return self.config.watch and self.follower.leading and self.cluster is None  # whose configuration counts

    def _may_ask(self, request: Request) -> bool:
        return may_ask(request, self.token, self.config.admin_allow)

    def _client_of(self, request: Request) -> bytes:
        return client_address(request, self.forwarder.hop.is_trusted)

    # ---- life ----

    def begin_serving(self) -> None:
        """Take this worker's place and start its loops; called when the worker begins to serve. A second call does nothing."""
        with self._beginning:  # requests that come meanwhile wait
            if not self.began:
                self._begin()
                self.began = True

    @collector.put_off()
    def take_place(self) -> None:
        """Take this worker's place among the others and open what is written to; raises StateError or ConfigError."""
        if self._membership is not None:
            return
        self._rng.seed()  # with --preload all workers would have the same chance
        self.ids.draw_prefix()  # and the same ids
        own, identity = edge_identity(self._env), self.identity
        follows = None if self._succession is None else identity
        membership = self._membership = open_membership(own, ROW_CELLS, LAYOUT, self._env, log, GAUGES, follows)
        self.registry.join_workers(membership, list(self.backends()))
        self.registry.share_names(lambda: self.follower.leading, self._reloader.rebuild_setup)
        directory = membership.state.path if membership.state else None
        self.decisions.join_workers(directory, membership.slot)
        self.chronicle.join_workers(membership)
        self._tickets.join_workers(directory)
        self._builder.join_workers(membership, identity)
        self._reloader.rebuild_setup()
        if self.cluster is not None:
            self.cluster.join_workers(membership)
        self.rollouts.join_workers(directory, None if self.cluster is None else self.cluster.trial_place)
        self.follower.join_workers(membership, self._reread, self._succession)
        self.follower.leads(monotonic())  # before anybody asks `leading`: until then each takes itself for the one

    def _begin(self) -> None:
        hosting.set_up_process(self.config.log_level, self.access_log.reopen, self._env)
        try:
            self.take_place()
            assert self._membership is not None
            self.registry.names.start()
            begin_discovery(self.discovery, self._membership, self.follower, self.services)
            self.be_found(self.listeners)
            if self._membership.slot == 0:  # one worker says it for all
                if self.cluster is not None:
                    self.cluster.say_start()
                self.rollouts.note_start()
                log_cautions(self.config, self._env, has_token=self.token is not None)
        except (StateError, ConfigError) as error:
            give_up(error, self._env)
        self.chronicle.begin(self._membership.slot)
        self.health.start()
        self.upkeep.start()
        self.follower.start()
        self._file_watch.start()
        collector.begin()

    def be_found(self, listeners: Sequence[Any]) -> None:
        """Write down where the admin pages are, so that commands find them. listeners: see `Edge`."""
        self.listeners = listeners
        if self.cluster is not None:
            self.cluster.serve_at(clients_listener(listeners))
        if self._membership is not None:
            write_whereabouts(self._membership.state, whereabouts_of(self.config, self.origin.path, listeners))

    @property
    def identity(self) -> str:
        """What tells this edge from all others on this machine; that of the program from which it has taken over."""
        return edge_identity(self._env) if self._succession is None else self._succession.identity

    def on_stopping(self) -> None:
        """Give open tunnels `shutdown_grace_s`, which the server does not wait for, and end streams that it would wait for."""
        self.chronicle.feed.close()
        self.forwarder.tunnels.end_all_after(self.config.shutdown_grace_s)

    def stop(self) -> None:
        """End the loops and give up the place; requests in flight have been waited for by the server."""
        if self.cluster is not None:
            self.cluster.stop()
        self.health.stop()
        self.upkeep.stop()
        self._file_watch.stop()
        self.follower.stop()
        self.discovery.stop()
        self.registry.close(list(self.backends()))
        self.access_log.close()
        self.traces.close(self.edge_row)
        self.decisions.close()
        self.chronicle.close()
        if self._membership is not None:
            self._membership.close()

    # ---- configuration ----

    def backends(self) -> Iterator[Backend]:
        """Give the backends of all services."""
        return self._services.backends()

    def use_setup(self, setup: Setup) -> None:
        """Put a setup to use, which fails no more: the one way in which a configuration takes effect, called by the Reloader.

        Requests under way keep what they have taken of the one before.
        """
        now = monotonic()
        if self._membership is not None:  # a process that does not serve yet logs as whoever started it wants
            console.log_at(setup.config.log_level)
        self.tls.use(setup.files.shown)
        seconds = setup.config.hsts_s
        self.hsts = b"" if seconds is None else b"Strict-Transport-Security: max-age=%d\r\n" % seconds
        self.server_limits = setup.server_limits
        self.access_log.write_to(setup.access_log, policies.log_style(setup.config))
        self.traces.send_to(setup.spans)
        self.forwarder.tracer = setup.tracer
        self.decisions.set_ratio(setup.config.explain.sample_ratio)
        self.forwarder.hop = setup.hop
        self.forwarder.log = self.access_log.write_exchange if setup.access_log is not None else None
        self.registry.follow_names(setup.config)
        self.discovery.follow_config(setup.config)
        self._services.use_setup(setup, now, leads=self.follower.leading)
        self.forwarder.service = next(iter(self.services.values()))
        self.forwarder.router = self._services.make_router(setup)
        self._builder.databases.keep_paths(named_databases(setup.config))
        if self.cluster is not None:
            self.cluster.renew_will()
        self.health.wake()

    # ---- events ----

    def breaker_changed(self, backend: Backend, change: str) -> None:
        """Announce what a breaker did."""
        self.announcer.breaker_changed(backend, change)

    def unreachable(self, backend: Backend) -> None:
        """Have a backend probed soon that traffic could not connect to."""
        self.health.nudge(backend)
        self.registry.hurry_name(backend)

    def on_refused(self, peer: bytes, error: EdgeError, request_id: str) -> None:
        """Count and log a request that the server refused before anybody saw it."""
        self.edge_row.count(error.status, 0.0, 0, 0)
        self.access_log.write_refused(request_id, peer, error)

    def _flipped(self, backend: Backend, change: str, result: object) -> None:
        if (service := self.services.get(backend.spec.service)) is not None:
            service.renew_candidates_soon()
        if change == "closed":
            self.breaker_changed(backend, change)
        else:
            self.announcer.health_changed(backend, change)
