"""What is written of a route is what its parts do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from smartedge.config.routes import RouteConfig, with_ids
from smartedge.edge.plain_routes import match_of
from smartedge.edge.routes import build_routes
from smartedge.proxy.header_edits import EditValues
from smartedge.proxy.limiter import ClientLimiter
from smartedge.proxy.outbound import Hop
from smartedge.proxy.route import Route


def read(path: str) -> bytes:
    return Path(path).read_bytes()


HOP = Hop(b"edge", None, False)
VALUES = EditValues(b"h", b"c", b"i", b"s")


def built(body_bytes: int = 0, limiter: Any = None, **written: Any) -> Route:
    config = with_ids((RouteConfig.model_validate(json.loads(json.dumps({"to": "web"} | written))),))
    (route,) = build_routes(config, body_bytes, HOP, lambda password, stored: password == stored, lambda route: limiter, read)
    return route


def test_what_a_route_asks_for() -> None:
    match = built(
        host=["A.example", "*.b.example"],
        path="/api/",
        method="GET",
        header={"X-A": "1", "X-B": "~^2"},
        query={"Q": "3"},
        client="10.0.0.0/8",
    ).match
    assert (match.hosts, match.path, match.exact, match.methods) == ((b"a.example", b"*.b.example"), b"/api", False, {b"GET"})
    assert [(name, getattr(wanted, "pattern", wanted)) for name, wanted in match.headers] == [(b"x-a", b"1"), (b"x-b", b"^2")]
    assert match.query == ((b"Q", b"3"),)
    assert match.clients is not None
    assert match.clients.holds(b"10.1.2.3")
    exact = built(path_exact="/api/").match
    assert (exact.path, exact.exact) == (b"/api/", True)
    assert match_of(RouteConfig(path="/", to="web")).path == b""


def test_a_plain_route_has_nothing_but_its_service() -> None:
    route = built(body_bytes=7)
    parts = (route.key_of, route.redirect, route.respond, route.guard, route.rewrite, route.request_edits, route.answer_edits)
    assert parts == (None,) * 7
    assert (route.policy, route.error_pages, route.mirror, route.body_bytes) == (None, None, None, 7)
    assert route.to is not None
    assert route.to.only == "web"


def test_what_happens_on_the_way() -> None:
    route = built(
        body_bytes=7,
        path="/api",
        strip_prefix=True,
        set_headers={"A": "{host}"},
        remove_answer_headers=["Server"],
        timeouts={"first_byte_s": 5},
        retry={"attempts": 1, "statuses": [503]},
        mirror={"to": "api", "ratio": 0.5},
    )
    assert route.rewrite is not None
    assert route.rewrite.target(b"/api/x") == b"/x"
    assert route.request_edits is not None
    assert route.request_edits.edit_block(b"", lambda: VALUES) == b"A: h\r\n"
    assert route.answer_edits is not None
    assert route.answer_edits.edit_block(b"Server: x\r\nB: y\r\n", lambda: VALUES) == b"B: y\r\n"
    assert route.policy is not None
    assert (route.policy.first_byte_s, route.policy.attempts, route.policy.statuses) == (5.0, 1, {503})
    assert route.mirror == ("api", 0.5)


@pytest.mark.parametrize(
    ("written", "target"),
    [
        ({"path": "/a", "rewrite": "/b/"}, b"/b/x"),
        ({"path": "/a", "rewrite": "/"}, b"/x"),
        ({"path": "/a", "rewrite": {"path": "/b"}}, b"/b"),
        ({"path_exact": "/a/x", "rewrite": "/b"}, b"/b"),
        ({"path": "/", "rewrite": "/b"}, b"/b/a/x"),
    ],
)
def test_rewrites(written: dict[str, Any], target: bytes) -> None:
    rewrite = built(**written).rewrite
    assert rewrite is not None
    assert rewrite.target(b"/a/x") == target


def test_answers_of_the_edges_own() -> None:
    assert built(to=None, respond={"status": 503, "text": "é", "headers": {"Retry-After": "9"}}).respond == (
        503,
        [("Retry-After", "9"), ("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", "2")],
        "é".encode(),
    )
    redirect = built(to=None, redirect={"scheme": "https", "status": 308}).redirect
    assert redirect is not None
    assert (redirect.status, redirect.scheme, redirect.host, redirect.path) == (308, b"https", None, None)


def test_who_is_let_in(tmp_path: Path) -> None:
    users = tmp_path / "htpasswd"
    users.write_text("ann:$6$salt$" + "a" * 86)
    limiter = ClientLimiter.__new__(ClientLimiter)
    guard = built(
        limiter=limiter,
        allow=["10.0.0.0/8"],
        deny="10.1.0.0/16",
        basic_auth={"file": str(users), "realm": "shop"},
        forward_auth={"url": "http://127.0.0.1:9000/check?a", "copy_headers": ["X-User"]},
    ).guard
    assert guard is not None
    assert guard.allow is not None
    assert guard.deny is not None
    assert (str(guard.allow), str(guard.deny), guard.limiter) == ("10.0.0.0/8", "10.1.0.0/16", limiter)
    assert guard.basic_auth is not None
    assert guard.basic_auth.challenge.startswith('Basic realm="shop"')
    auth = guard.forward_auth
    assert auth is not None
    assert (auth.target, auth.host, auth.copied, auth.timeout_s) == (b"/check?a", b"127.0.0.1:9000", {b"x-user"}, 5.0)


def test_the_page_of_a_status_goes_before_that_of_its_class(tmp_path: Path) -> None:
    one, all_of_them = tmp_path / "503.html", tmp_path / "5xx.html"
    one.write_text("one")
    all_of_them.write_text("all")
    for pages in ({"5xx": str(all_of_them), "503": str(one)}, {"503": str(one), "5xx": str(all_of_them)}):
        found = built(error_pages=pages).error_pages
        assert found is not None
        assert [found.page(status, "", "", b"text/html") for status in (503, 502, 404)] == [b"one", b"all", None]
