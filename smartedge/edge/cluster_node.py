"""One worker's part in its cluster: what the edge asks of it and tells it, whichever worker of the node leads."""

from __future__ import annotations

import json
import logging
import os
import socket
import time
from collections.abc import Callable, Mapping
from random import Random
from typing import Any, Final

import gevent

from smartedge import __version__
from smartedge.balancer.errors import EdgeError
from smartedge.cluster.applied import wait_applied
from smartedge.cluster.cached_copy import CachedCopy
from smartedge.cluster.errors import ClusterError
from smartedge.cluster.proposals import Proposals
from smartedge.cluster.secret_keys import SecretKeys
from smartedge.cluster.store import Store
from smartedge.cluster.stored import Stored
from smartedge.cluster.will import Will
from smartedge.config.model import Config, ConfigError, config_path
from smartedge.discovery.etcd_client import EtcdClient
from smartedge.discovery.etcd_connect import connect
from smartedge.edge import operator_will
from smartedge.edge.announce import Announcer
from smartedge.edge.cluster_lead import ClusterLead
from smartedge.edge.cluster_news import ClusterNews, News
from smartedge.edge.cluster_persistence import ClusterPersistence, ClusterTrouble
from smartedge.edge.cluster_reload import ASK_S, CONFIRM_S, NodesSeen, NotByAll, reloaded_by_all
from smartedge.edge.cluster_start import ClusterStart
from smartedge.edge.follower import Follower
from smartedge.edge.origin import ConfigOrigin
from smartedge.edge.reload import Reloader
from smartedge.edge.reload_report import Applied, Reloaded
from smartedge.edge.setup import ClusterShare, SetupBuilder
from smartedge.edge.tickets import Tickets
from smartedge.edge.trial import TrialFile, TrialInCluster
from smartedge.proxy.service import Service
from smartedge.workers.membership import Membership

log = logging.getLogger("smartedge")

UNKNOWN_S: Final = 2.0
"""How long a server that is none of ours has to say where it listens; then the node is called by its host alone."""


TELL_S: Final = 1.0
"""An event of what the cluster wants comes so much later: where one of our own pages was asked, that says by whom."""


class ClusterNode:
    """Owned by the worker's Edge, which calls `look` many times a second. The worker that leads has a ClusterLead besides.

    start: what the node began with. name: of the node, known once it listens. news: what is known of the cluster.
    """

    def __init__(
        self,
        start: ClusterStart,
        origin: ConfigOrigin,
        reloader: Reloader,
        builder: SetupBuilder,
        tickets: Tickets,
        follower: Follower,
        services: Callable[[], Mapping[str, Service]],
        announcer: Announcer,
        rng: Random,
        env: Mapping[str, str],
    ) -> None:
        self.name = ""
        self._used_id = "" if start.stored is None else start.stored.id
        self.news = ClusterNews(None)
        self._start = start
        self._origin = origin
        self._reloader = reloader
        self._builder = builder
        self._tickets = tickets
        self._follower = follower
        self._services = services
        self._announcer = announcer
        self._rng = rng
        self._env = env
        self._path = config_path(origin.path, env)
        self._client: EtcdClient | None = None
        self._membership: Membership | None = None
        self._lead: ClusterLead | None = None
        self._address = ""
        self._made_at = time.monotonic()
        self._wishes: Mapping[str, Any] | None = None

    @property
    def prefix(self) -> str:
        """What the keys of the cluster begin with."""
        return self._start.settings.prefix

    # ---- life ----

    def join_workers(self, membership: Membership) -> None:
        """Be one of the workers of this node: know what its leader knows, and keep configurations in the cluster's key."""
        directory = None if membership.state is None else membership.state.path
        self._membership = membership
        self._client = connect(self._start.settings, self._env)
        self.news = ClusterNews(directory)
        if not self.news.look() and self._start.stored is not None:
            stored = self._start.stored  # so that ETags are right from the beginning
            self.news.newest = News(cluster_id=stored.id, generation=stored.generation, by=stored.by, at=stored.at)
        self._use_share()
        store = Store(self._client, self.prefix)
        persistence = ClusterPersistence(
            store,
            lambda: self.name or socket.gethostname(),
            self.news,
            self._origin,
            lambda: self._reloader.setup.config,
            self._take_back_outdated,
            directory,
        )
        persistence.see_file()
        self._reloader.keep_in(persistence)

    def serve_at(self, listener: Any) -> None:
        """Know our name: what the operator says, else host and port.

        listener: the name of the socket that clients connect to; None while that is not known, which is waited for a moment.
        """
        if self.name or (listener is None and time.monotonic() - self._made_at < UNKNOWN_S):
            return
        host, port = _host_and_port(listener)
        self._address = f"{host}:{port}" if port else host
        name = socket.gethostname()
        self.name = self._env.get("SMARTEDGE_NODE", "").strip() or (f"{name}:{port}" if port else f"{name}:{host}")

    def say_start(self) -> None:
        """Log what the node begins with; by one of its workers."""
        self._start.say(self._path)

    def look(self, *, leading: bool) -> None:
        """Lead or follow, as is this worker's part now; many times a second."""
        if not self.name:
            self.serve_at(None)
            return
        if leading and self._lead is None:
            assert self._client is not None
            copy = CachedCopy(self._path, self.prefix, self._start.settings.endpoints)
            self._lead = ClusterLead(self, self._client, self.prefix, copy, self.news, self._rng)
            self._lead.start()
        elif not leading and self._lead is not None:
            lead, self._lead = self._lead, None
            gevent.spawn(lead.stop)  # which asks etcd
        if self.news.look() or self._lead is not None:
            self._use_share()

    def stop(self) -> None:
        """End, with the card taken away."""
        lead, self._lead = self._lead, None
        if lead is not None:
            lead.stop()

    # ---- what the leader puts to use; see `cluster_lead.LedNode` ----

    @property
    def generation(self) -> int:
        """The number of the configuration in use; 0 for one that is not the cluster's."""
        return self._reloader.generation

    def use_stored(self, stored: Stored) -> None:
        """Go on with what the cluster has, in all workers of this node. Raises ConfigError or EdgeError."""
        began_with_file = not self._reloader.generation
        is_same_cluster, self._used_id = stored.id == self._used_id, stored.id
        applied = self._reloader.use_cluster(_bytes(stored.text), stored.generation, counts_up=is_same_cluster)
        if applied is not None:
            gevent.spawn(self._tell_used, applied, f"the cluster's node {stored.by}")  # the cluster waits for no stopped worker
        if began_with_file and stored.by != self.name:
            said = "the cluster's configuration is used (generation %d, written by %s), and no longer %s"
            log.warning(said, stored.generation, stored.by, self._path)

    def _tell_used(self, applied: Applied, by: str) -> None:
        self._announcer.reloaded(self._reloader.confirmed(applied), by)

    def check(self, text: str) -> str | None:
        """Say why this node could not use a configuration; None if it could."""
        try:
            self._reloader.check(_bytes(text))
        except (ConfigError, EdgeError) as error:
            return str(error)
        return None

    def tell_refused(self, stored: Stored, reason: str) -> None:
        """Write down that this node cannot use what the cluster has."""
        self._announcer.reload_refused(reason, f"the cluster's node {stored.by}")

    def use_will(self, wishes: Mapping[str, Any]) -> None:
        """Have all backends and this node be as the operator wants it."""
        self._wishes = wishes
        self.renew_will()
        draining = operator_will.drains(wishes, self.name)
        if draining != self._follower.is_told_to_drain:
            self._follower.set_draining(draining)
            log.warning("edge %s by the operator of the cluster", "draining" if draining else "enabled")
            gevent.spawn_later(TELL_S, self._announcer.drain_will_changed, draining)

    def renew_will(self) -> None:
        """Have backends that have come be as the operator wants them, too; in the worker that leads."""
        if self._lead is not None:
            for change in operator_will.use_wishes(self._wishes or {}, self._services()):
                gevent.spawn_later(TELL_S, self._announcer.will_changed, change)

    def use_secrets(self, secrets: SecretKeys) -> None:
        """Make session tickets with these, in all workers."""
        self._tickets.use_cluster_secrets(secrets.tickets)

    def first_text(self) -> str | None:
        """Return what the cluster gets that has no configuration yet: that of our file; None where it is not in use here."""
        if self._reloader.generation:
            return None
        try:
            text = self._origin.read_text() or b""
        except OSError:
            text = b""
        if self._origin.pipe is not None:
            return self._origin.text_of(self._reloader.setup.config)
        if not text.strip():  # flags name the backends
            config = self._reloader.setup.config
            backends = [backend.model_dump(mode="json", exclude_defaults=True) for backend in config.backends]
            return json.dumps({"backends": backends})
        return _text(text)

    def standing(self) -> dict[str, Any]:
        """Return what of the card others wait for; asked often."""
        assert self._membership is not None
        confirmed = self._membership.confirmed()
        return {
            "generation": self._reloader.generation,
            "workers": {"applied": sum(one >= self._reloader.serial for one in confirmed.values()), "live": len(confirmed)},
            "draining": self._follower.draining,
        }

    def card(self) -> dict[str, Any]:
        """Return all that this node says of itself now."""
        assert self._membership is not None
        now = time.monotonic()
        since = min((at for _, at in self._membership.live_since().values()), default=now)
        pools = [service.pool for service in self._services().values()]
        return {
            "node": self.name,
            "address": self._address,
            "version": __version__,
            **self.standing(),
            "requests": sum(int(one.get("requests", 0)) for one in self._follower.workers(now)),
            "backends": {
                "up": sum(backend.learned.health.state == "healthy" for pool in pools for backend in pool.backends),
                "total": sum(len(pool.backends) for pool in pools),
            },
            "since": round(time.time() - (now - since)),
        }

    # ---- what the pages ask ----

    def reload(
        self,
        body: bytes | None,
        if_match: str | None,
        *,
        by: str | None = None,
        wait: bool = True,
        require_all: bool = False,
        persist: bool = True,  # in etcd it always is
    ) -> Reloaded:
        """Apply a configuration on all nodes, as `Edge.reload` does on one; wait: until they have it, for CONFIRM_S at most."""
        reloader, seen = self._reloader, self._reloader.generation
        if require_all:
            body = reloader.text_of(body) if body is None else body
            self._origin.parse_text(body)
            self.ask_all(body)
        applied = reloader.reload(body, if_match=if_match, wait=wait, seen=seen)
        here = self._announcer.reloaded(applied, by)
        if not wait:
            return here
        if self._lead is not None:
            self._lead.hurry()
        reloaded = reloaded_by_all(applied, wait_applied(NodesSeen(self.news, self._own_card), applied.generation, CONFIRM_S))
        self._announcer.nodes_differ(reloaded.document, by)
        return reloaded

    def ask_all(self, text: bytes) -> None:
        """Have all nodes check a configuration; raises NotByAll unless all could use it, or ClusterTrouble."""
        assert self._client is not None
        try:
            self.news.require_live()
            said = Proposals(self._client, self.prefix).ask(_text(text), self.name, self._live_nodes, ASK_S)
        except ClusterError as error:
            raise ClusterTrouble(error) from error
        if not said.is_accepted:
            raise NotByAll(said.refused, said.silent, len(self._live_nodes()))

    def drain(self, draining: bool, *, everywhere: bool) -> None:
        """Have this node drain, or all of them, those that come later, too; or take it back. Raises ClusterTrouble."""
        self.say(operator_will.drain_wishes(self.wishes(), None if everywhere else self.name, draining=draining))

    def say_of_backend(self, service: str, backend_id: str, what: str, value: Any) -> None:
        """Have all nodes hold this to be the state or weight of a backend, None for what is written. Raises ClusterTrouble."""
        self.say(operator_will.backend_wishes(self.wishes(), service, backend_id, what, value))

    def say(self, wishes: Mapping[str, Any]) -> None:
        """Say something of the operator's will to all nodes, None takes it back. Raises ClusterTrouble, and nothing changed."""
        if not wishes:
            return
        assert self._client is not None
        try:
            self.news.require_live()
            Will(self._client, self.prefix).set_many(wishes)
        except ClusterError as error:
            raise ClusterTrouble(error) from error

    def wishes(self) -> Mapping[str, Any]:
        """Return all that the operator has said, as etcd has it now. Raises ClusterTrouble."""
        assert self._client is not None
        try:
            return Will(self._client, self.prefix).all()
        except ClusterError as error:
            raise ClusterTrouble(error) from error

    def trial_place(self, mirror: TrialFile) -> TrialInCluster:
        """Return where a configuration on trial is written down, for all nodes. mirror: of it, for the workers of this one."""
        return TrialInCluster(mirror, lambda: self._wishes if self._lead is not None else None, self.say)

    def _take_back_outdated(self, old: Config, new: Config) -> None:
        """Take back what was said of backends of which the configuration says something else since."""
        try:
            self.say(operator_will.outdated_wishes(self.wishes(), old, new))
        except ClusterTrouble as error:
            log.warning("what was said of backends before the reload is still in force: %s", error)

    @property
    def stale_s(self) -> float | None:
        """For how long the cluster has not been heard of; 0.0 while it is, None where it never was."""
        news = self.news.newest
        if news.state == "live":
            return 0.0
        return None if news.heard_at is None else max(0.0, time.monotonic() - news.heard_at)

    def document(self) -> dict[str, Any]:
        """Return what the pages say of the cluster."""
        news: News = self.news.newest
        stale_s = self.stale_s
        return {
            "node": self.name,
            "prefix": self.prefix,
            "endpoints": list(self._start.settings.endpoints),
            "state": news.state,
            "age_s": None if stale_s is None else round(stale_s, 1),
            "problem": news.problem,
            "generation": news.generation,
            "refused": news.refused,
            "nodes": len(news.cards),
        }

    def _live_nodes(self) -> list[str]:
        self.news.look()
        return list(self.news.newest.cards) or [self.name]

    def _own_card(self) -> dict[str, Any]:
        """Return of our card what a reload waits for, as it is now and not as the others know it."""
        news = self.news.newest
        refused = None if news.refused is None else {"generation": news.generation, "reason": news.refused}
        return {"node": self.name, **self.standing(), "refused": refused}

    def _use_share(self) -> None:
        news = self.news.newest
        share = ClusterShare(news.nodes, news.sticky_secrets)
        if self._builder.use_share(share):
            try:
                self._reloader.rebuild_setup()
            except ConfigError as error:
                log.error("what the nodes of the cluster have in common cannot be put to use: %s", error)


def _host_and_port(listener: Any) -> tuple[str, int | None]:
    """Return where others find a listener: a wildcard is this machine's name, a unix socket has no port."""
    if not isinstance(listener, tuple):
        return os.fsdecode(listener) if listener else socket.gethostname(), None
    host = str(listener[0])
    if host in ("0.0.0.0", "::", ""):
        host = socket.gethostname()
    return f"[{host}]" if ":" in host else host, int(listener[1])


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _text(text: bytes) -> str:
    return text.decode("utf-8", "surrogateescape")
