"""A node's eye on its cluster: all keys as they stand, then one watch from there on; begun anew whenever it is lost."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random
from time import monotonic
from typing import Any, Final, Literal

import gevent
from gevent.event import Event as Signal

from smartedge.cluster.errors import ClusterError, PermissionDenied, cluster_error
from smartedge.cluster.keys import Keys
from smartedge.cluster.members import disunity
from smartedge.cluster.put_back import is_lost, put_back
from smartedge.cluster.view import Part, Proposal, View, view_after, view_of
from smartedge.cluster.will import Will
from smartedge.discovery.backoff import Backoff
from smartedge.discovery.etcd_client import EtcdClient, EtcdError, EtcdWatch, KeyValue, absent, unchanged

log = logging.getLogger("smartedge")

FIRST_WAIT_S: Final = 0.2
LONGEST_WAIT_S: Final = 5.0
"""Between two tries to reach etcd: so long at most after it is back, a node knows."""
LOOK_S: Final = 10.0
"""How often a watch that tells nothing is doubted: a proxy before etcd may keep events back, and let everything else through."""
LATE_RATIO: Final = 0.2
"""Of that time, how much later than the answer to a question an event may come that happened before."""
AGAIN_S: Final = 5.0
"""After which a change that could not be put to use is told again."""

OnChange = Callable[[View, frozenset[Part]], None]
Check = Callable[[str], str | None]
"""Says of a configuration's text why this node could not use it; None if it could."""


class ClusterWatch:
    """Follows a cluster, from `start` to `stop`; one of each node, owned by whoever runs the node.

    view: what is known, replaced as a whole. on_change: called with it and with the parts that are others since the last call,
    in a greenlet of its own; what comes meanwhile is one further call. What it raises is logged, and it is called again soon.
    check: asked for this node about proposals. held: what the node has kept from before (CachedCopy), which counts until
    etcd has answered, and is put back where etcd has lost it (put_back.py).
    """

    def __init__(
        self,
        client: EtcdClient,
        prefix: str,
        node: str,
        on_change: OnChange,
        rng: Random,
        check: Check | None = None,
        held: View | None = None,
        look_s: float = LOOK_S,
    ) -> None:
        self.view = held or View()
        self.problem: str | None = None
        self._client = client
        self._keys = Keys(prefix)
        self._will = Will(client, prefix)
        self._node = node
        self._on_change = on_change
        self._check = check
        self._rng = rng
        self._look_s = look_s
        self._backoff = Backoff(rng, FIRST_WAIT_S, LONGEST_WAIT_S)
        self._is_live = False
        self._heard = monotonic()
        self._news = Signal()
        self._untold: frozenset[Part] = frozenset()
        self._to_tell = Signal()
        self._said: dict[str, str] = {}
        self._answered: set[str] = set()
        self._watch: EtcdWatch | None = None
        self._doubter: Any = None
        self._greenlets: list[Any] = []

    def __repr__(self) -> str:
        return f"<ClusterWatch {self.state} {self.view!r}>"

    @property
    def state(self) -> Literal["live", "stale"]:
        """Whether the view is that of etcd now; a watch that is lost is noticed within some seconds."""
        return "live" if self._is_live else "stale"

    @property
    def age_s(self) -> float:
        """Seconds since etcd was last heard of, or since the start where it was not heard of yet."""
        return monotonic() - self._heard

    def start(self) -> None:
        """Begin to follow."""
        if not self._greenlets:
            self._greenlets = [gevent.spawn(self._run), gevent.spawn(self._tell)]

    def stop(self) -> None:
        """End."""
        greenlets, self._greenlets = self._greenlets, []
        gevent.killall(greenlets)
        self._end_watch()
        self._is_live = False

    def wait_for(self, condition: Callable[[View], object], wait_s: float) -> bool:
        """Wait, for so long at most, until a view fulfils a condition; return whether one does."""
        deadline = monotonic() + wait_s
        while not condition(self.view):
            news = self._news
            if (left_s := deadline - monotonic()) <= 0 or not news.wait(left_s):
                return bool(condition(self.view))
        return True

    def wait_until_live(self, wait_s: float) -> bool:
        """Wait, for so long at most, until the view is that of etcd; return whether it is."""
        return self.wait_for(lambda _: self._is_live, wait_s)

    def _run(self) -> None:
        while True:
            try:
                self._follow()
            except (EtcdError, ClusterError) as error:
                problem = error if isinstance(error, ClusterError) else cluster_error("the cluster cannot be followed", error)
                self._note_trouble(str(problem))
            except Exception as error:
                log.exception("the cluster cannot be followed, and is tried again")
                self._note_trouble(f"the cluster cannot be followed: {error!r}")
            finally:
                self._end_watch()
            gevent.sleep(self._backoff.next_wait_s())

    def _follow(self) -> None:
        """Read all, then watch; ends with an error."""
        self._refuse_disunity()
        revision, pairs = self._client.range(self._keys.all, prefix=True)
        found = view_of(self._keys, revision, pairs, View())
        may_put_back = True
        if self._keys.config not in found.problems and is_lost(self.view, found):
            may_put_back = self._put_back(found, pairs)
            revision, pairs = self._client.range(self._keys.all, prefix=True)
        self._watch = watch = self._client.watch(self._keys.all, True, revision + 1)
        self._use(view_of(self._keys, revision, pairs, self.view))
        self._note_health()
        if may_put_back:
            self._doubter = gevent.spawn(self._doubt, watch)
        for revision, events in watch:
            if not events:
                self._heard = monotonic()
                continue
            view = view_after(self._keys, self.view, revision, events)
            if may_put_back and is_lost(self.view, view):
                return  # whoever deleted it, or put an older one there: read it all, and put it back
            self._use(view)
            self._note_health()

    def _refuse_disunity(self) -> None:
        if (text := disunity(self._client, self._keys.config)) is not None:
            raise ClusterError(f"the cluster cannot be followed: {text}")

    def _doubt(self, watch: EtcdWatch) -> None:
        """End a watch that does not tell of what has changed, so that all is read anew; or one of several etcds."""
        while True:
            gevent.sleep(self._look_s * self._rng.uniform(0.8, 1.2))
            try:
                if disunity(self._client, self._keys.config) is not None:
                    break
                if self._is_behind():
                    gevent.sleep(self._look_s * LATE_RATIO)
                    if self._is_behind():
                        self._note_trouble("etcd does not tell of what has changed in it (is there a proxy before it?)")
                        break
            except (EtcdError, ClusterError):
                continue  # the watch notices, too
        watch.close()

    def _is_behind(self) -> bool:
        """Whether etcd has something else than what it has told of."""
        if self.view.problems:
            return False
        key, stored = self._keys.config, self.view.stored
        compare = absent(key) if stored is None else unchanged(key, stored.mod_revision)
        return not self._client.txn([compare], []).succeeded or self._will.all() != self.view.will

    def _put_back(self, found: View, pairs: Sequence[KeyValue]) -> bool:
        """Put back what etcd has lost; where this node may not, another one has to. Return whether it did."""
        assert self.view.stored is not None
        if self.view.stored.is_lost_in(found.stored):
            has = f"generation {found.stored.generation}" if found.stored else "no configuration"
            lost = f"{has} of the cluster: generation {self.view.stored.generation}, which this node holds, is to be put back"
        else:
            lost = f"revision {found.revision}, after {self.view.revision}: what the operator has said since is to be put back"
        log.warning("etcd came back with %s", lost)
        try:
            put_back(self._client, self._keys, self.view, found, pairs)
        except PermissionDenied as error:
            self._say("put_back", str(error))
            return False
        return True

    def _use(self, view: View) -> None:
        before = self.view
        if before.stored is not None and before.stored.is_lost_in(view.stored):
            view = replace(view, stored=before.stored)  # what a node has is not lost with etcd's key
        self.view = view
        for key, text in view.problems.items():
            self._say(key, text)
        for key in [key for key in self._said if key not in view.problems and key.startswith(self._keys.prefix)]:
            del self._said[key]
        for number, proposal in view.proposals.items():
            if number not in self._answered:
                gevent.spawn(self._answer, number, proposal)
        self._answered = set(view.proposals)
        if changed := view.changed_from(before):
            self._untold |= changed
            self._to_tell.set()
        self._announce()

    def _note_health(self) -> None:
        """Etcd has been heard of."""
        self._heard = monotonic()
        self._backoff.reset()
        if self.problem is not None:
            log.warning("the cluster is followed again")
        self.problem = None
        if not self._is_live:
            self._is_live = True
            self._announce()

    def _note_trouble(self, problem: str) -> None:
        """Etcd cannot be followed now; said once."""
        if self.problem is None:
            log.warning("%s; what is known of it is used on", problem)
        self.problem = problem
        self._is_live = False
        self._announce()

    def _announce(self) -> None:
        news, self._news = self._news, Signal()
        news.set()

    def _say(self, about: str, text: str) -> None:
        if self._said.get(about) != text:
            self._said[about] = text
            log.warning("%s", text)

    def _end_watch(self) -> None:
        watch, self._watch = self._watch, None
        doubter, self._doubter = self._doubter, None
        if doubter is not None:
            doubter.kill()
        if watch is not None:
            watch.close()

    def _tell(self) -> None:
        while True:
            self._to_tell.wait()
            self._to_tell.clear()
            changed, self._untold = self._untold, frozenset()
            try:
                self._on_change(self.view, changed)
            except Exception:
                log.exception("what has changed in the cluster could not be put to use, and is tried again")
                self._untold |= changed
                gevent.spawn_later(AGAIN_S, self._to_tell.set)

    def _answer(self, number: str, proposal: Proposal) -> None:
        """Say what this node thinks of a proposal; whoever asked may be gone by then."""
        if self._check is None:
            return
        try:
            reason = self._check(proposal.text)
        except Exception as error:
            log.exception("a proposed configuration could not be checked")
            reason = f"it could not be checked: {error!r}"
        said = json.dumps({"ok": reason is None, "reason": reason}).encode()
        try:
            self._client.put(self._keys.answer(number, self._node), said, proposal.lease)
        except EtcdError as error:
            log.info("a proposed configuration is not answered: %s", error)
