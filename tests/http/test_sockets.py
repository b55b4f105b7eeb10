"""Sockets with no more around them than a wire needs: where to, who wins among several addresses, closed afterwards."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import gevent
import gevent.socket
import pytest

from smartedge.http import sockets
from smartedge.http.sockets import Address, address_of, connect, destination, resolve


@pytest.fixture
def listening() -> Iterator[Address]:
    with contextlib.closing(gevent.socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(16)
        yield Address(socket.AF_INET, listener.getsockname())


@pytest.fixture
def refusing() -> Iterator[Address]:
    with contextlib.closing(gevent.socket.socket()) as bound:
        bound.bind(("127.0.0.1", 0))
        yield Address(socket.AF_INET, bound.getsockname())


@pytest.fixture
def silent() -> Iterator[Address]:
    """A server whose queue of connections is full: the next one waits as for a machine that is gone."""
    with contextlib.ExitStack() as held:
        listener = held.enter_context(contextlib.closing(socket.socket()))
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(8):
            waiting = held.enter_context(contextlib.closing(socket.socket()))
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield Address(socket.AF_INET, listener.getsockname())


def test_the_second_address_is_tried_when_the_first_refuses(listening: Address, refusing: Address) -> None:
    sock = connect([refusing, listening], 1)
    assert sock._sock.getpeername() == listening.sockaddr
    assert sock.address == listening
    assert sock._sock.getsockopt(gevent.socket.IPPROTO_TCP, gevent.socket.TCP_NODELAY)
    sock.close()
    for addresses in ([refusing], [refusing, refusing]):
        with pytest.raises(ConnectionRefusedError):
            connect(addresses, 1)
    with pytest.raises(OSError, match="no address"):
        connect([], 1)


def test_a_silent_address_holds_the_next_one_up_for_a_quarter_of_a_second(listening: Address, silent: Address) -> None:
    """Happy Eyeballs (RFC 8305): it had half of connect_s before, so that each connection to a dual-stack name took a second."""
    began = monotonic()
    sock = connect([silent, listening], 30)
    assert sockets.NEXT_AFTER_S * 0.9 < monotonic() - began < 10
    assert sock.address == listening
    sock.close()


def test_when_all_keep_silent_it_is_a_timeout_of_all_together(silent: Address) -> None:
    for addresses in ([silent], [silent, silent, silent]):
        began = monotonic()
        with pytest.raises(TimeoutError):
            connect(addresses, 0.4)
        assert monotonic() - began < 5


def test_families_take_turns() -> None:
    ips = ["::1", "::2", "::3", "10.0.0.1", "10.0.0.2"]
    ordered = sockets._interleaved([address_of(ip, 1) for ip in ips])
    assert [address.sockaddr[0] for address in ordered] == ["::1", "10.0.0.1", "::2", "10.0.0.2", "::3"]


def test_a_unix_socket_is_connected_to_and_one_whose_queue_is_full_is_asked_again(tmp_path: Path) -> None:
    path = str(tmp_path / "app.sock")
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as listener:
        listener.bind(path)
        listener.listen(0)
        first = connect(destination(f"unix:{path}").fixed, 1)
        with pytest.raises(TimeoutError):
            connect([Address(socket.AF_UNIX, path)], 0.05)
        waiting = gevent.spawn(connect, [Address(socket.AF_UNIX, path)], 10)
        gevent.sleep(0.02)
        listener.accept()[0].close()
        waiting.get(timeout=5).close()
        first.close()
    with pytest.raises(ConnectionRefusedError):
        connect([Address(socket.AF_UNIX, path)], 1)


@pytest.mark.parametrize(
    ("url", "name", "host", "port", "authority", "base", "fixed"),
    [
        ("http://app:8000", "app", "app", 8000, b"app:8000", b"", ()),
        ("https://app/v1", "app", "app", 443, b"app", b"/v1", ()),
        ("http://10.0.0.5", "", "10.0.0.5", 80, b"10.0.0.5", b"", (Address(socket.AF_INET, ("10.0.0.5", 80)),)),
        ("http://[::1]:81/a", "", "::1", 81, b"[::1]:81", b"/a", (Address(socket.AF_INET6, ("::1", 81, 0, 0)),)),
        ("unix:/run/a.sock:/app", "", "localhost", 0, b"localhost", b"/app", (Address(socket.AF_UNIX, "/run/a.sock"),)),
    ],
)
def test_where_a_url_points_to(
    url: str, name: str, host: str, port: int, authority: bytes, base: bytes, fixed: tuple[Address, ...]
) -> None:
    to = destination(url)
    assert (to.name, to.host, to.port, to.authority, to.base, to.fixed) == (name, host, port, authority, base, fixed)
    assert to.secure == url.startswith("https")


def test_addresses_are_what_the_resolver_gives_too() -> None:
    """Connections are compared with the addresses of their name."""
    assert resolve("127.0.0.1", 5) == [address_of("127.0.0.1", 5)]
    assert resolve("::1", 5) == [address_of("::1", 5)]
    assert address_of("fe80::1%3", 5).sockaddr == ("fe80::1", 5, 0, 3)
