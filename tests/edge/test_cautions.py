"""What the operator should know although nothing is wrong."""

from __future__ import annotations

import logging
import socket
from typing import Any

import pytest

from smartedge.config.model import parse
from smartedge.config.sources import misspelled
from smartedge.edge.cautions import MOST_LOOKS, ProxyWatch, cautions
from tests.house import request

ONE = '{"backends": ["http://a:1"]}'


def said(has_token: bool = False, **settings: Any) -> list[str]:
    config = parse(ONE, overrides=settings)
    return [text.partition(":")[0] for text in cautions(config, {}, has_token=has_token)]


def test_a_plain_configuration_needs_no_word() -> None:
    assert said() == []


def test_a_proxy_in_front_of_the_port_that_has_the_admin_pages_is_told() -> None:
    assert said(trusted_proxies=["10.0.0.0/8"]) == ["trusted_proxies"]
    assert said(trusted_proxies=["10.0.0.0/8"], has_token=True) == []
    assert said(trusted_proxies=["10.0.0.0/8"], admin_bind="unix:/run/smartedge/admin.sock") == []


def test_a_listener_that_sends_everybody_to_https_which_nobody_speaks_is_told() -> None:
    assert said(http_bind="127.0.0.1:8081") == ["http_bind"]
    assert said(http_bind="127.0.0.1:8081", https_port=443) == []
    assert said(http_bind="127.0.0.1:8081", certificates_dir="/") == []


def test_a_probe_of_grpc_over_http_1_is_told_for_the_backend_can_never_be_healthy() -> None:
    assert said(health={"type": "grpc"}) == ["a-1"]
    assert said(health={"type": "grpc"}, protocol="h2c") == []


def test_a_network_that_may_administer_and_has_a_proxy_in_it_is_told() -> None:
    apart = "127.0.0.1:8091"
    assert said(trusted_proxies=["10.0.0.5/32", "fd00::/8"], admin_allow=["10.0.0.0/8"], admin_bind=apart) == ["admin_allow"]
    assert said(trusted_proxies=["10.0.0.5/32"], admin_allow=["10.1.0.0/16", "fd00::/8"], admin_bind=apart) == []
    assert said(trusted_proxies=["10.0.0.5/32"], admin_allow=["10.0.0.0/8"], has_token=True) == []


def test_a_header_that_lets_its_reader_in_may_be_logged_and_is_told() -> None:
    assert said(access_log_headers=["Accept", "answer:ETag"]) == []
    names = ["Cookie", "authorization", "Proxy-Authorization", "answer:Set-Cookie"]
    found = cautions(parse(ONE, overrides={"access_log_headers": names}), {}, has_token=False)
    assert len(found) == 4
    assert found[3].startswith("access_log_headers: answer:set-cookie lets whoever reads the log in")


def test_where_no_backend_takes_requests_is_told() -> None:
    assert said(backends=[{"url": "http://a:1", "weight": 0}]) == [
        "no backend takes new requests, as each has weight 0 or is not enabled"
    ]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("SMARTEDGE_STRATGEY", "SMARTEDGE_STRATGEY is no variable of ours; did you mean SMARTEDGE_STRATEGY?"),
        ("SMARTEDGE_ADMINTOKEN", "SMARTEDGE_ADMINTOKEN is no variable of ours; did you mean SMARTEDGE_ADMIN_TOKEN?"),
        ("SMARTEDGE_XYZZY\x1b", "SMARTEDGE_XYZZY\\u001b is no variable of ours"),
    ],
)
def test_a_variable_that_nobody_reads_is_named(name: str, told: str) -> None:
    """SMARTEDGE_STRATGEY=ewma: it ran with round_robin, and said nothing."""
    assert misspelled({name: "s3cret", "PATH": "/bin", "SMARTEDGE_BIND": "127.0.0.1:1"}) == [told]
    assert told in cautions(parse(ONE), {name: "s3cret"}, has_token=False)


@pytest.mark.parametrize(
    "name",
    [
        "SMARTEDGE_URL", "SMARTEDGE_STATE_DIR", "SMARTEDGE_STICKY_SECRET", "SMARTEDGE_SERVICE_HOST", "SMARTEDGE_SERVICE_PORT",
        "SMARTEDGE_SERVICE_PORT_HTTP", "SMARTEDGE_PORT", "SMARTEDGE_PORT_80_TCP", "SMARTEDGE_PORT_80_TCP_ADDR",
    ],
)  # fmt: skip
def test_our_own_variables_and_those_of_kubernetes_are_not(name: str) -> None:
    assert misspelled({name: "x"}) == []


def watched(fields: bytes, peer: bytes = b"127.0.0.1", *, times: int = 1, is_open: bool = True, sock: Any = None) -> None:
    watch = ProxyWatch(lambda: is_open)
    for _ in range(times):
        asked = request(fields=fields, peer=peer)
        asked.sock = sock
        watch(asked)


@pytest.mark.parametrize("fields", [b"X-Forwarded-For: 192.0.2.1\r\n", b"Forwarded: for=192.0.2.1\r\n", b"vIA: 1.1 nginx\r\n"])
def test_requests_through_a_proxy_of_our_own_user_are_told_once(fields: bytes, caplog: pytest.LogCaptureFixture) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, caplog.at_level(logging.WARNING):
        for peer in (b"127.0.0.1", b"::1", b"unix"):
            caplog.clear()
            watched(fields, peer, times=3, sock=ours)
            assert [record.getMessage()[:22] for record in caplog.records] == ["requests come through "]
        caplog.clear()
        watched(fields, is_open=False, sock=ours)
        watched(fields, b"192.0.2.9", sock=ours)
        watched(fields, b"nonsense", sock=ours)
        watched(b"X-Other: via\r\n", sock=ours)
        watched(fields, times=MOST_LOOKS + 5)  # nobody knows whose
        assert caplog.records == []
