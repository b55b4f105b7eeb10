"""Which protocols a request may offer a backend, and what becomes of the request (more in tests/live/test_tunnel.py)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import gevent.socket
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smartedge.balancer.cells import ABANDONED, BREAKER, FAILED, IN_FLIGHT, OK, TUNNELS
from smartedge.http.headers import RequestFields, tokens
from smartedge.http.request import Request
from smartedge.proxy.upgrade import NEVER, UpgradeExchange, offer
from tests.house import Served, running
from tests.peers import backend, head_of


def asking(upgrade: bytes, connection: bytes = b"Upgrade", method: bytes = b"GET", version: int = 11) -> Request:
    block = b"Host: a\r\nConnection: %b\r\nUpgrade: %b\r\n" % (connection, upgrade)
    return Request(method, b"/", version, block, RequestFields(block), b"127.0.0.1", False)


@pytest.mark.parametrize(
    ("upgrade", "offered"),
    [
        (b"websocket", b"websocket"),
        (b"WebSocket", b"WebSocket"),
        (b"chat/1.0", b"chat/1.0"),
        (b" a , b/2 ,", b"a, b/2"),
        (b"h2c", None),
        (b"H2C", None),
        (b"h2c, websocket", b"websocket"),
        (b"websocket,h2c/14", b"websocket"),
        (b"TLS/1.2, HTTP/2.0, h2", None),
        (b"", None),
        (b",", None),
        (b"a b", None),
        (b"a/b/c", None),
        (b'"websocket"', None),
        (b"h2c\x00, ok", b"ok"),
    ],
)
def test_what_is_offered_of_an_upgrade_field(upgrade: bytes, offered: bytes | None) -> None:
    assert offer(asking(upgrade)) == offered


@pytest.mark.parametrize("connection", [b"Upgrade", b"upgrade", b"keep-alive, Upgrade", b"X, UPGRADE ,Y"])
def test_connection_must_name_it(connection: bytes) -> None:
    assert offer(asking(b"websocket", connection)) == b"websocket"


@pytest.mark.parametrize("connection", [b"", b"keep-alive", b"close", b"upgraded", b"up grade"])
def test_else_it_ends_here(connection: bytes) -> None:
    assert offer(asking(b"websocket", connection)) is None


def test_a_request_without_upgrade_offers_nothing() -> None:
    block = b"Host: a\r\nConnection: Upgrade\r\n"
    assert offer(Request(b"GET", b"/", 11, block, RequestFields(block), b"127.0.0.1", False)) is None


def test_http_1_0_has_no_upgrade() -> None:
    assert offer(asking(b"websocket", version=10)) is None


def test_websocket_is_for_get_only_and_others_for_any_method() -> None:
    assert offer(asking(b"websocket, tcp", method=b"POST")) == b"tcp"


@given(st.lists(st.sampled_from([b"h2c", b"H2C", b"h2c/1", b"tls/1.0", b"HTTP/2", b"x", b"websocket"]) | st.binary(max_size=8)))
def test_whatever_is_asked_for_what_carries_http_is_never_offered(protocols: list[bytes]) -> None:
    asked = b",".join(protocol.replace(b"\r", b"").replace(b"\n", b"") for protocol in protocols)
    for protocol in tokens(offer(asking(asked))):
        assert protocol.partition(b"/")[0] not in NEVER
        assert b" " not in protocol
        assert b"\r" not in protocol


# the exchange


ASKS = b"GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n"
SWITCHES = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n"
Play = Callable[[Any, int], None]


@contextlib.contextmanager
def in_front_of(play: Play) -> Iterator[Served]:
    with backend(play) as url, running(url, retry={"attempts": 5}) as edge:
        yield edge


def switches_and_echoes(sock: Any, _number: int) -> None:
    head_of(sock)
    sock.sendall(SWITCHES)
    while data := sock.recv(65536):
        sock.sendall(data)


def test_a_tunnel_holds_its_lease_and_is_logged_once_at_its_end() -> None:
    with in_front_of(switches_and_echoes) as edge, contextlib.closing(edge.client()) as client:
        client.sendall(ASKS + b"early")
        answer = head_of(client)
        assert answer.startswith(
            b"HTTP/1.1 101 Switching Protocols\r\nVia: 1.1 smartedge\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n"
        )
        assert [edge.counted(cell) for cell in (IN_FLIGHT, TUNNELS, OK)] == [1, 1, 0]
        assert len(edge.edge.forwarder.tunnels) == 1
        assert edge.logged == []
        client.shutdown(gevent.socket.SHUT_WR)
        while client.recv(100):
            pass
        exchange = edge.ended()[0]
        assert (exchange.status, exchange.bytes_in, exchange.bytes_out, exchange.error) == (101, 5, 5, None)
        assert [edge.counted(cell) for cell in (IN_FLIGHT, TUNNELS, OK)] == [0, 0, 1]
        assert len(edge.edge.forwarder.tunnels) == 0
        exchange.close()
        assert len(edge.logged) == 1


def test_why_it_ended_is_logged_and_nobody_is_blamed() -> None:
    with in_front_of(switches_and_echoes) as edge, contextlib.closing(edge.client()) as client:
        client.sendall(ASKS)
        head_of(client)
        assert edge.edge.forwarder.tunnels.end_of(edge.backend.key, "Enough.")
        assert client.recv(1) == b""
        assert edge.ended()[0].error.detail == "Enough."
        assert [edge.counted(cell) for cell in (OK, FAILED, ABANDONED)] == [1, 0, 0]


def test_the_one_probe_of_an_open_breaker_readmits_with_the_switch() -> None:
    with in_front_of(switches_and_echoes) as edge, contextlib.closing(edge.client()) as client:
        breaker = edge.backend.learned.breaker
        edge.backend.learned.shared[BREAKER] = 1  # open, and its time is over
        edge.edge.pool.renew_candidates()
        client.sendall(ASKS)
        head_of(client)
        assert breaker.state == "closed"


@pytest.mark.parametrize("answer", [SWITCHES.replace(b"chat", b"h2c"), SWITCHES.replace(b"Upgrade: chat\r\n", b"")])
def test_another_protocol_than_offered_is_a_bad_gateway(answer: bytes) -> None:
    def play(sock: Any, _number: int) -> None:
        head_of(sock)
        sock.sendall(answer)
        sock.recv(1)

    with in_front_of(play) as edge, contextlib.closing(edge.client()) as client:
        client.sendall(ASKS)
        assert head_of(client).startswith(b"HTTP/1.1 502 ")
        assert (edge.ended()[0].status, edge.counted(FAILED), edge.counted(TUNNELS)) == (502, 1, 0)


def test_it_is_sent_only_once() -> None:
    seen: list[int] = []

    def play(sock: Any, number: int) -> None:
        seen.append(number)
        head_of(sock)

    with in_front_of(play) as edge, contextlib.closing(edge.client()) as client:
        client.sendall(ASKS)
        assert head_of(client).startswith(b"HTTP/1.1 502 ")
        assert seen == [1]


def test_an_answer_that_is_no_switch_is_passed_on_and_the_connection_goes_on() -> None:
    def play(sock: Any, _number: int) -> None:
        while head_of(sock):
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    with in_front_of(play) as edge, contextlib.closing(edge.client()) as client:
        for _ in range(2):
            client.sendall(ASKS)
            assert head_of(client).startswith(b"HTTP/1.1 200 OK\r\n")
        assert [type(exchange) for exchange in edge.logged] == [UpgradeExchange] * 2
        assert edge.counted(OK) == 2


def test_a_client_that_left_before_the_switch_is_no_tunnel() -> None:
    def play(sock: Any, _number: int) -> None:
        head_of(sock)
        client.setsockopt(gevent.socket.SOL_SOCKET, gevent.socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.close()
        sock.sendall(SWITCHES)
        sock.recv(1)

    with in_front_of(play) as edge:
        client = edge.client()
        client.sendall(ASKS)
        exchange = edge.ended()[0]
        assert (exchange.status, edge.counted(ABANDONED), edge.counted(TUNNELS)) == (499, 1, 0)


def test_a_server_that_stops_gives_everything_back() -> None:
    with in_front_of(switches_and_echoes) as edge, contextlib.closing(edge.client()) as client:
        client.sendall(ASKS)
        head_of(client)
        edge.server.stop_gracefully(0)
        assert client.recv(1) == b""
        assert edge.ended()[0].error.detail == "The edge ended the tunnel."
        assert [edge.counted(cell) for cell in (IN_FLIGHT, TUNNELS)] == [0, 0]


def test_a_server_that_can_hand_nothing_over_gives_everything_back() -> None:
    with in_front_of(switches_and_echoes) as edge:
        exchange = edge.edge.forwarder.forward(asking(b"chat"))
        assert exchange.switches
        assert edge.counted(IN_FLIGHT) == 1
        with pytest.raises(KeyError):
            exchange({}, lambda *_: None)
        assert edge.counted(IN_FLIGHT) == 0
        assert edge.ended() == [exchange]
