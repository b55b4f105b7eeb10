"""The configuration's key in etcd: read, made once, and replaced by compare-and-swap."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import gevent

from smartedge.cluster.errors import (
    PAUSE_S,
    WRITE_S,
    ClusterError,
    Foreign,
    OutcomeUnknown,
    Unavailable,
    cluster_error,
    plain_errors,
)
from smartedge.cluster.keys import Keys
from smartedge.cluster.stored import Stored, stored_of
from smartedge.discovery.etcd_client import EtcdClient, EtcdError, KeyValue, absent, put_op, range_op, unchanged

_DOING = "the configuration cannot be written to etcd"


class Conflict(ClusterError):
    """Another one has written meanwhile, so nothing was. stored: what is there now, None where there is nothing any more."""

    status = 412

    def __init__(self, message: str, stored: Stored | None) -> None:
        super().__init__(message)
        self.stored = stored


class Store:
    """The configuration of a cluster; made by whoever starts a node, asked by its reloads. All raise ClusterError.

    client: of the cluster's etcd. prefix: in normal form. write_s: how long a write is tried whose answer is lost. now: Unix
    time, which is noted and never compared.
    """

    def __init__(self, client: EtcdClient, prefix: str, write_s: float = WRITE_S, now: Callable[[], float] = time.time) -> None:
        self._client = client
        self._key = Keys(prefix).config
        self._write_s = write_s
        self._now = now

    def read(self) -> Stored | None:
        """Return what is there now, None for nothing; Foreign where it is none of ours."""
        return self._read_at(0)

    def create_if_absent(self, text: str, by: str) -> tuple[Stored, bool]:
        """Make a text the first configuration, unless there is one; return what is there then, and whether it is this one."""
        first = Stored(1, text, by, round(self._now(), 3), secrets.token_hex(8), secrets.token_hex(8))
        there = self._swap(first, None)
        return there, there.is_same(first)

    def write(self, text: str, by: str, seen: Stored) -> Stored:
        """Replace the configuration that was seen; raises Conflict, with what is there, if another one has done so before.

        OutcomeUnknown, where etcd went away in between and it cannot be said whether this is in effect.
        """
        fresh = Stored(seen.generation + 1, text, by, round(self._now(), 3), secrets.token_hex(8), seen.id)
        there = self._swap(fresh, seen)
        if there.is_same(fresh):
            return there
        raise Conflict(
            f"the cluster has generation {there.generation} of the configuration meanwhile, written by {there.by};"
            f" this one was made from generation {seen.generation}",
            there,
        )

    def restore(self, held: Stored, found: Stored | None) -> Stored:
        """Put back what etcd has lost (it was restored from a backup, or begun anew); return what is there then.

        held: what this node has. found: the older one that was read, None for nothing. Of many nodes that try, one succeeds.
        """
        return self._swap(held, found)

    def _swap(self, fresh: Stored, seen: Stored | None) -> Stored:
        """Put `fresh` in the place of `seen`; return what is there then, which is `fresh` if it worked.

        A lost answer is looked for: the write knows itself by its nonce. Sending it again makes sure of it, and does no harm,
        for it says what must not have changed.
        """
        compare = absent(self._key) if seen is None else unchanged(self._key, seen.mod_revision)
        deadline = time.monotonic() + self._write_s
        may_be_done = False
        while True:
            try:
                answer = self._client.txn([compare], [put_op(self._key, fresh.to_value())], [range_op(self._key)])
                if answer.succeeded:
                    return replace(fresh, mod_revision=answer.revision)
                return self._ours(fresh, self._stored(answer.responses[0]), may_be_done)
            except EtcdError as error:
                problem = cluster_error(_DOING, error)
                may_be_done = may_be_done or error.sent
                if not isinstance(problem, Unavailable) or not may_be_done:
                    raise problem from error
            try:
                there = self.read()  # from any endpoint that answers; the next write goes there, too
                if not (there is None if seen is None else seen.is_same(there)):
                    return self._ours(fresh, there, may_be_done)
            except Unavailable as error:
                problem = error
            if time.monotonic() > deadline:
                raise OutcomeUnknown(
                    f"etcd went away while the configuration was written: generation {fresh.generation} is in effect, or it"
                    f" is not; look again when etcd is back ({problem})"
                )
            gevent.sleep(PAUSE_S)

    def _ours(self, fresh: Stored, there: Stored | None, may_be_done: bool) -> Stored:
        """Return what is there, or our own write if that was in effect before: others may have written after it already."""
        if there is None:
            raise Conflict("the configuration of the cluster was deleted from etcd meanwhile", None)
        if not may_be_done or there.id != fresh.id or there.generation <= fresh.generation:
            return there
        later = there
        while later.generation > fresh.generation:
            try:
                before = self._read_at(later.mod_revision - 1)
            except (Unavailable, Foreign) as error:
                raise self._forgotten(fresh, there) from error
            if before is None or before.mod_revision >= later.mod_revision:
                raise self._forgotten(fresh, there)
            later = before
        return later if later.is_same(fresh) else there

    def _forgotten(self, fresh: Stored, there: Stored) -> ClusterError:
        return OutcomeUnknown(
            f"etcd's answer was lost, and it has generation {there.generation} by now, written by {there.by}; whether"
            f" generation {fresh.generation} was this one before cannot be found out any more"
        )

    def _read_at(self, revision: int) -> Stored | None:
        with plain_errors("the configuration cannot be read from etcd"):
            return self._stored(self._client.range(self._key, at_revision=revision)[1])

    def _stored(self, found: Sequence[KeyValue]) -> Stored | None:
        return stored_of(found[0].value, self._key, found[0].mod_revision) if found else None
