"""A node's card in etcd: it lies there while the node lives, by a lease that the node renews."""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Callable, Mapping
from random import Random
from time import monotonic
from typing import Any, Final

import gevent
from gevent.event import Event

from smartedge.cluster.errors import ClusterError, Unavailable, cluster_error
from smartedge.cluster.keys import Keys
from smartedge.cluster.will import will_value
from smartedge.discovery.etcd_client import EtcdClient, EtcdError, absent, put_op, range_op, unchanged

log = logging.getLogger("smartedge")

LEASE_S: Final = 10
"""How long a node that says nothing is taken for alive."""
AGAIN_S: Final = 1.0
"""After which a node that cannot reach etcd tries again."""
LEAVE_S: Final = 1.0
"""How long a node that ends waits for etcd."""
FIGURES_S: Final = 10.0
"""How often figures that change with every request are written, with few nodes: etcd keeps every version until it compacts."""
WRITES_PER_S: Final = 6.4
"""Of figures, by all nodes together: each write is told to every node."""

URGENT: Final = frozenset(("generation", "refused", "draining", "workers"))
"""What others wait for; all else on a card are figures."""
SOON: Final = "backends"
"""The figures that seldom change, and then tell of trouble: the first change goes out soon, those after it with the others."""
SOON_S: Final = 0.5
"""Within which it does: all nodes see a backend go down, and need not all write at the same moment."""

_JOIN: Final = "this node cannot join its cluster"
_STAY: Final = "this node cannot tell its cluster that it lives"


class Nodes:
    """The nodes of a cluster, of which this one is one from `join` to `leave`; owned by whoever runs the node.

    live: how many nodes there are, by which figures are written more seldom. lease_s: etcd takes no less than two.
    problem: why this node is not among them now, None where it is.
    """

    def __init__(
        self, client: EtcdClient, prefix: str, rng: Random, live: Callable[[], int] = lambda: 1, lease_s: int = LEASE_S
    ) -> None:
        self.problem: str | None = None
        self._problem_kind: type[ClusterError] | None = None
        self._client = client
        self._keys = Keys(prefix)
        self._rng = rng
        self._live = live
        self._lease_s = lease_s
        self._instance = secrets.token_hex(8)
        self._card: dict[str, Any] = {}
        self._lease = 0
        self._mod_revision = 0
        self._has_joined = False
        self._is_written = False
        self._figures_due = self._soon_at = 0.0
        self._wake = Event()
        self._greenlet: Any = None

    def __repr__(self) -> str:
        return f"<Nodes {self._card.get('node', 'none')}: {self.problem or 'joined'}>"

    def join(self, card: Mapping[str, Any]) -> None:
        """Be one of them: put the card there, and keep it there. card: with "node", the name, and "address".

        It is tried once before this returns, which may take the client's time-out for each endpoint. Where etcd is away or the
        name is taken this goes on in a greenlet; `problem` says so.
        """
        self._card = {**card, "instance": self._instance}
        self._is_written = False
        self._renew()
        if self._greenlet is None:
            self._greenlet = gevent.spawn(self._run)

    def update(self, **fields: Any) -> None:
        """Change the card. What is URGENT goes out at once, the rest now and then, in the greenlet; what is the same does not."""
        changed = {name for name, value in fields.items() if name not in self._card or self._card[name] != value}
        self._card.update(fields)
        if changed & URGENT:
            self._is_written = False
            self._wake.set()
        elif changed and self._is_written:
            now = monotonic()
            every_s = max(FIGURES_S, self._live() / WRITES_PER_S) * self._rng.uniform(0.8, 1.2)
            due = self._figures_due or now + every_s
            if SOON in changed and now >= self._soon_at:
                self._soon_at = now + every_s
                due = min(due, now + SOON_S * self._rng.random())
            if due != self._figures_due:
                self._figures_due = due
                self._wake.set()

    def leave(self) -> None:
        """Be none of them any more: take the card away, if etcd can be asked."""
        greenlet, self._greenlet = self._greenlet, None
        if greenlet is not None:
            greenlet.kill()
        lease, self._lease = self._lease, 0
        if lease:
            try:
                with gevent.Timeout(LEAVE_S, EtcdError("it does not answer")):
                    self._client.revoke(lease)
            except EtcdError as error:
                log.info("the card of this node stays in etcd for %d s: %s", self._lease_s, error)

    @property
    def _doing(self) -> str:
        return _STAY if self._has_joined else _JOIN

    def _run(self) -> None:
        every_s = self._lease_s / 3
        renew_at = monotonic() + every_s
        while True:
            due = min(renew_at, self._figures_due or renew_at)
            if self._is_written or self.problem:
                self._wake.wait(max(0.0, due - monotonic()))
            self._wake.clear()
            now = monotonic()
            if self._figures_due and now >= self._figures_due:
                self._is_written, self._figures_due = False, 0.0
            if now >= renew_at or (not self._is_written and not self.problem):
                self._renew()
                is_away = self._problem_kind is Unavailable
                renew_at = monotonic() + (AGAIN_S if is_away else every_s) * self._rng.uniform(0.8, 1.0)

    def _renew(self) -> None:
        """Renew the lease, and write the card if it is not there as it should be."""
        try:
            if self._lease and not self._client.keep_alive(self._lease):
                log.warning("this node was taken for dead by its cluster, and joins it again")
                self._lease = 0
            if not self._lease:
                self._is_written = False
                self._mod_revision = 0
                self._lease = self._client.grant(self._lease_s)
            if not self._is_written or not self._is_there():
                self._write()
        except EtcdError as error:
            self._note(cluster_error(self._doing, error))
        except ClusterError as error:
            self._note(error)
        except Exception as error:
            log.exception(self._doing)
            self._note(ClusterError(f"{self._doing}: {error!r}"))
        else:
            if self.problem is not None:
                log.warning("this node has joined its cluster")
            self.problem = self._problem_kind = None
            self._has_joined = True

    def _is_there(self) -> bool:
        """Whether the card that lies in etcd is the one that was written: a backup has leases, too, and an older card."""
        key = self._keys.node(self._card["node"])
        return self._client.txn([unchanged(key, self._mod_revision)], []).succeeded

    def _write(self) -> None:
        """Put the card in its place, unless somebody else's is there."""
        key = self._keys.node(self._card["node"])
        self._figures_due = 0.0
        self._is_written = True  # what is changed while etcd is asked is to be written again
        try:
            value = json.dumps(self._card).encode()
            there = self._mod_revision
            for _ in range(2):  # the second time with what has been found the first time
                compare = unchanged(key, there) if there else absent(key)
                answer = self._client.txn([compare], [put_op(key, value, self._lease)], [range_op(key)])
                if answer.succeeded:
                    self._mod_revision = answer.revision
                    return
                found = answer.responses[0]
                if found and not self._may_replace(found[0].value):
                    raise ClusterError(self._taken(found[0].value))
                there = found[0].mod_revision if found else 0
            raise ClusterError(f"{self._doing}: its card is changed by somebody else all the time")
        except BaseException:
            self._is_written = False
            raise

    def _may_replace(self, value: bytes) -> bool:
        """Whether a card that lies there is ours, or that of the process before us at our address."""
        card = will_value(value)
        if not isinstance(card, dict):
            return False
        if card.get("instance") == self._instance:
            return True
        return not self._has_joined and card.get("address") == self._card.get("address")

    def _taken(self, value: bytes) -> str:
        card = will_value(value)
        address = card.get("address") if isinstance(card, dict) else None
        name = self._card["node"]
        if address is None:
            return f"{self._doing}: what its key {self._keys.node(name)} in etcd holds is no card; delete it"
        if address == self._card.get("address"):
            return f'{self._doing}: another process at {address} has taken over its name "{name}"'
        return f'{self._doing}: there is a node called "{name}" already, at {address}; each node needs a name of its own'

    def _note(self, problem: ClusterError) -> None:
        if self._problem_kind is not type(problem):
            log.warning("%s", problem)
        self.problem, self._problem_kind = str(problem), type(problem)
