"""What a worker's edge does again and again beside its requests: it keeps up with what comes as no event, and tidies up."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from time import monotonic
from typing import TYPE_CHECKING

from smartedge.balancer.cells import LOG_LINES_LOST, LOOP_LAG
from smartedge.balancer.learned import Learned
from smartedge.balancer.watch import LOOK_S, TIDY_S
from smartedge.discovery.discovery import Discovery
from smartedge.edge.backends import BackendRegistry
from smartedge.edge.certificates import CertificateCare
from smartedge.edge.changes import ChangeWatch, Seen
from smartedge.edge.chronicle import Chronicle
from smartedge.edge.follower import Follower
from smartedge.edge.reload import Reloader
from smartedge.edge.rollouts import Rollouts
from smartedge.edge.service_set import ServiceSet
from smartedge.edge.tickets import Tickets
from smartedge.http.server_tls import ServerTls
from smartedge.observe.access_log import AccessLog
from smartedge.observe.decisions import Decisions
from smartedge.observe.recent import Recent
from smartedge.observe.traces import Traces
from smartedge.process.admin_door import AdminDoor
from smartedge.process.http_door import HttpDoor
from smartedge.proxy.forward import Forwarder
from smartedge.proxy.place_database import PlaceDatabases
from smartedge.workers.huge_pages import HugePages
from smartedge.workers.loop_lag import LoopLag
from smartedge.workers.periodic import PeriodicWork, give_way

if TYPE_CHECKING:
    from smartedge.edge.cluster_node import ClusterNode

log = logging.getLogger("smartedge")


class Upkeep:
    """Looks after the parts of one worker's edge, some every second and some more often; made, begun and ended by the `Edge`.

    doors: those that are open now. What is done by one worker for all is done by the one that leads.
    """

    def __init__(
        self,
        services: ServiceSet,
        registry: BackendRegistry,
        forwarder: Forwarder,
        reloader: Reloader,
        follower: Follower,
        discovery: Discovery,
        cluster: ClusterNode | None,
        tls: ServerTls,
        tickets: Tickets,
        certificates: CertificateCare,
        databases: PlaceDatabases,
        edge_row: Learned,
        recent: Recent,
        access_log: AccessLog,
        traces: Traces,
        decisions: Decisions,
        chronicle: Chronicle,
        rollouts: Rollouts,
        doors: Callable[[], Sequence[HttpDoor | AdminDoor]],
    ) -> None:
        self._edge_row = edge_row
        self._recent = recent
        self._services = services
        self._registry = registry
        self._forwarder = forwarder
        self._reloader = reloader
        self._follower = follower
        self._discovery = discovery
        self._cluster = cluster
        self._tls = tls
        self._tickets = tickets
        self._certificates = certificates
        self._databases = databases
        self._access_log, self._traces, self._decisions = access_log, traces, decisions
        self._announcer, events = chronicle.announcer, chronicle.events
        self._changes = ChangeWatch(lambda: (document for document, _ in events.after({})), give_way)
        self._rollouts = rollouts
        self._doors = doors
        self._lag, self._look_due = LoopLag(), float("inf")
        self._huge_pages = HugePages()
        remember = PeriodicWork(lambda: chronicle.history.look(leading=follower.leading), TIDY_S)
        self._works = PeriodicWork(self.tidy, TIDY_S), PeriodicWork(self.look, LOOK_S), remember  # apart: it takes many turns

    def start(self) -> None:
        """Begin, with the first turn at once."""
        for work in self._works:
            work.start()

    def stop(self) -> None:
        """End, between two turns."""
        for work in self._works:
            work.stop()
        self._certificates.stop()

    def look(self) -> None:
        """Keep up with what comes as no event: who leads, which backends answer nothing, and who asks for decisions."""
        now = monotonic()
        self._edge_row.reals[LOOP_LAG] = self._lag.note(now, now - self._look_due)
        leading = self._follower.leading
        self._discovery.look(leads=leading)
        if self._cluster is not None:
            self._cluster.look(leading=leading and not self._follower.stopping)
        self._services.look_for_silence(now)
        self._decisions.look()
        self._look_due = monotonic() + LOOK_S

    def tidy(self) -> None:
        """Once a second: write counts down, forget backends that are gone, notice other workers and replaced files."""
        now = monotonic()
        self._recent.tick(now, list(self._services.backends()))
        for door in self._doors():
            door.follow_leader()
        leading, setup = self._follower.leading, self._reloader.setup
        self._services.look(setup, now, leading=leading)
        self._tickets.look(leading=leading)
        self._databases.look(leading=leading)
        self._discovery.tell_others()
        self._access_log.report_trouble(self._edge_row)
        self._traces.report_trouble(self._edge_row)
        if renewed := self._reloader.use_replaced_files():
            self._announcer.files_replaced(renewed, leading=leading)
        tunnels = self._forwarder.tunnels
        tunnels.end_overdue(now)
        give_way()
        self._services.spare_collector()
        self._huge_pages.look(now)
        give_way()  # the book of rows is read and written below, three times: milliseconds, with hundreds of backends gone

        def end_tunnels(key: str) -> bool:
            return tunnels.end_of(key, "Its backend was removed, and drain_s is over.")

        while self._registry.forget_gone(now, self._services.services, end_tunnels):
            give_way()
        give_way()
        self._registry.meet_workers(list(self._services.backends()))
        if leading:
            self._certificates.look(self._reloader.setup.config, self._tls.certificates)
            give_way()
            self._registry.free_rows()
        give_way()
        self._rollouts.look(leading=leading)
        seen = self._seen(leading=leading)
        give_way()
        for noticed in self._changes.look(seen, now, leading=leading):
            self._announcer.tell(noticed)

    def _seen(self, *, leading: bool) -> Seen:
        pools = {name: service.pool for name, service in self._services.services.items()}
        workers, cluster = self._follower.standing(), None if self._cluster is None else self._cluster.news.newest
        if not leading:
            return Seen(pools, workers=workers)
        return Seen(
            pools,
            self._discovery.healths(),
            self._tls.certificates,
            sum(row[LOG_LINES_LOST] for row in self._edge_row.rows),
            workers,
            None if cluster is None else cluster.state,
            frozenset() if cluster is None else frozenset(cluster.cards),
        )
