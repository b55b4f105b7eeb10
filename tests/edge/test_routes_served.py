"""Routes from the file to the wire: an edge behind our own server, and clients that ask it."""

from __future__ import annotations

import json
import socket
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest

from smartedge.balancer.cells import CODE_CELLS
from smartedge.config.model import parse
from tests.house import Served, running

NOBODY = "http://127.0.0.1:1"
"""No backend is asked here."""

ROUTES: list[dict[str, Any]] = [
    {"id": "shop", "host": "shop.example", "respond": {"text": "shop"}},
    {"id": "below", "host": "*.shop.example", "respond": {"text": "below"}},
    {"id": "admin", "host": "shop.example", "path": "/admin", "deny": "0.0.0.0/0", "to": "default"},
    {"id": "old", "host": "old.example", "redirect": {"host": "shop.example", "status": 301}},
    {"id": "small", "host": "up.example", "body_bytes": 3, "to": "default"},
    {"id": "large", "host": "up.example", "path": "/large", "body_bytes": 5, "respond": {"text": "large"}},
]


def ask(edge: Served, host: str, target: str = "/", more: str = "", method: str = "GET") -> tuple[int, str, str]:
    """Status, head and body of the answer to one request."""
    client = edge.client()
    client.sendall(f"{method} {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{more}\r\n".encode())
    data = b""
    while piece := client.recv(65536):
        data += piece
    client.close()
    head, _, body = data.decode().partition("\r\n\r\n")
    return int(head[9:12]), head, body


@pytest.mark.parametrize(
    ("host", "target", "status", "body"),
    [
        ("shop.example", "/", 200, "shop"),
        ("SHOP.example.:8080", "/x", 200, "shop"),
        ("a.b.shop.example", "/", 200, "below"),
        ("other.example", "/", 404, "No route of the edge takes this request."),
        ("shop.example", "/admin", 403, "This address may not use the route."),
        ("shop.example", "//admin", 403, "This address may not use the route."),
        ("shop.example", "/x/../admin", 403, "This address may not use the route."),
        ("shop.example", "/x/%2e%2e/admin", 403, "This address may not use the route."),
        ("shop.example", "/x%2f..%2fadmin", 400, "dot segment"),
        ("shop.example", "/admin%2fusers", 400, "The path can be read in two ways, which lead to different routes."),
        ("other.example", "http://shop.example/admin", 403, "This address may not use the route."),
        ("shop.example", "http://other.example/", 404, "No route of the edge takes this request."),
        ("x" * 10_000, "/", 404, "No route"),
    ],
)
def test_a_request_takes_its_route_or_none(host: str, target: str, status: int, body: str) -> None:
    with running(NOBODY, routes=ROUTES) as edge:
        found = ask(edge, host, target)
    assert found[0] == status
    assert body in found[2]


def test_the_log_names_route_and_service() -> None:
    with running(NOBODY, routes=ROUTES) as edge:
        assert "Location: http://shop.example/x?y" in ask(edge, "old.example", "/x?y")[1]
        ask(edge, "shop.example", "/admin")
        ask(edge, "other.example")
        first, second, third = edge.ended(3)
    assert (first.route.id, first.routed_to) == ("old", None)
    assert (second.route.id, second.routed_to) == ("admin", "default")
    assert (third.route, third.routed_to) == (None, None)


def test_what_the_edge_answers_itself_is_counted_with_the_service_that_it_was_for() -> None:
    routes = [
        {"id": "api", "host": "api.example", "to": "api"},
        {"id": "web", "host": "shop.example", "to": {"default": 1, "api": 0}},
        {"id": "shut", "host": "shop.example", "path": "/admin", "deny": "0.0.0.0/0", "to": "api"},
        {"id": "both", "host": "shop.example", "path": "/both", "deny": "0.0.0.0/0", "to": {"default": 1, "api": 1}},
        {"id": "old", "host": "old.example", "redirect": {"host": "shop.example", "status": 301}},
    ]
    asked = [("api", "/"), ("shop", "/"), ("shop", "/"), ("shop", "/admin"), ("shop", "/both"), ("old", "/"), ("other", "/")]
    with running(NOBODY, services={"api": {"backends": [NOBODY]}}, retry={"wait_s": 0}, routes=routes) as edge:
        statuses = [ask(edge, f"{host}.example", target)[0] for host, target in asked]
        ended = edge.ended(len(asked))
        rows = {name: service.pool.row for name, service in edge.app.edge.services.items()} | {"none": edge.app.edge.edge_row}
    assert statuses[3:] == [403, 403, 301, 404]
    assert [one.routed_to for one in ended] == ["api", "default", "default", "api", None, None, None]
    assert {name: int(sum(row.cells[CODE_CELLS])) for name, row in rows.items()} == {"default": 2, "api": 2, "none": 3}


def test_a_route_may_take_larger_bodies_than_others() -> None:
    with running(NOBODY, routes=ROUTES, limits={"body_bytes": 4}) as edge:
        assert ask(edge, "up.example", "/", "Content-Length: 4\r\n\r\nabcd", "POST")[0] == 413
        assert ask(edge, "up.example", "/large", "Content-Length: 5\r\n\r\nabcde", "POST")[0] == 200
        assert ask(edge, "shop.example", "/", "Content-Length: 6\r\n\r\nabcdef", "POST")[0] == 413


def test_a_password_is_that_of_the_file(tmp_path: Path) -> None:
    users = tmp_path / "users"
    users.write_text("ann:$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1\n")
    routes = [{"basic_auth": {"file": str(users)}, "respond": {"text": "hello"}}]
    right, wrong = (f"Authorization: Basic {b64encode(b'ann:' + word).decode()}\r\n" for word in (b"Hello world!", b"hello"))
    with running(NOBODY, routes=routes) as edge:
        status, head, _ = ask(edge, "a")
        assert (status, 'WWW-Authenticate: Basic realm="restricted"' in head) == (401, True)
        assert ask(edge, "a", more=wrong)[0] == 401
        assert ask(edge, "a", more=right)[::2] == (200, "hello")


def test_a_reload_changes_routes_at_once_and_a_bad_one_changes_nothing() -> None:
    with running(NOBODY, routes=ROUTES) as edge:
        document = {"backends": [NOBODY], "routes": [{"respond": {"text": "new"}}]}
        edge.edge.reload(json.dumps(document).encode())
        assert ask(edge, "other.example")[2] == "new"
        with pytest.raises(Exception, match="is no service"):
            edge.edge.reload(json.dumps(document | {"routes": [{"to": "nobody"}]}).encode())
        assert ask(edge, "other.example")[2] == "new"
        edge.edge.reload(json.dumps(document | {"routes": []}).encode())
        assert edge.edge.forwarder.router is None


def test_the_short_form_has_no_router() -> None:
    with running(NOBODY) as edge:
        assert edge.edge.forwarder.router is None
    assert parse(json.dumps({"backends": [NOBODY]})).routes == ()


def test_who_is_asked_and_says_nothing_is_late_by_its_own_limit() -> None:
    """Regression: the problem named retry.deadline_s, which has nothing to do with it."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        auth = {"url": f"http://127.0.0.1:{silent.getsockname()[1]}/", "timeout_s": 0.1}
        with running(NOBODY, routes=[{"to": "default", "forward_auth": auth}]) as edge:
            status, _, body = ask(edge, "shop.example")
    assert status == 504
    assert "took longer than 0.1 s to answer (forward_auth.timeout_s)" in body
    assert "retry" not in body
