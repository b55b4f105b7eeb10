"""What the operator has said since the configuration was written: states, weights, drains; the same on all nodes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, NoReturn

from smartedge.cluster.errors import plain_errors, write_again
from smartedge.cluster.keys import Keys
from smartedge.discovery.etcd_client import EtcdClient, Txn, delete_op, put_op
from smartedge.discovery.etcd_values import Json

AT_ONCE: Final = 100
"""Keys in one transaction of etcd's, which takes 128 unless its members were started with another --max-txn-ops."""


class Will:
    """The operator's will in etcd, one key for each thing; made by whoever starts a node. All raise ClusterError.

    The last one who says something of a thing is right. Nodes hear of it by their ClusterWatch.
    """

    def __init__(self, client: EtcdClient, prefix: str) -> None:
        self._client = client
        self._prefix = Keys(prefix).will

    def set(self, key: str, value: Any) -> int:
        """Say something of one thing; return etcd's revision, which a View has reached that knows of it. value: JSON."""
        return self.set_many({key: value})

    def unset(self, key: str) -> int:
        """Take back what was said of one thing: it is as the configuration says."""
        return self.set_many({key: None})

    def set_many(self, values: Mapping[str, Any]) -> int:
        """Say something of several things; None takes back. All at once, up to AT_ONCE of them; return the revision."""
        operations = [
            delete_op(self._prefix + key) if value is None else put_op(self._prefix + key, json.dumps(value).encode())
            for key, value in values.items()
        ]
        revision = 0
        for at in range(0, len(operations), AT_ONCE):

            def write(some: list[Json] = operations[at : at + AT_ONCE]) -> Txn:
                return self._client.txn([], some)

            revision = write_again("the operator's will cannot be written to etcd", write).revision
        return revision

    def all(self) -> dict[str, Any]:
        """Return what has been said; without what is no JSON."""
        with plain_errors("the operator's will cannot be read from etcd"):
            _revision, found = self._client.range(self._prefix, prefix=True)
        values = {one.key.removeprefix(self._prefix): will_value(one.value) for one in found}
        return {key: value for key, value in values.items() if value is not None}


def will_value(value: bytes) -> Any:
    """Read the value of a key; None where it is none of ours."""
    try:
        return json.loads(value, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"JSON has no {constant}")
