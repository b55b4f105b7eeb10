"""Whether the endpoints of a cluster's etcd are members of one etcd, and not several that know nothing of each other."""

from __future__ import annotations

from typing import Final

import gevent

from smartedge.discovery.etcd_client import EtcdClient, EtcdError, shown

WAIT_S: Final = 1.0
"""For the answers; an endpoint that gives none is not judged."""


def disunity(client: EtcdClient, key: str) -> str | None:
    """Say which endpoints belong to another etcd than the first; None where all that answer belong to one.

    Three machines on which etcd was started without `--initial-cluster` are three etcds. Nodes that come to different ones would
    each be a cluster of its own, with another configuration. key: one that the account may read.
    """
    if len(client.endpoints) < 2:
        return None
    asked = {endpoint: gevent.spawn(_cluster_of, client, endpoint, key) for endpoint in client.endpoints}
    gevent.joinall(list(asked.values()), timeout=WAIT_S)
    gevent.killall([greenlet for greenlet in asked.values() if not greenlet.ready()])
    members: dict[str, list[str]] = {}
    for endpoint, greenlet in asked.items():
        if isinstance(greenlet.value, str):
            members.setdefault(greenlet.value, []).append(shown(endpoint))
    if len(members) < 2:
        return None
    groups = " and ".join(", ".join(group) for group in members.values())
    return f"the endpoints of etcd are not members of one etcd, but of {len(members)} that know nothing of each other: {groups}"


def _cluster_of(client: EtcdClient, endpoint: str, key: str) -> str | None:
    try:
        return client.cluster_of(endpoint, key)
    except EtcdError:
        return None
