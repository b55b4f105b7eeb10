from __future__ import annotations

import pytest

from smartedge.edge.access import may_administer

LOCAL = {"host": "localhost:8080"}


def status(peer: str = "127.0.0.1", headers: dict[str, str] | None = None, *, ours: bool = True, **rules: object) -> int | None:
    """What the request is refused with, if it is; ours: the peer's process is our own user's or root's."""
    refusal = may_administer(peer, LOCAL if headers is None else headers, is_ours=lambda: ours, **rules)  # type: ignore[arg-type]
    return refusal and refusal.status


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1", "", "unix"])
def test_this_machine_may(peer: str) -> None:
    assert status(peer) is None


@pytest.mark.parametrize(
    "peer", ["10.0.0.1", "192.168.1.2", "::2", "::ffff:10.0.0.1", "fe80::1%eth0", "nonsense", "127.0.0.1.evil", "0.0.0.0"]
)
def test_another_machine_may_not(peer: str) -> None:
    assert status(peer) == 403


@pytest.mark.parametrize("peer", ["127.0.0.1", "::1", "::ffff:127.0.0.1", "", "unix"])
def test_a_process_of_another_user_may_not_though_nothing_in_the_request_gives_it_away(peer: str) -> None:
    """nginx with a bare `proxy_pass http://127.0.0.1:8080` sends Host: 127.0.0.1:8080 and no X-Forwarded-For: an outside
    client replaced the backends, and the file."""
    assert status(peer, {"host": "127.0.0.1:8080", "connection": "close"}, ours=False) == 403
    assert status(peer, {"host": "127.0.0.1:8080", "connection": "close"}, ours=True) is None


def test_whose_process_it_is_is_not_asked_of_those_who_have_the_token_or_a_network_of_their_own() -> None:
    def nobody_asks() -> bool:
        raise AssertionError("asked")

    assert may_administer("127.0.0.1", {"authorization": "Bearer t"}, is_ours=nobody_asks, token="t") is None
    assert may_administer("127.0.0.1", LOCAL, is_ours=nobody_asks, networks=["127.0.0.0/8"]) is None
    assert may_administer("10.0.0.1", LOCAL, is_ours=nobody_asks) is not None


@pytest.mark.parametrize(
    "host",
    ["localhost", "localhost:8080", "LocalHost.", "127.0.0.1", "127.1.2.3:80", "[::1]", "[::1]:8080", "[::ffff:127.0.0.1]"],
)
def test_the_hosts_of_this_machine_are_fine(host: str) -> None:
    assert status(headers={"host": host}) is None


@pytest.mark.parametrize(
    "host",
    [
        "", "evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.1", "[::2]", "[::1", "[v1.x]",
        "localhost@evil.example", "evil@localhost", "@localhost", "localhost:0", "localhost:port", "localhost:99999",
        "localhost,evil.example", "localhost/x", "localhost\t",
    ],
)  # fmt: skip
def test_a_foreign_or_broken_host_is_refused_because_of_dns_rebinding(host: str) -> None:
    assert status(headers={"host": host}) == 403


def test_a_missing_host_is_refused() -> None:
    assert status(headers={}) == 403


@pytest.mark.parametrize("name", ["x-forwarded-for", "x-forwarded-host", "x-forwarded-anything", "forwarded", "x-real-ip", "via"])
def test_a_forwarded_request_is_not_from_here(name: str) -> None:
    assert status(headers=LOCAL | {name: "127.0.0.1"}) == 403
    assert status(headers=LOCAL | {name: ""}) == 403
    assert status("10.0.0.1", LOCAL | {name: "127.0.0.1"}, networks=["10.0.0.0/8"]) == 403


@pytest.mark.parametrize("origin", ["http://localhost", "http://localhost:3000", "https://127.0.0.1", "http://[::1]:8080"])
def test_a_page_of_this_machine_may(origin: str) -> None:
    assert status(headers=LOCAL | {"origin": origin}) is None


@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "",
        "http://evil.example",
        "https://localhost.evil.example",
        "file://localhost",
        "localhost",
        "http://",
        "http://localhost,http://evil.example",
    ],
)
def test_a_foreign_page_may_not(origin: str) -> None:
    assert status(headers=LOCAL | {"origin": origin}) == 403


@pytest.mark.parametrize(
    ("site", "expected"), [("none", None), ("same-origin", None), ("same-site", None), ("cross-site", 403), ("new-word", 403)]
)
def test_the_browser_says_whether_a_request_is_cross_site(site: str, expected: int | None) -> None:
    assert status(headers=LOCAL | {"sec-fetch-site": site}) == expected


@pytest.mark.parametrize(
    ("peer", "expected"), [("10.1.2.3", None), ("::ffff:10.1.2.3", None), ("11.0.0.1", 403), ("fd00::1", None), ("fe00::1", 403)]
)
def test_the_operators_networks_may(peer: str, expected: int | None) -> None:
    assert status(peer, {"host": "10.0.0.9:8080"}, networks=["10.0.0.0/8", "fd00::/8"]) == expected


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"host": "10.0.0.9:8080"}, None),
        ({"host": "[fd00::9]"}, None),
        ({"host": "edge1:8080"}, None),
        ({"host": "localhost"}, None),
        ({"host": "edge2"}, 403),
        ({"host": "rebound.evil.example"}, 403),
        ({"host": "edge1:8080", "origin": "http://edge1:8080"}, None),
        ({"host": "edge1:8080", "origin": "http://evil.example"}, 403),
        ({"host": "edge1:8080", "origin": "null"}, 403),
        ({"host": "edge1:8080", "sec-fetch-site": "cross-site"}, 403),
    ],
)
def test_what_a_page_in_an_allowed_network_sends_is_looked_at_too(headers: dict[str, str], expected: int | None) -> None:
    assert status("10.1.2.3", headers, networks=["10.0.0.0/8"], names=["edge1"]) == expected


def test_a_loopback_peer_cannot_use_the_names_that_are_for_networks() -> None:
    assert status(headers={"host": "edge1"}, names=["edge1"]) == 403


@pytest.mark.parametrize("authorization", ["Bearer s3cret", "bearer s3cret", "BEARER  s3cret "])
def test_who_has_the_token_may_from_anywhere(authorization: str) -> None:
    headers = {"authorization": authorization, "host": "edge.example", "x-forwarded-for": "1.2.3.4"}
    assert status("203.0.113.1", headers, token="s3cret") is None


@pytest.mark.parametrize(
    "authorization",
    ["", "Bearer", "Bearer ", "Bearer s3cre", "Bearer s3cret2", "Basic s3cret", "s3cret", "Bearer é", "Bearer \udc80"],
)
def test_once_there_is_a_token_this_machine_needs_it_too(authorization: str) -> None:
    assert status(headers=LOCAL | {"authorization": authorization}, token="s3cret") == 401
    assert status("10.0.0.1", LOCAL | {"authorization": authorization}, token="s3cret", networks=["10.0.0.0/8"]) == 401


def test_without_a_token_none_is_believed() -> None:
    for token in (None, ""):
        assert status("10.0.0.1", LOCAL | {"authorization": "Bearer "}, token=token) == 403


def test_no_refusal_tells_the_token() -> None:
    refusal = may_administer("10.0.0.1", {"authorization": "Bearer x"}, is_ours=lambda: True, token="s3cret")
    assert refusal is not None
    assert "s3cret" not in refusal.detail
