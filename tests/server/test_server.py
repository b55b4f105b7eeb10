"""Our server: whom it accepts, and how it stops."""

from __future__ import annotations

import contextlib
import socket
from typing import Any

import gevent
import gevent.event
import gevent.socket
import pytest

from smartedge.balancer.cells import FAILED, IN_FLIGHT
from smartedge.server.front import ServerLimits
from tests.busy import make_busy
from tests.house import running, until
from tests.live.wire import parse_answers
from tests.peers import App, backend, edge_server, head_of, talk

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


STOPPED = "The edge stopped before the answer was complete."
BEGUN = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst"
UPLOAD = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nfirst"


def hanging(said: bytes) -> Any:
    """A backend that says this, and then nothing more until it is let go."""

    def play(sock: Any, _number: int) -> None:
        head_of(sock)
        sock.sendall(said)
        while sock.recv(100):
            pass

    return play


@pytest.mark.parametrize(
    ("raw", "said", "starts", "status"),
    [(GET, b"", b"HTTP/1.1 503 ", 503), (GET, BEGUN, b"HTTP/1.1 200 ", 200), (UPLOAD, b"", b"HTTP/1.1 503 ", 503)],
    ids=["nothing said", "in the middle", "an upload"],
)
def test_what_a_stop_cuts_is_the_edges_doing_and_its_client_told_so(raw: bytes, said: bytes, starts: bytes, status: int) -> None:
    """They were logged, counted and recorded as 499, the client left."""
    with backend(hanging(said)) as url, running(url, explain={"sample_ratio": 1}) as edge, gevent.Timeout(5):
        with contextlib.closing(edge.client()) as sock:
            sock.sendall(raw)
            until(lambda: edge.counted(IN_FLIGHT) == 1)
            received = sock.recv(4096) if said else b""
            assert edge.server.stop_gracefully(0.05) is False
            with contextlib.suppress(ConnectionResetError):
                while piece := sock.recv(4096):
                    received += piece
        assert received.startswith(starts)
        (exchange,) = edge.ended()
        assert (exchange.status, str(exchange.error), exchange.error.blame) == (status, STOPPED, "edge")
        assert (edge.counted(IN_FLIGHT), edge.counted(FAILED)) == (0, 0)
        (record,) = edge.edge.decisions.newest()
        assert (record["status"], record["outcome"], record["blame"]) == (status, "failed", "edge")


def test_requests_that_wait_for_room_as_a_stop_ends_are_told_so() -> None:
    limits = {"in_flight_per_backend": 1, "queue_s": 30}
    with backend(hanging(b"")) as url, running(url, limits=limits) as edge, gevent.Timeout(5):
        clients = [edge.client() for _ in range(2)]
        for sock in clients:
            sock.sendall(GET)
        until(lambda: edge.edge.forwarder.service.queue.waiters)
        edge.server.stop_gracefully(0)
        for sock in clients:
            assert sock.recv(4096).startswith(b"HTTP/1.1 503 ")
            sock.close()
        assert [str(exchange.error) for exchange in edge.ended(2)] == [STOPPED] * 2


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
