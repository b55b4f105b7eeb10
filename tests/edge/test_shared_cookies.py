"""Which services' sticky cookies overwrite each other's."""

from __future__ import annotations

import json
from typing import Any

import pytest

from smartedge.config.model import parse
from smartedge.edge.cautions import cautions
from smartedge.edge.shared_cookies import shared_cookies


def services_told(web: dict[str, Any], api: dict[str, Any], *hosts: Any) -> bool:
    backends = {"backends": ["http://a:1"]}
    routes = [
        {"to": name, "path": f"/{name}", **({"host": host} if host else {})}
        for name, host in zip(("web", "api"), hosts or (None, None), strict=True)
    ]
    services = {"web": {**backends, "sticky": web}, "api": {**backends, "sticky": api}}
    config = parse(json.dumps({"services": services, "routes": routes}))
    found = list(shared_cookies(config))
    assert all(text in cautions(config, {}, has_token=False) for text in found)
    return bool(found)


def test_a_name_that_two_services_have_on_one_host_is_told() -> None:
    same = {"cookie": "edge"}
    assert services_told(same, same)
    assert not services_told(same, {"cookie": "other"})
    assert not services_told(same, {"cookie": None})


@pytest.mark.parametrize(
    ("web", "api", "meet"),
    [
        ("a.example", "b.example", False),
        ("a.example", "a.example", True),
        (["a.example", "b.example"], ["b.example", "c.example"], True),
        (None, "a.example", True),
        ("*.example", "a.example", True),
        ("a.example", "*.b.example", False),
        ("*.a.example", "*.example", True),
        ("*.a.example", "*.b.example", False),
    ],
)
def test_routes_keep_apart_what_are_cookies_of_different_hosts(web: Any, api: Any, meet: bool) -> None:
    assert services_told({"cookie": "edge"}, {"cookie": "edge"}, web, api) is meet


@pytest.mark.parametrize(
    ("web", "api", "meet"), [("/web", "/api", False), ("/", "/api", True), ("/a", "/ab", False), ("/a", "/a/b", True)]
)
def test_so_does_the_cookies_path(web: str, api: str, meet: bool) -> None:
    assert services_told({"cookie": "edge", "path": web}, {"cookie": "edge", "path": api}) is meet


def test_a_cookie_for_a_whole_domain_is_brought_to_other_hosts_too() -> None:
    wide = {"cookie": "edge", "domain": "shop.example"}
    assert services_told(wide, {"cookie": "edge"}, "a.shop.example", "b.shop.example")


def test_a_sentence_names_all_services_of_one_cookie() -> None:
    services = {name: {"backends": ["http://a:1"]} for name in ("web", "api", "blog")}
    routes = [{"path": f"/{name}", "to": name} for name in services]
    found = list(shared_cookies(parse(json.dumps({"services": services, "routes": routes, "sticky": {"cookie": "edge"}}))))
    assert found == [
        "services: api, blog, web have a sticky cookie of one name, edge, and routes of the same hosts: each overwrites"
        " the other's; give them names or a sticky.path of their own"
    ]
