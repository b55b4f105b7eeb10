"""The page of the cluster, and what a reload says of all nodes."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from flask.testing import FlaskClient

from smartedge.admin.reloading import split_body
from smartedge.balancer.errors import ClientError
from smartedge.edge.cluster_reload import NotByAll
from tests.admin.small_edge import SmallEdge


class SmallNode:
    """What the pages ask a node of a cluster for."""

    name = "two"

    def __init__(self) -> None:
        cards = {"two": {"node": "two", "refused": {"generation": 3, "reason": "why"}}, "one": {"node": "one", "instance": "x"}}
        self.news = SimpleNamespace(newest=SimpleNamespace(cards=cards, state="stale", generation=3, refused="why"))
        self.stale_s: float | None = 4.0
        self.said: list[tuple[Any, ...]] = []

    def card(self) -> dict[str, Any]:
        return {"node": "two", "generation": 2}

    def document(self) -> dict[str, Any]:
        return {"node": "two", "state": "stale", "generation": 3, "nodes": 2}

    def say_of_backend(self, *what: Any) -> None:
        self.said.append(what)


@pytest.fixture
def node(edge: SmallEdge) -> SmallNode:
    edge.cluster = SmallNode()
    return edge.cluster


def test_the_page_lists_all_nodes_our_own_as_it_is_now(node: SmallNode, client: FlaskClient) -> None:
    document = client.get("/smartedge/cluster").get_json()
    assert document["state"] == "stale"
    assert document["nodes"] == [
        {"node": "one"},
        {"node": "two", "generation": 2, "refused": {"generation": 3, "reason": "why"}},
    ]


def test_an_edge_that_is_no_node_says_so(edge: SmallEdge, client: FlaskClient) -> None:
    answer = client.get("/smartedge/cluster")
    assert (answer.status_code, answer.get_json()["title"]) == (404, "Not in a cluster")
    assert client.get("/api/status").get_json()["cluster"] is None


def test_the_document_of_the_page_has_the_nodes_and_says_why_nothing_can_be_operated(
    node: SmallNode, client: FlaskClient
) -> None:
    live = client.get("/smartedge/live").get_json()
    assert live["may_not_operate"] == "etcd"
    assert live["cluster"]["state"] == "stale"
    assert live["cluster"]["cards"] == [{"node": "one"}, {"node": "two", "refused": {"generation": 3, "reason": "why"}}]
    node.news.newest.state = "live"
    assert client.get("/smartedge/live?fresh=true").get_json()["may_not_operate"] is None


def test_status_and_metrics_have_the_clusters_state(node: SmallNode, client: FlaskClient) -> None:
    assert client.get("/api/status").get_json()["cluster"] == node.document()
    text = client.get("/metrics").get_data(as_text=True)
    for line in ("live 0.0", "age_seconds 4.0", "generation 3.0", "refused 1.0", "nodes 2.0"):
        assert f"\nsmartedge_cluster_{line}\n" in text


def test_what_is_said_of_a_backend_is_said_to_the_cluster_first(edge: SmallEdge, node: SmallNode, client: FlaskClient) -> None:
    for path, body in (("b2/drain", ""), ("b2/enable", ""), ("b2/weight", '{"weight": 5}'), ("b2/weight", '{"weight": null}')):
        assert client.post(f"/smartedge/backends/{path}", data=body).status_code == 200
    told = [("state", "draining"), ("state", None), ("weight", 5), ("weight", None)]
    assert node.said == [("default", "b2", *what) for what in told]

    def refuse(*_: Any) -> None:
        raise ClientError("etcd is away")

    node.say_of_backend = refuse  # type: ignore[method-assign]
    assert client.post("/smartedge/backends/b2/drain").status_code == 400
    assert edge.backend("b2").state == "enabled", "nothing has changed"


@pytest.mark.parametrize(("query", "everywhere"), [("", False), ("?all=true", True), ("?all=false", False)])
def test_one_node_or_all_are_drained(edge: SmallEdge, client: FlaskClient, query: str, everywhere: bool) -> None:
    assert client.post(f"/smartedge/drain{query}").get_json()["all"] is everywhere
    assert (edge.draining, edge.everywhere) == (True, everywhere)
    assert client.post("/smartedge/drain?all=perhaps").status_code == 400


def test_all_nodes_may_be_required_by_the_query_or_in_the_body(edge: SmallEdge, client: FlaskClient) -> None:
    body = {"backends": ["http://localhost:8083"]}
    for path, sent, required in (
        ("/api/reload?require_all=true", body, True),
        ("/api/reload", body | {"require_all": True}, True),
        ("/api/reload", body | {"require_all": False}, False),
        ("/api/reload", body, False),
    ):
        assert client.post(path, json=sent).status_code == 200
        assert edge.require_all is required
        assert json.loads(edge.bodies[-1] or b"") == body
    assert client.post("/api/reload", json={"require_all": True}).status_code == 200
    assert (edge.bodies[-1], edge.require_all) == (None, True), "the file is read"
    assert client.post("/api/reload", json=body | {"require_all": 1}).status_code == 400


def test_a_body_that_does_not_ask_for_all_stays_as_it_is_written() -> None:
    for body in (b'{ "backends":["http://a"] }', b'{"require_all" ', b'["require_all"]', b'{"x": "\\"require_all\\""}'):
        assert split_body(body) == (body, {})
    text, said = split_body(b'{\n "require_all": true,\n "backends": ["http://\xc3\xa9"]\n}')
    assert (text, said) == (b'{\n  "backends": [\n    "http://\xc3\xa9"\n  ]\n}\n', {"require_all": True})


def test_a_refusal_names_the_nodes(edge: SmallEdge, client: FlaskClient) -> None:
    edge.failure = NotByAll({"one": "no such file"}, ["two"], 3)
    answer = client.post("/api/reload?require_all=true")
    assert answer.status_code == 409
    refused = [{"node": "one", "reason": "no such file"}]
    assert answer.get_json()["nodes"] == {"applied": 0, "live": 3, "late": ["two"], "refused": refused}
    assert "one: no such file; two: did not answer" in answer.get_json()["detail"]
