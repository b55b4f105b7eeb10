"""Tunnels over real sockets: WebSocket between wsproto peers, and any other protocol, whichever server the edge runs under."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.live.edges import GEVENT, OWN, WORKER, LiveEdge, request, start_edge
from tests.live.peers import (
    Call,
    Client,
    Script,
    answers,
    head,
    refused_port,
    says,
)
from tests.live.processes import wait_until
from tests.live.tunnels import ASKS, BIG, SWITCHES, connected, converse, echoes, switching, websocket_echo

MEGABYTE = 1024 * 1024


def stalls(call: Call) -> None:
    call.stall()


def open_tunnel(edge: LiveEdge, client: Client, behind: bytes = b"") -> None:
    client.send(request(headers=ASKS) + behind)
    assert client.answer().status == 101


def says_back(client: Client, data: bytes) -> bytes:
    client.send(data)
    return client.stream.exactly(len(data))


def tunnels(edge: LiveEdge) -> list[int]:
    return [backend["tunnels"] for backend in edge.backends()]


def metric(edge: LiveEdge, name: str) -> float:
    lines = [line for line in edge.admin("/metrics").text.splitlines() if line.startswith(f"{name}{{")]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


# ---- WebSocket ----


def test_websocket_peers_speak_through_the_edge_as_if_it_were_not_there(edge: LiveEdge) -> None:
    with Script(websocket_echo) as backend, edge.client() as client:
        edge.configure(backend)
        peer = connected(client.sock)
        assert tunnels(edge) == [1]
        converse(peer)
        assert client.sock.recv(1) == b""
    line = edge.log(path="/chat")
    assert (line["status"], line["try_count"], line.get("error")) == (101, 1, None)
    assert line["bytes_in"] > BIG
    assert line["bytes_out"] > BIG
    assert line["duration_s"] >= line["latency_s"]
    assert tunnels(edge) == [0]


# ---- the switch ----


def test_the_heads_of_both_sides_arrive_with_upgrade_and_without_what_is_hop_by_hop(edge: LiveEdge) -> None:
    with Script(switching(echoes)) as backend, edge.client() as client:
        edge.configure(backend)
        fields = b"Connection: keep-alive, Upgrade, X-Hop\r\nKeep-Alive: 5\r\nUpgrade: chat/1\r\nX-Hop: 1\r\nX-End: 2\r\n"
        client.send(request(headers=fields))
        answer = client.answer()
        sent = backend.requests[0]
    assert answer.status == 101
    assert (answer.all(b"connection"), answer.all(b"upgrade"), answer.all(b"x-kept")) == ([b"Upgrade"], [b"chat/1"], [b"yes"])
    assert answer.get(b"transfer-encoding") is None
    assert b"Connection: Upgrade\r\nUpgrade: chat/1\r\n" in sent
    assert sent.lower().count(b"connection:") == sent.lower().count(b"upgrade:") == 1
    assert b"X-End: 2" in sent
    assert b"X-Hop" not in sent
    assert b"Keep-Alive" not in sent


def test_bytes_that_came_behind_the_heads_are_carried_first(edge: LiveEdge) -> None:
    with Script(switching(echoes, SWITCHES + b"welcome ")) as backend, edge.client() as client:
        edge.configure(backend)
        open_tunnel(edge, client, behind=b"early ")
        assert client.stream.exactly(14) == b"welcome early "
        assert says_back(client, b"later") == b"later"


def test_a_content_length_in_a_101_is_taken_out(own: LiveEdge) -> None:
    answer = head(101, [("Connection", "Upgrade"), ("Content-Length", "0"), ("Upgrade", "chat/1")])
    with Script(switching(echoes, answer)) as backend, own.client() as client:
        own.configure(backend)
        client.send(request(headers=ASKS))
        assert client.answer().get(b"content-length") is None
        assert says_back(client, b"x") == b"x"


def test_a_body_goes_out_before_the_switch(own: LiveEdge) -> None:
    """As Docker's `POST /exec/ID/start` does."""
    with Script(switching(echoes)) as backend, own.client() as client:
        own.configure(backend)
        client.send(request(method=b"POST", headers=ASKS, body=b'{"Detach": false}') + b"raw")
        assert client.answer(b"POST").status == 101
        assert client.stream.exactly(3) == b"raw"
        assert backend.requests[0].endswith(b'\r\n\r\n{"Detach": false}')
        client.half_close()
        assert client.rest() == b" and goodbye"
        assert own.log(method="POST", path="/")["bytes_in"] == 17 + 3


@pytest.mark.parametrize(("status", "body"), [(200, b"hello\n"), (400, b"no\n"), (426, b"")])
def test_a_backend_that_does_not_switch_has_just_answered(own: LiveEdge, status: int, body: bytes) -> None:
    with Script(answers(status, body=body)) as backend, own.client() as client:
        own.configure(backend)
        for _ in range(2):
            client.send(request(headers=ASKS))
            answer = client.answer()
            assert (answer.status, answer.body) == (status, body)
        client.send(request(b"/after"))
        assert client.answer().status == status
        assert b"Upgrade" not in backend.requests[2]


@pytest.mark.parametrize(
    "raw",
    [
        request(headers=b"Connection: Upgrade\r\nUpgrade: h2c\r\n"),
        request(headers=b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: H2C\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"),
        request(headers=b"Connection: Upgrade\r\nUpgrade: h2c/1\r\nUpgrade: TLS/1.0, HTTP/2.0\r\n"),
        request(headers=b"Upgrade: chat/1\r\n"),
        request(headers=b"Connection: keep-alive\r\nUpgrade: chat/1\r\n"),
        request(headers=b"Connection: Upgrade\r\nUpgrade: chat 1\r\n"),
        request(method=b"POST", headers=b"Connection: Upgrade\r\nUpgrade: websocket\r\n"),
        b"GET / HTTP/1.0\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: chat/1\r\n\r\n",
    ],
    ids=["h2c", "h2c with settings", "others that carry HTTP", "not named", "not named by name", "no token", "POST", "HTTP/1.0"],
)
def test_upgrades_that_end_here(edge: LiveEdge, raw: bytes) -> None:
    """What would carry requests past the edge (h2c smuggling) is never offered to a backend."""
    with Script(answers()) as backend, edge.client() as client:
        edge.configure(backend)
        client.send(raw)
        assert client.answer().body == b"hello\n"
        sent = backend.requests[0].lower()
    assert b"upgrade" not in sent
    assert b"http2-settings" not in sent


def test_only_what_may_go_on_of_a_list_does(own: LiveEdge) -> None:
    with Script(answers()) as backend:
        own.configure(backend)
        own.ask(headers=b"Connection: Upgrade\r\nUpgrade: h2c, websocket\r\nUpgrade: chat/1\r\n")
        assert b"\r\nUpgrade: websocket, chat/1\r\n" in backend.requests[0]


def test_a_backend_that_switches_unasked_is_a_bad_gateway(own: LiveEdge) -> None:
    with Script(says(SWITCHES)) as backend:
        own.configure(backend, retry={"attempts": 1})
        assert own.ask().status == 502


# ---- retries ----


def test_an_answer_that_counts_as_a_failure_is_not_repeated_either(own: LiveEdge) -> None:
    with Script(answers(503)) as first, Script(answers(503)) as second:
        own.configure(first, second)
        assert own.ask(headers=ASKS).status == 503
        assert len(first.requests + second.requests) == 1


def test_another_backend_is_asked_when_one_cannot_be_reached(own: LiveEdge) -> None:
    with refused_port() as port, Script(switching(echoes)) as backend, own.client() as client:
        own.configure(f"http://127.0.0.1:{port}", backend)
        for _ in range(2):
            with own.client() as client:
                open_tunnel(own, client)
                assert says_back(client, b"x") == b"x"


# ---- carrying ----


def test_each_side_may_finish_first_and_still_read(edge: LiveEdge) -> None:
    def finishes_first(call: Call) -> None:
        call.send(b"the end")
        call.sock.shutdown(socket.SHUT_WR)
        while call.stream.fill():
            pass
        heard.append(call.stream.take(len(call.stream.buffer)))

    heard: list[bytes] = []
    with Script(switching(finishes_first)) as backend, edge.client() as client:
        edge.configure(backend)
        open_tunnel(edge, client)
        assert client.rest() == b"the end"
        client.send(b"still heard")
        client.half_close()
        wait_until(lambda: heard == [b"still heard"], 5, "the rest at the backend")
        assert edge.log(status=101).get("error") is None

    with Script(switching(echoes)) as backend, edge.client() as client:
        edge.configure(backend)
        open_tunnel(edge, client)
        client.send(b"bye")
        client.half_close()
        assert client.rest() == b"bye and goodbye"
        assert edge.log(status=101).get("error") is None


def test_a_side_that_takes_nothing_holds_up_the_other(edge: LiveEdge) -> None:
    """What is held are the kernel's buffers and one read, whatever is sent."""
    with Script(switching(stalls)) as backend, edge.client(timeout=0.5) as client:
        edge.configure(backend)
        open_tunnel(edge, client)
        before, sent = edge.memory_bytes(), 0
        with contextlib.suppress(TimeoutError):
            while sent < 200 * MEGABYTE:
                sent += client.sock.send(bytes(MEGABYTE))
        assert sent < 100 * MEGABYTE
        assert edge.memory_bytes() - before < 10 * MEGABYTE


def test_much_goes_both_ways_at_once_and_arrives_whole(edge: LiveEdge) -> None:
    with Script(switching(echoes)) as backend, edge.client() as client:
        edge.configure(backend)
        open_tunnel(edge, client)
        piece, count = bytes(range(256)) * 256, 100
        for _ in range(count):
            client.send(piece)  # 6 MB against echoes that nobody reads yet would stand still
            assert client.stream.exactly(len(piece)) == piece
        assert metric(edge, "smartedge_received_bytes_total") >= count * len(piece)  # while it is open


# ---- how it ends ----


@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_client_that_leaves_ends_it_at_the_backend(edge: LiveEdge, how: str) -> None:
    with Script(switching(stalls)) as backend:
        edge.configure(backend)
        client = edge.client()
        open_tunnel(edge, client)
        assert backend.open_connections == 1
        getattr(client, how)()
        wait_until(lambda: backend.open_connections == 0, 5, "the backend to be left")
        edge.log(status=101, backend=edge.backends()[0]["id"])  # an earlier tunnel's line may still be in the writing


def test_a_backend_that_breaks_off_breaks_the_client_off(own: LiveEdge) -> None:
    """A clean end would say that all has come."""

    def breaks(call: Call) -> None:
        call.stream.exactly(4)
        call.reset()

    with Script(switching(breaks)) as backend, own.client() as client:
        own.configure(backend)
        open_tunnel(own, client)
        client.send(b"now!")
        client.rest()
        assert client.stream.was_reset
        line = own.log(status=101)
        assert line["error"] == "The backend broke the tunnel's connection."
        assert own.backends()[0]["failed"] == 0  # it had answered, and how a tunnel ends is its own affair


def test_one_that_carries_nothing_is_ended_in_time(edge: LiveEdge) -> None:
    with Script(switching(echoes)) as backend, edge.client() as client:
        edge.configure(backend, timeouts={"tunnel_idle_s": 1})
        open_tunnel(edge, client)
        assert says_back(client, b"x") == b"x"
        assert client.rest() in (b"", b" and goodbye")
        assert edge.log(status=101)["error"] == "Not a byte went either way for 1 s."


def test_one_that_carries_something_one_way_only_goes_on(edge: LiveEdge) -> None:
    def talks(call: Call) -> None:
        while not call.script.stopping.is_set():
            call.send(b".")
            call.pause(0.3)

    with Script(switching(talks)) as backend, edge.client() as client:
        edge.configure(backend, timeouts={"tunnel_idle_s": 1})
        open_tunnel(edge, client)
        assert client.stream.exactly(9) == b"." * 9  # 2.4 s


def test_one_side_alone_may_be_silent_for_idle_s_only(edge: LiveEdge) -> None:
    """A client that is gone looks like one that has finished: it is not waited for as long as a living one."""
    with Script(switching(stalls)) as backend, edge.client() as client:
        edge.configure(backend, timeouts={"idle_s": 1})
        backend.act = switching(lambda call: call.pause(30))
        open_tunnel(edge, client)
        client.half_close()
        assert client.rest() == b""
        assert edge.log(status=101)["error"] == "Not a byte went either way for 1 s."


# ---- reloads and the end ----


def test_a_tunnel_survives_reloads_and_the_removal_of_its_backend(edge: LiveEdge) -> None:
    with Script(switching(echoes)) as backend, Script() as another, edge.client() as client:
        edge.configure(backend)
        open_tunnel(edge, client)
        edge.configure(another)
        assert says_back(client, b"still here") == b"still here"
        client.half_close()
        assert client.rest() == b" and goodbye"


def test_a_removed_backend_keeps_its_tunnels_for_drain_s(edge: LiveEdge) -> None:
    with Script(switching(echoes)) as backend, Script() as another, edge.client() as client:
        edge.configure(backend, drain_s=0.5)
        open_tunnel(edge, client)
        edge.configure(another, drain_s=0.5)
        assert says_back(client, b"x") == b"x"
        assert client.rest() in (b"", b" and goodbye")
        assert edge.log(status=101)["error"] == "Its backend was removed, and drain_s is over."


def test_it_is_counted_while_it_is_open_and_once(edge: LiveEdge) -> None:
    with Script(switching(echoes)) as backend:
        edge.configure(backend)
        with edge.client() as one, edge.client() as two:
            open_tunnel(edge, one)
            open_tunnel(edge, two)
            assert metric(edge, "smartedge_tunnels_total") == metric(edge, "smartedge_backend_open_tunnels") == 2
            assert (edge.backends()[0]["in_flight"], edge.backends()[0]["requests"]) == (2, 2)
        edge.settled()
        assert metric(edge, "smartedge_backend_open_tunnels") == 0
        assert metric(edge, "smartedge_tunnels_total") == 2
        row = edge.backends()[0]
        assert (row["requests"], row["ok"], row["failed"], row["abandoned"]) == (2, 2, 0, 0)


@pytest.mark.parametrize("server", [OWN, GEVENT])
def test_a_stop_gives_tunnels_their_time_and_then_ends_them(server: str, tmp_path: Path) -> None:
    arguments = () if server == OWN else ("--graceful-timeout", "6")
    with (
        Script(switching(echoes)) as backend,
        start_edge(tmp_path, backend, server=server, arguments=arguments, shutdown_grace_s=1) as edge,
        edge.client() as client,
    ):
        open_tunnel(edge, client)
        edge.process.process.send_signal(signal.SIGTERM)
        wait_until(lambda: _refuses(edge), 5, "the listener to be closed")
        assert says_back(client, b"still here") == b"still here"
        assert client.rest() in (b"", b" and goodbye")
        edge.process.wait(10)
        lines = [json.loads(line) for line in edge.log_text().splitlines()]
        ended = [line["error"] for line in lines if line["status"] == 101]
        assert ended == ["The edge ended the tunnel."]
        assert "Traceback" not in edge.process.output


def _refuses(edge: LiveEdge) -> bool:
    try:
        socket.create_connection(("127.0.0.1", edge.port), 1).close()
    except ConnectionRefusedError:
        return True
    return False


def test_with_hooks_of_its_users_the_app_tunnels_too(tmp_path: Path) -> None:
    (tmp_path / "hooked.py").write_text(
        "from smartedge import create_app as make\n"
        "def create_app():\n"
        "    app = make()\n"
        "    app.after_request(lambda response: response)\n"
        "    return app\n"
    )
    for server in (WORKER, GEVENT):
        directory = tmp_path / server
        directory.mkdir()
        with (
            Script(switching(echoes, SWITCHES + b"hi ")) as backend,
            start_edge(
                directory, backend, server=server, arguments=("--pythonpath", str(tmp_path)), app="hooked:create_app()"
            ) as edge,
            edge.client() as client,
        ):
            open_tunnel(edge, client, behind=b"x")
            assert client.stream.exactly(4) == b"hi x"
            client.half_close()
            assert client.rest() == b" and goodbye"
            edge.settled()
            assert "Traceback" not in edge.process.output


def test_descriptors_are_as_before_after_a_hundred_tunnels(edge: LiveEdge) -> None:
    ends: list[Callable[[Client], object]] = [Client.close, Client.reset, Client.half_close]
    with Script(switching(echoes)) as backend:
        edge.configure(backend)
        edge.ask()
        edge.settled()
        before = edge.descriptors()
        for number in range(100):
            with edge.client() as client:
                open_tunnel(edge, client)
                ends[number % 3](client)
        edge.settled()
        wait_until(lambda: len(edge.descriptors()) <= len(before) + 1, 5, f"no more than {before}")


@pytest.mark.parametrize("take_over", [True, False])
def test_a_tunnel_that_outlasts_its_worker_of_gunicorns_has_its_line(tmp_path: Path, take_over: bool) -> None:
    """Where gunicorn keeps its connections it had none."""
    arguments = ("--graceful-timeout", "1")
    with (
        Script(switching(echoes)) as backend,
        start_edge(tmp_path, backend, server=GEVENT, arguments=arguments, shutdown_grace_s=60, take_over=take_over) as edge,
        edge.client() as client,
    ):
        open_tunnel(edge, client)
        assert says_back(client, b"hello") == b"hello"
        os.kill(edge.worker_pid(), signal.SIGTERM)
        assert client.rest() == b""
        line = edge.log(status=101)
        assert (line["bytes_in"], line["bytes_out"], line["error"]) == (5, 5, "The edge ended the tunnel.")
