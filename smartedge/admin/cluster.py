"""The page of the cluster that this edge is a node of."""

from __future__ import annotations

from flask import Response

from smartedge.admin.page import READ, Page, answer
from smartedge.balancer.errors import EdgeError
from smartedge.edge.edge import Edge


class NotInCluster(EdgeError):
    """This edge is no node of a cluster."""

    status = 404
    title = "Not in a cluster"
    blame = "client"


def cluster_pages(edge: Edge) -> tuple[Page, ...]:
    """Return the page of the cluster."""

    def cluster() -> Response:
        node = edge.cluster
        if node is None:
            raise NotInCluster("This edge is no node of a cluster: start it with --cluster etcd://HOST:2379/PREFIX.")
        known = node.news.newest.cards
        cards = {**known, node.name: {**known.get(node.name, {}), **node.card()}}
        nodes = [{key: value for key, value in cards[name].items() if key != "instance"} for name in sorted(cards)]
        return answer(200, {**node.document(), "nodes": nodes})

    return (Page("/smartedge/cluster", READ, False, cluster),)
