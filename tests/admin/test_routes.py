"""The page that explains routes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.house import Served, running

ROUTES = [
    {"id": "old", "host": "old.example", "redirect": {"host": "shop.example"}},
    {"id": "beta", "header": {"X-Beta": "1"}, "client": "10.0.0.0/8", "to": "default"},
]


def ask(edge: Served, **query: Any) -> tuple[int, dict[str, Any]]:
    client = edge.client()
    client.sendall(b"GET /smartedge/route?%b HTTP/1.0\r\nHost: localhost\r\n\r\n" % urlencode(query, doseq=True).encode())
    data = b""
    while piece := client.recv(65536):
        data += piece
    client.close()
    head, _, body = data.partition(b"\r\n\r\n")
    return int(head[9:12]), json.loads(body)


def test_the_page_says_which_route_a_request_would_take_and_why() -> None:
    with running("http://127.0.0.1:1", token=None, routes=ROUTES) as edge:
        status, found = ask(edge, url="http://a.example/x", header=["X-A: 2", "X-Beta: 1"], client="10.1.1.1")
        assert (status, found["route"], found["service"], found["does"]) == (200, "beta", "default", "goes to default")
        assert found["routes"][0] == {"route": "old", "why_not": "the host is a.example, not old.example"}
        assert ask(edge, url="http://a.example/x", method="PUT")[1]["does"] == "404: no route takes it"


@pytest.mark.parametrize("query", [{}, {"url": "x"}, {"url": "/", "client": "x"}, {"url": "/", "header": "x"}])
def test_what_is_no_request_is_a_problem(query: dict[str, str]) -> None:
    with running("http://127.0.0.1:1", routes=ROUTES) as edge:
        status, found = ask(edge, **query)
    assert (status, found["title"]) == (400, "Bad request")


def test_without_routes_all_go_to_the_one_service() -> None:
    with running("http://127.0.0.1:1") as edge:
        assert ask(edge, url="/x")[1] == {
            "route": None,
            "service": "default",
            "services": {"default": 1},
            "does": "goes to default: there are no routes",
            "routes": [],
        }


def post(edge: Served, path: str, body: str) -> tuple[int, dict[str, Any]]:
    client = edge.client()
    head = f"POST {path} HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    client.sendall(f"{head}\r\n\r\n{body}".encode())
    data = b""
    while piece := client.recv(65536):
        data += piece
    client.close()
    head, _, answer = data.partition(b"\r\n\r\n")
    return int(head[9:12]), json.loads(answer)


def test_weights_are_changed_in_force_and_in_the_file(tmp_path: Path) -> None:
    file = tmp_path / "backends.json"
    with running("http://127.0.0.1:1", path=file, routes=[*ROUTES, {"id": "all", "to": "default"}]) as edge:
        status, found = post(edge, "/smartedge/routes/all/weights", '{"default": 7}')
        assert (status, found["route"], found["to"], found["generation"]) == (200, "all", {"default": 7}, 2)
        router = edge.edge.forwarder.router
        assert router is not None
        assert router.table.routes[2].to is not None
        assert router.table.routes[2].to.weights == (("default", 7),)
        assert json.loads(file.read_text())["routes"][2] == {"id": "all", "to": {"default": 7}}
        for path, body, status in (
            ("all", '{"default": 0}', 422),
            ("all", '{"nobody": 1}', 422),
            ("all", "", 422),
            ("all", "{", 400),
            ("all", "[" * 100_000, 400),
            ("all", "[" * 600 + "]" * 600, 400),
            ("none", '{"default": 1}', 404),
            ("old", '{"default": 1}', 400),
        ):
            assert post(edge, f"/smartedge/routes/{path}/weights", body)[0] == status
        assert json.loads(file.read_text())["routes"][2] == {"id": "all", "to": {"default": 7}}


def test_without_a_file_nothing_is_changed() -> None:
    with running("http://127.0.0.1:1", routes=[{"id": "all", "to": "default"}]) as edge:
        assert post(edge, "/smartedge/routes/all/weights", '{"default": 7}')[0] == 409
