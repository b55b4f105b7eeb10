"""Other paths for backends and other places for clients; all that is not changed stays byte for byte."""

from __future__ import annotations

import pytest

from smartedge.proxy.rewrite import Redirect, Rewrite
from tests.house import request_for as request

STRIPPED = [
    ("/api", "/"),
    ("/api/", "/"),
    ("/api?x=/api", "/?x=/api"),
    ("/api/users?a=%2F?&", "/users?a=%2F?&"),
    ("/api/a%2Fb%20c;v=1//d", "/a%2Fb%20c;v=1//d"),
    ("//api//users", "/users"),
    ("/;x/api/users", "/users"),
    ("/%61pi/users", "/users"),
    ("/api;v=1/users", "/users"),
    ("/api/%zz", "/%zz"),
    ("/x/../api/users", "/users"),
    ("/api/../api/users/./x", "/users/x"),
    ("/api//evil.example", "/evil.example"),
    ("*", "*"),
]


@pytest.mark.parametrize(("target", "changed"), STRIPPED)
def test_a_prefix_is_stripped(target: str, changed: str) -> None:
    assert Rewrite(b"/api", b"").target(target.encode()) == changed.encode()


REPLACED = [("/api", "/v2/app"), ("/api/", "/v2/app/"), ("/api/x?y", "/v2/app/x?y"), ("/a/../api/x", "/v2/app/x")]


@pytest.mark.parametrize(("target", "changed"), REPLACED)
def test_a_prefix_is_replaced(target: str, changed: str) -> None:
    assert Rewrite(b"/api", b"/v2/app").target(target.encode()) == changed.encode()


def test_a_prefix_of_several_segments_is_counted_in_segments() -> None:
    assert Rewrite(b"/api/v1", b"").target(b"//api///v%31/a%20b") == b"/a%20b"


def test_a_prefix_is_put_before_everything() -> None:
    assert Rewrite(b"", b"/app").target(b"/x?y") == b"/app/x?y"
    assert Rewrite(b"", b"/app").target(b"/") == b"/app/"


def test_a_whole_path_is_replaced_and_the_query_stays() -> None:
    assert Rewrite(b"/x", b"/index.html", whole=True).target(b"/x/y?z") == b"/index.html?z"


PLACES = [
    (Redirect(301, host=b"shop.example"), "http://shop.example/a?b=%20"),
    (Redirect(301, host=b"shop.example:8443", scheme=b"https"), "https://shop.example:8443/a?b=%20"),
    (Redirect(302, path=b"/new"), "http://www.shop.example:8080/new?b=%20"),
    (Redirect(302, scheme=b"https"), "https://www.shop.example/a?b=%20"),
    (Redirect(302, scheme=b"http", path=b"/x"), "http://www.shop.example:8080/x?b=%20"),
]


@pytest.mark.parametrize(("redirect", "location"), PLACES)
def test_clients_are_sent_elsewhere_and_what_is_not_said_stays(redirect: Redirect, location: str) -> None:
    assert redirect.location(request("/a?b=%20", "www.shop.example:8080"), b"http") == location.encode()


def test_nobody_is_sent_to_a_host_that_a_path_names() -> None:
    """`Location: //evil.example` is a URL without a scheme."""
    assert Redirect(302, scheme=b"https").location(request("//evil.example/x", None), b"http") == b"/evil.example/x"
    assert Redirect(302, scheme=b"https").location(request("//evil.example/x", "a"), b"http") == b"https://a//evil.example/x"


def test_the_asterisk_of_options_has_no_path() -> None:
    assert Redirect(302, host=b"b").location(request("*", "a"), b"http") == b"http://b/"
