"""A node of a cluster and nothing else, as a process that can be held: `python -m tests.live.small_node URL PREFIX NAME`."""

from __future__ import annotations

import sys
from random import Random

import gevent

from smartedge.cluster.nodes import Nodes
from smartedge.cluster.view import View
from smartedge.cluster.watch import ClusterWatch
from smartedge.discovery.etcd_client import EtcdClient


def main(url: str, prefix: str, name: str) -> None:
    client = EtcdClient([url])
    nodes = Nodes(client, prefix, Random(), lease_s=4)

    def use(view: View, changed: frozenset[str]) -> None:
        if view.stored is not None:
            nodes.update(generation=view.stored.generation)

    watch = ClusterWatch(client, prefix, name, use, Random(), check=lambda text: "no such file" if "lacking" in text else None)
    nodes.join({"node": name, "address": f"{name}:80", "generation": 0})
    watch.start()
    print("ready", flush=True)
    gevent.sleep(1e6)


if __name__ == "__main__":
    main(*sys.argv[1:])
