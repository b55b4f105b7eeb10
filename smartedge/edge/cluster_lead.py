"""What one worker of a node does for all of them in a cluster: it has the watch and the card, and puts to use what comes."""

from __future__ import annotations

import atexit
import contextlib
import logging
import time
from collections.abc import Mapping
from random import Random
from typing import Any, Final, Protocol

import gevent
from gevent.event import Event

from smartedge.balancer.errors import EdgeError
from smartedge.cluster.cached_copy import CachedCopy, CopyDamaged
from smartedge.cluster.errors import ClusterError
from smartedge.cluster.nodes import Nodes
from smartedge.cluster.secret_keys import SecretKeys, Secrets
from smartedge.cluster.store import Store
from smartedge.cluster.stored import Stored
from smartedge.cluster.view import Part, View
from smartedge.cluster.watch import ClusterWatch
from smartedge.config.model import ConfigError
from smartedge.discovery.etcd_client import EtcdClient
from smartedge.edge.cluster_news import ClusterNews, News
from smartedge.workers.periodic import PeriodicWork

log = logging.getLogger("smartedge")

ALL: Final[frozenset[Part]] = frozenset(("config", "nodes", "will", "secrets"))

CARD_S: Final = 0.5
"""How often it is looked over what the card says of workers; a change goes out at once."""

FIGURES_S: Final = 5.0
"""How often its figures are counted anew at least, which takes milliseconds with many backends."""

COUNTED_PER_S: Final = 1_000
"""Backends that are counted a second: up to 500 each time that the card is looked over."""

NEWS_PER_S: Final = 200
"""Cards a second that the other workers are told at most, where nothing else has changed: each reads all of them."""

CONFIRMING_S: Final = 2.0
"""How long the card follows the workers closely after a change."""

FIRST_S: Final = 1.0
"""How long etcd may take before what was held is used; an etcd that cannot be reached is not waited for."""

SECRETS_S: Final = 60.0
LEAVE_S: Final = 1.0
"""How long a worker that ends waits for etcd to take its card away, which goes by itself ten seconds later."""

JOIN_S: Final = 1.0
"""A card that is not there is put there again after so long."""

REFUSED_RETRY_S: Final = 10.0
"""A configuration that cannot be used here is tried again after so long: somebody may put the missing file there."""
RETRY_S: Final = 1.0
"""One that could not be applied for a passing reason."""


class LedNode(Protocol):
    """What the leader puts to use for all workers of its node; the ClusterNode."""

    name: str

    @property
    def generation(self) -> int:
        """The number of the configuration in use; 0 for one that is not the cluster's."""

    def use_stored(self, stored: Stored) -> None:
        """Go on with a configuration. Raises ConfigError or EdgeError, and has changed nothing."""

    def check(self, text: str) -> str | None:
        """Say why this node could not use a configuration; None if it could."""

    def tell_refused(self, stored: Stored, reason: str) -> None:
        """Tell that this node cannot use what the cluster has."""

    def use_will(self, wishes: Mapping[str, Any]) -> None:
        """Have all be as the operator wants it."""

    def use_secrets(self, secrets: SecretKeys) -> None:
        """Make session tickets with these."""

    def first_text(self) -> str | None:
        """Return what the cluster gets that has no configuration yet."""

    def standing(self) -> dict[str, Any]:
        """Return what of the card others wait for; asked often."""

    def card(self) -> dict[str, Any]:
        """Return all that this node says of itself now."""


class ClusterLead:
    """The leading worker's part, from `start` to `stop`; made by the ClusterNode whenever its worker has become the leader.

    client: of the cluster's etcd. copy: what the node keeps on disk. news: what the other workers read.
    """

    def __init__(self, node: LedNode, client: EtcdClient, prefix: str, copy: CachedCopy, news: ClusterNews, rng: Random) -> None:
        self._node = node
        self._store = Store(client, prefix)
        self._secrets = Secrets(client, prefix)
        self._copy = copy
        self._news = news
        self._refused: dict[str, Any] | None = None
        self._retry_at: float | None = None
        self._figures_at = self._publish_at = self._join_at = 0.0
        self._said: dict[str, str] = {}
        self._hurry = Event()
        self._has_seen_all = self._owes_news = False
        self.watch = ClusterWatch(client, prefix, node.name, self._on_change, rng, node.check, self._held())
        self.nodes = Nodes(client, prefix, rng, lambda: len(self.watch.view.cards))
        self._rotation = PeriodicWork(self._rotate_secrets, SECRETS_S)
        self._greenlet: Any = None

    def start(self) -> None:
        """Begin; nothing here waits for etcd."""
        atexit.register(self.stop)  # gunicorn tells no application that its worker ends
        self.watch.start()
        self._greenlet = gevent.spawn(self._run)

    def stop(self) -> None:
        """End, and take the card away, unless etcd takes too long over that. A second call does nothing."""
        atexit.unregister(self.stop)
        if self._greenlet is not None:
            self._greenlet.kill()
        self._rotation.stop()
        self.watch.stop()
        with gevent.Timeout(LEAVE_S, exception=False):
            self.nodes.leave()

    def hurry(self) -> None:
        """Have the card tell soon what has changed."""
        self._hurry.set()

    def _run(self) -> None:
        self.watch.wait_for(lambda _: self.watch.state == "live" or self.watch.problem, FIRST_S)
        view = self.watch.view  # what was held, where etcd says nothing
        self._on_change(view, ALL - {"config"} if self._is_outdated(view.stored) else ALL)
        self._join_at = time.monotonic() + JOIN_S
        self.nodes.join(self._node.card() | {"refused": self._refused})
        self._rotation.start()
        while True:
            pause_s = max(0.0, self._publish_at - time.monotonic()) if self._owes_news else CARD_S
            hurried = self._hurry.wait(min(pause_s, CARD_S))
            self._hurry.clear()
            until = time.monotonic() + (CONFIRMING_S if hurried else 0.0)
            try:
                while not self._tell() and time.monotonic() < until:
                    gevent.sleep(0.01)
                if self._retry_at is not None and time.monotonic() >= self._retry_at:
                    self._use_stored(self.watch.view)
                self._create_first()
            except Exception:
                log.exception("the card of this node could not be brought up to date, and is tried again")

    def _tell(self) -> bool:
        """Bring card and news up to date; say whether all workers have applied what the leader has."""
        now = time.monotonic()
        if now >= self._figures_at:
            card = self._node.card()
            self._figures_at = now + min(FIGURES_S, card["backends"]["total"] / COUNTED_PER_S)
            self.nodes.update(**card)
        if self.watch.state == "live" and self._node.name not in self.watch.view.cards and now >= self._join_at:
            self._join_at = now + JOIN_S  # a worker that led for a while, as this one stood still, has taken the card along
            self.nodes.join(self._node.card() | {"refused": self._refused})
        standing = self._node.standing()
        self.nodes.update(**standing, refused=self._refused)
        self._publish(important=False)
        return bool(standing["workers"]["applied"] == standing["workers"]["live"])

    def _publish(self, *, important: bool) -> None:
        """Tell the other workers. important: at once, however many nodes there are."""
        now = time.monotonic()
        self._owes_news = not important and now < self._publish_at
        if self._owes_news:
            return
        self._publish_at = now + len(self.watch.view.cards) / NEWS_PER_S
        watch, view = self.watch, self.watch.view
        self._has_seen_all = self._has_seen_all or watch.state == "live"
        stored = view.stored
        news = News(
            state=watch.state,
            heard_at=round(time.monotonic() - watch.age_s) if watch.state == "live" else self._news.newest.heard_at,
            problem=watch.problem or self.nodes.problem or next(iter(view.problems.values()), None),
            cluster_id="" if stored is None else stored.id,
            generation=0 if stored is None else stored.generation,
            by="" if stored is None else stored.by,
            at=0.0 if stored is None else stored.at,
            refused=None if self._refused is None else self._refused["reason"],
            # What an earlier leader has seen is right until this one has seen it all, too.
            cards=dict(view.cards) if self._has_seen_all else self._news.newest.cards,
            sticky=() if view.secrets is None else tuple(one.hex() for one in view.secrets.sticky),
        )
        try:
            self._news.publish(news)
        except OSError as error:
            self._say("news", f"the other workers cannot be told of the cluster: {error}")

    def _on_change(self, view: View, changed: frozenset[Part]) -> None:
        if "config" in changed:
            self._use_stored(view)
        if "secrets" in changed and view.secrets is not None:
            self._node.use_secrets(view.secrets)
        if changed & {"config", "will"} and view.stored is not None:
            self._node.use_will(view.will)
        self._publish(important=changed != {"nodes"})
        if changed - {"nodes"} and view.stored is not None:
            self._keep(view)
        self._hurry.set()

    def _use_stored(self, view: View) -> None:
        """Use what the cluster has; what cannot be used here is refused, and the one before serves on."""
        self._retry_at = None
        stored = view.stored
        if stored is None:
            return
        try:
            self._node.use_stored(stored)
        except ConfigError as error:
            self._refuse(stored, str(error))
            self._retry_at = time.monotonic() + REFUSED_RETRY_S
        except EdgeError as error:
            self._say("use", f"generation {stored.generation} cannot be applied yet, and is tried again: {error}")
            self._retry_at = time.monotonic() + RETRY_S
        else:
            self._refused = None
            self._said.pop("refused", None)
            self._said.pop("use", None)

    def _refuse(self, stored: Stored, reason: str) -> None:
        self._refused = {"generation": stored.generation, "reason": reason}
        text = f"generation {stored.generation} by {stored.by} cannot be used here, the one before stays: {reason}"
        if self._say("refused", text):
            self._node.tell_refused(stored, reason)

    def _is_outdated(self, held: Stored | None) -> bool:
        """Whether what was held is older than what this node has in use: it was away since, or could not write its copy."""
        if held is None or self.watch.state == "live" or self._news.newest.cluster_id not in ("", held.id):
            return False
        return held.generation < self._node.generation

    def _create_first(self) -> None:
        """Give the cluster its first configuration, if it has none."""
        if self.watch.state != "live" or self.watch.view.stored is not None or (text := self._node.first_text()) is None:
            return
        if (reason := self._node.check(text)) is not None:
            self._say("first", f"the cluster has no configuration, and does not get that of this node, which is wrong: {reason}")
            return
        try:
            stored, is_ours = self._store.create_if_absent(text, self._node.name)
        except ClusterError as error:
            self._say("first", str(error))
        else:
            if is_ours:
                log.info("the cluster has its first configuration, generation %d, from this node", stored.generation)

    def _rotate_secrets(self) -> None:
        if self.watch.wait_until_live(SECRETS_S / 2):
            try:
                self._secrets.rotate_if_due(time.time(), self.watch.view.secrets)
            except ClusterError as error:
                self._say("secrets", str(error))

    def _keep(self, view: View) -> None:
        try:
            self._copy.write(view)
            self._said.pop("copy", None)
        except OSError as error:
            self._say(
                "copy", f"{self._copy.path} cannot be written, so a start without etcd would have no copy: {error.strerror}"
            )

    def _held(self) -> View | None:
        with contextlib.suppress(CopyDamaged):
            return self._copy.read()
        return None

    def _say(self, about: str, text: str) -> bool:
        """Log what was not said last of this; say whether that was so."""
        if is_new := self._said.get(about) != text:
            self._said[about] = text
            log.warning("%s", text)
        return is_new
