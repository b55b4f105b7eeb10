"""What nodes do when etcd has lost something that it knew: it was restored from a backup, or its data are gone.

A generation only ever counts up. If etcd comes back with a lower one of the same cluster, or with none, and a node holds a
higher, then a configuration is lost whose writer was told that it is in effect; so the node puts it back, and with it what the
operator has said since, and the secrets. All nodes try; each key is put by compare-and-swap, so one of them succeeds.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from smartedge.cluster.errors import plain_errors
from smartedge.cluster.keys import Keys
from smartedge.cluster.store import Store
from smartedge.cluster.view import View
from smartedge.discovery.etcd_client import EtcdClient, KeyValue, delete_op, put_op, unchanged


def is_lost(held: View, found: View) -> bool:
    """Whether etcd has forgotten something of what a node holds. found: what is there now.

    A cluster that was begun anew (another id) has forgotten nothing; what it holds is right. A lower revision says that etcd was
    restored, although the configuration is the same; that is for those nodes only that were there, not for one that comes with
    an old copy (whose revision is 0), and would put back what the operator said long ago.
    """
    if held.stored is None:
        return False
    if found.stored is not None and found.stored.id != held.stored.id:
        return False
    return held.stored.is_lost_in(found.stored) or found.revision < held.revision


def put_back(client: EtcdClient, keys: Keys, held: View, found: View, pairs: Sequence[KeyValue]) -> None:
    """Put back what is lost; raises ClusterError. pairs: the keys that were read, of which `found` was made."""
    assert held.stored is not None
    if held.stored.is_lost_in(found.stored):
        there = Store(client, keys.prefix).restore(held.stored, found.stored)
        if there.id != held.stored.id:
            return  # somebody has begun a new one just now
    versions = {pair.key: pair.mod_revision for pair in pairs}
    wanted = {keys.will + key: json.dumps(value).encode() for key, value in held.will.items()}
    there_now = {keys.will + key: json.dumps(value).encode() for key, value in found.will.items()}
    if held.secrets is not None and (found.secrets is None or found.secrets.rotated_at < held.secrets.rotated_at):
        wanted[keys.secrets] = held.secrets.to_value()
    with plain_errors("what etcd has lost cannot be put back"):
        for key in sorted(wanted.keys() | there_now.keys()):
            if key in wanted and wanted[key] == there_now.get(key):
                continue
            operation = put_op(key, wanted[key]) if key in wanted else delete_op(key)
            client.txn([unchanged(key, versions.get(key, 0))], [operation])
