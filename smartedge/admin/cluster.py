"""The page of the cluster that this edge is a node of, and what a reload says of its nodes."""

from __future__ import annotations

import json

from flask import Response

from smartedge.admin.page import READ, Page, answer
from smartedge.balancer.errors import ClientError, EdgeError
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


def without_require_all(body: bytes) -> tuple[bytes, bool]:
    """Take `"require_all"` out of the configuration that was sent, of which it is no part; return what it said, too.

    What is no JSON is left for the checks of the configuration to refuse.
    """
    if b'"require_all"' not in body:
        return body, False
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return body, False
    if not isinstance(document, dict) or "require_all" not in document:
        return body, False
    said = document.pop("require_all")
    if not isinstance(said, bool):
        raise ClientError("require_all must be true or false.")
    lines = b"\n" in body.strip()
    text = json.dumps(document, indent=2 if lines else None, ensure_ascii=False) + "\n"
    return (text.encode("utf-8", "surrogatepass") if document else b""), said
