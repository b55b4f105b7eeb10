"""What sticky cookies and TLS session tickets are made with: the same on all nodes, made once, new every day."""

from __future__ import annotations

import json
import secrets
from base64 import b64decode, b64encode
from dataclasses import dataclass, replace
from typing import Any, Final

from smartedge.cluster.errors import Foreign, plain_errors, write_again
from smartedge.cluster.keys import Keys
from smartedge.discovery.etcd_client import EtcdClient, absent, put_op, unchanged

DAY_S: Final = 86_400
STICKY_BYTES: Final = 32
TICKET_BYTES: Final = 80
"""OpenSSL's: 16 for the name, 32 for HMAC, 32 for AES-256."""
STICKY_KEPT: Final = 9
"""Today's, those of the seven days before, tomorrow's: who comes once a week keeps the backend."""
TICKETS_KEPT: Final = 3
"""Today's, yesterday's, tomorrow's: a ticket lives for hours."""


@dataclass(frozen=True, slots=True)
class SecretKeys:
    """The secrets, for sticky cookies and for session tickets; made by a Secrets, handed on in a View.

    The first of each is the one to make something with, all are accepted; the last is tomorrow's, which all nodes have a day
    before the first of them uses it. rotated_at: Unix time of the node that did it. mod_revision: etcd's of the key.
    """

    sticky: tuple[bytes, ...]
    tickets: tuple[bytes, ...]
    rotated_at: float
    mod_revision: int = 0

    def __repr__(self) -> str:
        return f"<SecretKeys {len(self.sticky)} for cookies, {len(self.tickets)} for tickets>"

    def is_due(self, now: float, every_s: float) -> bool:
        """Whether it is time for new ones; also where a clock was wrong that wrote a time which is still to come."""
        return not -every_s / 24 < now - self.rotated_at < every_s

    def rotated(self, now: float) -> SecretKeys:
        """Give those of the next day: tomorrow's become today's."""
        return SecretKeys(
            (self.sticky[-1], *self.sticky[:-1][: STICKY_KEPT - 2], secrets.token_bytes(STICKY_BYTES)),
            (self.tickets[-1], *self.tickets[:-1][: TICKETS_KEPT - 2], secrets.token_bytes(TICKET_BYTES)),
            now,
        )

    def to_value(self) -> bytes:
        """Give the value of the key."""
        return json.dumps(
            {
                "rotated_at": self.rotated_at,
                "sticky": [b64encode(one).decode() for one in self.sticky],
                "tickets": [b64encode(one).decode() for one in self.tickets],
            }
        ).encode()


def first_secrets(now: float) -> SecretKeys:
    """Make the first ones: today's and tomorrow's."""
    return SecretKeys(
        tuple(secrets.token_bytes(STICKY_BYTES) for _ in range(2)),
        tuple(secrets.token_bytes(TICKET_BYTES) for _ in range(2)),
        now,
    )


def secrets_of(value: bytes, key: str, mod_revision: int = 0) -> SecretKeys:
    """Read the value of the key; raises Foreign where it is none of ours."""
    found: Any
    try:
        found = json.loads(value)
        sticky, tickets = (tuple(b64decode(one, validate=True) for one in found[name]) for name in ("sticky", "tickets"))
        sound = all(len(one) == STICKY_BYTES for one in sticky) and all(len(one) == TICKET_BYTES for one in tickets)
        if not sound or len(sticky) < 2 or len(tickets) < 2:
            raise ValueError
        return SecretKeys(sticky, tickets, float(found["rotated_at"]), mod_revision)
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        raise Foreign(
            f"the key {key} in etcd holds no secrets of SmartEdge's: another program wrote it, or somebody by hand; delete it,"
            " and new ones are made"
        ) from None


class Secrets:
    """The secrets in etcd; made by whoever starts a node. All raise ClusterError.

    every_s: how often there are new ones. A key with a lease of half that time says that they are fresh: however wrong the
    clock of a node is, they cannot change more often, by etcd's own clock.
    """

    def __init__(self, client: EtcdClient, prefix: str, every_s: int = DAY_S) -> None:
        self._client = client
        self._keys = Keys(prefix)
        self._every_s = every_s

    def current(self, now: float) -> SecretKeys:
        """Return the secrets; whoever asks first makes them. now: Unix time."""
        found = self._read()
        if found is not None:
            return found
        if (made := self._put_fresh(first_secrets(now), None)) is not None:
            return made
        found = self._read()
        if found is None:
            raise Foreign("the secrets of the cluster were deleted from etcd as they were made")
        return found

    def rotate_if_due(self, now: float, seen: SecretKeys | None) -> SecretKeys | None:
        """Make new ones if it is time, which one node of all does; return them, None where there was nothing to do.

        seen: those of the node's View, by which it costs nothing to find out that it is too soon; None makes the first ones.
        """
        if seen is None:
            return self.current(now)
        if not seen.is_due(now, self._every_s):
            return None
        with plain_errors("the secrets cannot be read from etcd"):
            _revision, marks = self._client.range(self._keys.secrets_fresh)
        if marks or (there := self._read()) is None or not there.is_due(now, self._every_s):
            return None
        return self._put_fresh(there.rotated(now), there)

    def _read(self) -> SecretKeys | None:
        with plain_errors("the secrets cannot be read from etcd"):
            _revision, found = self._client.range(self._keys.secrets)
        return secrets_of(found[0].value, self._keys.secrets, found[0].mod_revision) if found else None

    def _put_fresh(self, fresh: SecretKeys, seen: SecretKeys | None) -> SecretKeys | None:
        """Put these in the place of those that were seen; None where another node was quicker."""
        key, mark = self._keys.secrets, self._keys.secrets_fresh

        def write() -> SecretKeys | None:
            lease = self._client.grant(max(2, self._every_s // 2))
            compare = absent(key) if seen is None else unchanged(key, seen.mod_revision)
            marked = [] if seen is None else [absent(mark)]
            answer = self._client.txn([compare, *marked], [put_op(key, fresh.to_value()), put_op(mark, b"", lease)])
            if answer.succeeded:
                return replace(fresh, mod_revision=answer.revision)
            self._client.revoke(lease)
            return None

        return write_again("the secrets cannot be written to etcd", write)
