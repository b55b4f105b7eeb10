"""Connections that belong to gunicorn's loop: borrowed for a tunnel, never closed."""

from __future__ import annotations

import io
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import gevent
import gevent.socket
import pytest

from smartedge.http.environ_keys import HANDLER
from smartedge.http.wire import WireTimeout
from smartedge.proxy.foreign import BorrowedWire, can_take_over, take_over
from tests.peers import tcp_pair


def test_a_borrowed_socket_is_shut_down_and_left_to_its_owner() -> None:
    near, far = tcp_pair()
    borrowed = BorrowedWire(near)
    borrowed.send_now(b"x", 1.0)
    assert far.recv(1) == b"x"
    far.sendall(b"yz")
    assert borrowed.recv(float("inf"), 1) == b"y"
    assert borrowed.recv(1.0) == b"z"
    with pytest.raises(WireTimeout):
        borrowed.recv(0.01)
    with pytest.raises(WireTimeout):
        borrowed.send_now(bytes(50_000_000), 0.01)
    reader = gevent.spawn(borrowed.recv, float("inf"))
    gevent.sleep(0)
    borrowed.break_off()
    borrowed.finish_sending()
    borrowed.close()
    assert reader.get(timeout=5) == b""
    assert near.fileno() >= 0
    borrowed.close()
    near.close()
    far.close()


class GunicornInput:
    """`wsgi.input` of gunicorn's, as far as a tunnel looks into it."""

    def __init__(self, ahead: bytes) -> None:
        self.reader = SimpleNamespace(unreader=SimpleNamespace(buf=io.BytesIO(ahead)))


@pytest.fixture
def gunicorn_environ() -> Iterator[dict[str, Any]]:
    pytest.importorskip("gunicorn.workers.base_async")
    sock = gevent.socket.socket()
    yield {"gunicorn.socket": sock, "wsgi.input": GunicornInput(b"ahead")}
    sock.close()


def test_gunicorns_gevent_worker_hands_over_its_socket_and_what_it_read_ahead(gunicorn_environ: dict[str, Any]) -> None:
    from gunicorn.workers.base_async import ALREADY_HANDLED

    assert can_take_over(gunicorn_environ)
    side, early, result = take_over(gunicorn_environ)
    assert isinstance(side, BorrowedWire)
    assert early == b"ahead"
    assert result is ALREADY_HANDLED
    assert take_over(gunicorn_environ)[1] == b""


@pytest.mark.parametrize("missing", ["gunicorn.socket", "wsgi.input"])
def test_other_servers_do_not(gunicorn_environ: dict[str, Any], missing: str) -> None:
    gunicorn_environ[missing] = object()
    assert not can_take_over(gunicorn_environ)
    del gunicorn_environ[missing]
    assert not can_take_over(gunicorn_environ)


def test_behind_a_chunked_body_what_was_read_ahead_is_found_too(gunicorn_environ: dict[str, Any]) -> None:
    unreader = gunicorn_environ["wsgi.input"].reader.unreader
    gunicorn_environ["wsgi.input"].reader = SimpleNamespace(req=SimpleNamespace(unreader=unreader))
    assert take_over(gunicorn_environ)[1] == b"ahead"


def test_our_own_server_hands_over_its_wire_and_what_it_read_ahead() -> None:
    wire = object()
    handler = SimpleNamespace(take_over=lambda: (wire, b"early"))
    assert can_take_over({HANDLER: handler})
    assert take_over({HANDLER: handler}) == (wire, b"early", None)
