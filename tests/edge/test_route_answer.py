"""What would become of a request, and what the operator should know of routes."""

from __future__ import annotations

from typing import Any

import pytest

from smartedge.config.routes import RouteConfig, with_ids
from smartedge.edge.plain_routes import plain_table
from smartedge.edge.route_answer import answer, made_request, warnings
from smartedge.http.forwarded import told
from smartedge.proxy.routes import RouteTable


def table(*routes: dict[str, Any]) -> RouteTable:
    return plain_table(with_ids(tuple(RouteConfig.model_validate(route) for route in routes)))


SHOP = table(
    {"id": "api", "host": "shop.example", "path": "/api/", "to": "api", "strip_prefix": True},
    {"id": "beta", "host": "shop.example", "header": {"X-Beta": "1"}, "to": "beta"},
    {"id": "shop", "host": "shop.example", "to": {"web": 95, "beta": 5}},
    {"id": "sticky", "host": "*.shop.example", "to": {"web": 1, "beta": 1}, "split_by": "cookie:id"},
    {"id": "old", "host": "old.example", "redirect": {"host": "shop.example", "status": 301}},
    {"id": "inside", "client": "10.0.0.0/8", "respond": {"text": "hello"}},
)


def test_a_route_and_its_service_are_named_and_why_each_other_was_not_taken() -> None:
    found = answer(SHOP, made_request("GET", "https://Shop.Example/api/users?x=1"))
    assert (found["route"], found["service"], found["services"]) == ("api", "api", {"api": 1})
    assert found["does"] == "goes to api, as /users?x=1"
    assert {one["route"]: one["why_not"] for one in found["routes"]} == {
        "api": "",
        "beta": "the header x-beta is missing",
        "shop": '"api" goes before it: its path is closer',
        "sticky": "the host is shop.example, not *.shop.example",
        "old": "the host is shop.example, not old.example",
        "inside": "the client 127.0.0.1 is not in 10.0.0.0/8",
    }


@pytest.mark.parametrize(
    ("url", "headers", "client", "route", "does"),
    [
        ("http://shop.example/", ["X-Beta: 1"], "192.0.2.1", "beta", "goes to beta"),
        ("/", ["host: shop.example"], "192.0.2.1", "shop", "goes to web (95) or beta (5)"),
        ("http://x/", ["Host: shop.example"], "192.0.2.1", "shop", "goes to web (95) or beta (5)"),
        ("http://old.example:80/a?b", [], "192.0.2.1", "old", "301: is sent to http://shop.example/a?b"),
        ("/#top", [], "10.1.1.1", "inside", "200: is answered by the edge"),
        ("/", [], "::1", None, "404: no route takes it"),
    ],
)
def test_what_becomes_of_a_request(url: str, headers: list[str], client: str, route: str | None, does: str) -> None:
    found = answer(SHOP, made_request("GET", url, headers, client))
    assert (found["route"], found["does"]) == (route, does)


def test_a_certificate_may_be_supposed() -> None:
    asked = made_request("GET", "/", ["X-Client-Cert-Subject: CN=ann"])
    assert told(asked, b"x-client-cert-subject", None) == b"CN=ann"


def test_a_person_who_stays_has_a_service() -> None:
    found = {answer(SHOP, made_request("GET", "http://a.shop.example/", [f"Cookie: id={i}"]))["service"] for i in range(20)}
    assert found == {"web", "beta"}


def test_a_path_that_could_be_two_is_refused_here_too() -> None:
    found = answer(SHOP, made_request("GET", "http://shop.example/api%2fusers"))
    assert found["does"] == "400: The path can be read in two ways, which lead to different routes."


@pytest.mark.parametrize(
    ("method", "url", "headers", "client", "message"),
    [
        ("G T", "/", [], "127.0.0.1", '"G T" is no method'),
        ("GET", "api", [], "127.0.0.1", '"api" is neither a path'),
        ("GET", "/", ["X-A"], "127.0.0.1", '"X-A" is no header field'),
        ("GET", "/", ["X-A: a\r\nX-B: b"], "127.0.0.1", "is no header field"),
        ("GET", "/", [], "localhost", '"localhost" is no address'),
    ],
)
def test_what_is_no_request_is_named(method: str, url: str, headers: list[str], client: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        made_request(method, url, headers, client)
    assert message in str(caught.value)


def test_routes_that_get_nothing_and_services_that_nobody_names_are_warned_of() -> None:
    found = table({"id": "all", "method": ["GET", "PUT"], "to": "web"}, {"id": "put", "method": "PUT", "to": "web"})
    assert warnings(found, ["api"]) == [
        "routes: put never gets a request, as all takes all of them",
        "services: api gets no request, as no route names it",
    ]
    assert warnings(SHOP) == []
