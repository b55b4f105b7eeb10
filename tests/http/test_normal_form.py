"""The normal form of hosts and paths: one thing written in many ways is one thing, and what is doubtful has several readings."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smartedge.balancer.errors import ClientError
from smartedge.http.normal_form import host_name, is_unusual, readings

HOSTS = [
    (b"shop.example", b"shop.example"),
    (b"Shop.EXAMPLE:8080", b"shop.example"),
    (b"shop.example.", b"shop.example"),
    (b"shop.example.:443", b"shop.example"),
    (b"shop.example:", b"shop.example"),
    (b"127.0.0.1:80", b"127.0.0.1"),
    (b"[::1]", b"[::1]"),
    (b"[::1]:8080", b"[::1]"),
    (b"", b""),
]

ONE_READING = [
    (b"/", b"/"),
    (b"/admin", b"/admin"),
    (b"//admin", b"/admin"),
    (b"///admin//", b"/admin/"),
    (b"/./admin", b"/admin"),
    (b"/api/../admin", b"/admin"),
    (b"/api/%2e%2e/admin", b"/admin"),
    (b"/api/%2E./admin", b"/admin"),
    (b"/../../admin", b"/admin"),
    (b"/admin/.", b"/admin/"),
    (b"/admin/x/..", b"/admin/"),
    (b"/..", b"/"),
    (b"/%61dmin", b"/admin"),
    (b"/%41dmin", b"/Admin"),
    (b"/ADMIN", b"/ADMIN"),
    (b"/admin;x=1/users;y", b"/admin/users"),
    (b"/.well-known/acme-challenge/x", b"/.well-known/acme-challenge/x"),
    (b"/...", b"/..."),
    (b"/%40user", b"/@user"),
    (b"/caf%c3%a9", b"/caf%C3%A9"),
    (b"/caf\xc3\xa9", b"/caf%C3%A9"),
    (b"/a%20b", b"/a%20b"),
    (b"/100%", b"/100%25"),
    (b"/%zz", b"/%25zz"),
    (b"*", b"*"),
]

SEVERAL = [
    # an encoded slash: a slash for those who decode before they look, as WSGI's PATH_INFO has it
    (b"/admin%2fusers", [b"/admin%2Fusers", b"/admin/users"]),
    (b"/%2fadmin", [b"/%2Fadmin", b"/admin"]),
    # a backslash: a slash for Windows
    (b"/\\admin", [b"/%5Cadmin", b"/admin"]),
    (b"/x%5cadmin", [b"/x%5Cadmin", b"/x/admin"]),
    # encoded twice
    (b"/%2561dmin", [b"/%2561dmin", b"/admin"]),
    (b"/x%252fadmin", [b"/x%252fadmin", b"/x/admin"]),
    # whether `//` is merged before `..` is resolved
    (b"/admin//../x", [b"/x", b"/admin/x"]),
    # parameters that are encoded
    (b"/admin%3Bx", [b"/admin%3Bx", b"/admin"]),
]

REFUSED = [
    b"/admin%00.html",
    b"/admin%2500",
    b"/public%2f..%2fadmin",
    b"/public/..%2fadmin",
    b"/public\\..\\admin",
    b"/public/..%5cadmin",
    b"/admin/..;/public",
    b"/admin/..;x=1/public",
    b"/admin/;/../../public",
    b"/%252e%252e/admin",
    b"/admin%2f/../x",
    b"/admin%252f/../x",
    b"/admin/x;a/../..",
    b"/%2525252525252561",
    b"/x/%c0%ae%c0%ae/admin",
    b"/x/%25c0%25ae./admin",
    b"/x%e0%80%afadmin",
    b"/x/\xf0\x80\x80\xae./admin",
    b"/x/%u002e%U002E/admin",
]


@pytest.mark.parametrize(("host", "normal"), HOSTS)
def test_a_host_has_one_normal_form(host: bytes, normal: bytes) -> None:
    assert host_name(host) == normal


@pytest.mark.parametrize(("path", "normal"), ONE_READING)
def test_what_all_read_alike_has_one_reading(path: bytes, normal: bytes) -> None:
    assert readings(path) == (normal,)


@pytest.mark.parametrize(("path", "normal"), SEVERAL)
def test_what_is_read_in_several_ways_has_several_readings_and_ours_is_the_first(path: bytes, normal: list[bytes]) -> None:
    assert list(readings(path)) == normal


@pytest.mark.parametrize("path", REFUSED)
def test_what_hides_dot_segments_or_holds_a_nul_is_refused(path: bytes) -> None:
    assert is_unusual(path)
    with pytest.raises(ClientError) as caught:
        readings(path)
    assert caught.value.status == 400


@given(st.binary(max_size=30).map(lambda rest: b"/" + rest.replace(b"?", b"").replace(b"#", b"")))
def test_a_normal_form_is_its_own_and_a_usual_path_is_one(path: bytes) -> None:
    try:
        found = readings(path)
    except ClientError:
        assert is_unusual(path)
        return
    if not is_unusual(path):
        assert found == (path,)
    assert all(b"//" not in each and each[:1] == b"/" for each in found)
    assert readings(found[0])[0] == found[0]


@given(st.lists(st.sampled_from([b"a", b"..", b".", b"", b"%2e%2e", b"%2e", b"b"]), max_size=6))
def test_dot_segments_lead_where_a_plain_reader_goes(segments: list[bytes]) -> None:
    path = b"/" + b"/".join(segments)
    stack: list[bytes] = []
    for segment in (each.replace(b"%2e", b".") for each in segments):
        if segment == b"..":
            del stack[-1:]
        elif segment not in (b"", b"."):
            stack.append(segment)
    assert readings(path)[0].strip(b"/") == b"/".join(stack)


def test_a_path_of_thousands_of_segments_is_read_only_if_it_is_plain() -> None:
    assert not is_unusual(b"/a" * 4000)
    assert readings(b"/a;x" * 200) == (b"/a" * 200,)
    for path in (b"/;" * 4000, b"/%20" * 2000, b"/%252f" * 300, b"/\\" * 300, b"//" * 4000):
        with pytest.raises(ClientError, match="more than 256 segments"):
            readings(path)
