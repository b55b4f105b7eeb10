"""Our server: whom it accepts, and how it stops."""

from __future__ import annotations

import contextlib
import socket
from typing import Any

import gevent
import gevent.event
import gevent.socket
import pytest

from smartedge.server.front import ServerLimits
from tests.busy import make_busy
from tests.live.wire import parse_answers
from tests.peers import App, edge_server, talk

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
LAST = b"GET /last HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
QUICK = ServerLimits(head_s=0.2, keepalive_s=0.2, idle_s=0.2)


@pytest.fixture(autouse=True)
def busy(monkeypatch: pytest.MonkeyPatch) -> None:
    make_busy(monkeypatch)


def hello(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
    return [b"hello"]


def answers_of(raw: bytes, *methods: bytes) -> list[Any]:
    return parse_answers(raw, *methods)


# Stopping.


def test_a_stop_waits_for_answers_and_not_for_idle_connections() -> None:
    go_on = gevent.event.Event()

    def view(_environ: dict[str, Any], start_response: Any) -> list[bytes]:
        if _environ["PATH_INFO"] == "/busy":
            go_on.wait()
        return hello(_environ, start_response)

    with edge_server(App(view)) as server, gevent.Timeout(5):
        busy, idle = (gevent.socket.create_connection(("127.0.0.1", server.server_port)) for _ in range(2))
        idle.sendall(GET)
        assert idle.recv(65536).endswith(b"hello")  # one that has had no answer yet is given a second
        busy.sendall(GET.replace(b"/", b"/busy", 1))
        while all(incoming.idle for incoming in server.front.open):
            gevent.sleep(0.001)
        stopping = gevent.spawn(server.stop_gracefully, 5)
        assert idle.recv(1) == b""
        assert not stopping.ready()
        go_on.set()
        (answer,) = answers_of(busy.recv(65536))
        assert (answer.body, answer.get(b"connection")) == (b"hello", b"close")
        assert stopping.get() is True
        with pytest.raises(OSError):
            gevent.socket.create_connection(("127.0.0.1", server.server_port))
        busy.close()
        idle.close()


def test_a_stop_gives_those_who_have_just_connected_time_to_ask() -> None:
    """Whoever has had no answer yet does not expect a close, and does not ask again."""
    with edge_server(App(hello)) as server, gevent.Timeout(5):
        address = ("127.0.0.1", server.server_port)
        fresh = gevent.socket.create_connection(address)
        while not server.front.open:
            gevent.sleep(0.001)
        unseen = socket.create_connection(address)  # the system accepts it, and the server has no time to look
        server.close()
        stopping = gevent.spawn(server.stop_gracefully, 5)
        for sock in (fresh, unseen):
            sock.sendall(GET)
            gevent.socket.wait_read(sock.fileno())
            (answer,) = answers_of(sock.recv(65536))
            assert (answer.body, answer.get(b"connection")) == (b"hello", b"close")
            sock.close()
        assert stopping.get() is True


def test_a_stop_cuts_what_does_not_end_in_time() -> None:
    over = gevent.event.Event()

    def view(_environ: dict[str, Any], _start_response: Any) -> list[bytes]:
        over.wait()
        return []

    with edge_server(App(view)) as server, gevent.Timeout(5):
        sock = gevent.socket.create_connection(("127.0.0.1", server.server_port))
        sock.sendall(GET)
        while not any(not incoming.idle for incoming in server.front.open):
            gevent.sleep(0.001)
        assert server.stop_gracefully(0.05) is False
        with contextlib.suppress(ConnectionResetError):
            assert sock.recv(10) == b""
        sock.close()
        over.set()


def test_a_stop_without_hurry_answers_one_more_request_on_an_idle_connection_and_closes_the_others_before_its_end() -> None:
    """Whoever asks just as an idle connection is closed would not know whether the request was taken."""
    with edge_server(App(hello)) as server, gevent.Timeout(5):
        asks, waits, told = (gevent.socket.create_connection(("127.0.0.1", server.server_port)) for _ in range(3))
        for sock in (asks, waits, told):
            sock.sendall(GET)
            assert sock.recv(65536).endswith(b"hello")
        left: list[str] = []
        last = next(one for one in server.front.open if one.wire.sock._sock.getpeername() == told.getsockname())
        last.leave = lambda: left.append("told")  # as one of HTTP/2, which needs no request for that
        stopping = gevent.spawn(server.stop_gracefully, 0.6, lingers=True)
        while not left:
            gevent.sleep(0.001)
        asks.sendall(GET)
        (answer,) = answers_of(asks.recv(65536))
        assert (answer.body, answer.get(b"connection")) == (b"hello", b"close")
        asks.close()
        last.leave = None
        for sock in (waits, told):
            assert sock.recv(1) == b""
            sock.close()
        assert stopping.get() is True


# How many are connected.


def test_no_more_clients_are_connected_than_the_limit_carries_and_idle_ones_make_room() -> None:
    with edge_server(App(hello)) as server:
        server.most_connections = 3
        idle = [gevent.socket.create_connection(("127.0.0.1", server.server_port)) for _ in range(3)]
        for sock in idle:
            sock.sendall(GET)
            assert sock.recv(4096).startswith(b"HTTP/1.1 200")
        for _ in range(4):  # each takes the place of the one that has waited longest
            answer = talk(server, GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
            assert answer.startswith(b"HTTP/1.1 200")
        assert idle[0].recv(1) == b""
        for sock in idle:
            sock.close()


def test_who_finds_no_room_waits_in_the_systems_queue_until_somebody_leaves() -> None:
    with edge_server(App(hello)) as server:
        server.most_connections = 1  # and one more, for which room is looked for
        busy, other = (gevent.socket.create_connection(("127.0.0.1", server.server_port)) for _ in range(2))
        for sock in (busy, other):
            sock.sendall(GET[:10])  # it is sending a request: not idle
            gevent.sleep(0.05)
        waiting = gevent.spawn(talk, server, GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        gevent.sleep(0.1)
        assert not waiting.ready()
        busy.close()
        other.close()
        assert waiting.get(timeout=10).startswith(b"HTTP/1.1 200")
        assert server.connections <= 1


@pytest.mark.parametrize("end", ["room", "stop"])
def test_a_client_that_has_not_taken_its_whole_answer_is_not_idle(end: str) -> None:
    """The handler waits for its next request, and the loop goes on with the rest of its answer: a close would cut it."""

    def view(_environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Length", "60000")])
        return [b"x" * 60_000]

    with edge_server(App(view)) as server, gevent.Timeout(20):
        slow = gevent.socket.socket()
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        slow.connect(("127.0.0.1", server.server_port))
        while not server.front.open:
            gevent.sleep(0.001)
        (incoming,) = server.front.open
        incoming.wire.sock._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        slow.sendall(GET)
        while not incoming.wire.stuck:
            gevent.sleep(0.001)
        stopping = None
        if end == "room":
            assert server.close_idle(1) == 0
        else:
            stopping = gevent.spawn(server.stop_gracefully, 10)
        answer = b""
        while not answer.endswith(b"\r\n\r\n" + b"x" * 60_000):
            piece = slow.recv(10_000)
            assert piece, len(answer)
            answer += piece
        if stopping is None:
            assert server.close_idle(1) == 1
        assert slow.recv(1) == b""
        slow.close()
        if stopping is not None:
            assert stopping.get()
