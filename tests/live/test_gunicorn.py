"""Under gunicorn: that it runs as deployed, and that `-k gevent` is our own server's work, or gunicorn's where it is to be.

What holds under all servers is tested in the other files, for each of them. The differences here are those that
docs/deployment.md tells of; none of them may let a request through that two parsers read in two ways.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import threading
from pathlib import Path

import pytest

from tests.live.edges import GEVENT, WORKER, LiveEdge, first_piece, request, start_edge
from tests.live.peers import Call, Script, WireError, answers
from tests.live.processes import wait_until
from tests.refused import BAD_CHUNKS, CHUNKED, NEXT, POST, REFUSED


@pytest.fixture
def gevent(edge_of: object) -> LiveEdge:
    """The edge under `gunicorn -k gevent`."""
    return edge_of(GEVENT)  # type: ignore[operator, no-any-return]


@pytest.mark.parametrize("kind", [GEVENT, WORKER])
def test_bare_gunicorn_serves_probes_and_stops_with_0(tmp_path: Path, kind: str) -> None:
    with Script(answers()) as backend, start_edge(tmp_path, backend, server=kind) as edge:
        assert edge.ask().body == b"hello\n"
        assert f"✅ {backend.url} OK" in edge.process.output
        assert edge.process.stop(timeout_s=15) == 0
        assert "Traceback" not in edge.process.output


@pytest.mark.parametrize("kind", [GEVENT, WORKER])
def test_the_loops_start_before_the_first_request_also_with_preload(tmp_path: Path, kind: str) -> None:
    with Script(answers()) as backend, start_edge(tmp_path, backend, server=kind, arguments=("--preload",)) as edge:
        assert backend.probes > 0
        assert backend.requests == []
        assert edge.worker_pid() != edge.process.pid
        assert edge.ask().status == 200


@pytest.mark.parametrize("arguments", [(), ("--preload",)], ids=["", "preload"])
def test_a_client_that_came_before_the_worker_could_serve_is_our_servers(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """gunicorn listens while its worker still imports: what waits there is accepted in the loop's first round."""
    with (
        Script(answers(headers=[("Server", "backend/1")])) as backend,
        start_edge(tmp_path, backend, server=GEVENT, arguments=arguments, probed=False) as edge,
        contextlib.ExitStack() as stack,
    ):
        clients = [stack.enter_context(edge.client(60)) for _ in range(3)]
        for client in clients:
            client.send(request())
        for client in clients:
            assert client.answer().get(b"server") == b"backend/1"


@pytest.mark.parametrize("kind", [GEVENT, WORKER])
def test_sigterm_lets_a_request_in_flight_finish(tmp_path: Path, kind: str) -> None:
    def act(call: Call) -> None:
        call.request()
        call.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst")
        wait_until(lambda: stopped, 10)
        call.send(b"last.")

    stopped: list[bool] = []
    with Script(act) as backend, start_edge(tmp_path, backend, server=kind) as edge, edge.client() as client:
        client.send(request())
        first_piece(client, b"first")
        os.kill(edge.process.pid, signal.SIGTERM)
        edge.process.wait_for("Handling signal: term")
        stopped.append(True)
        assert client.answer().body == b"firstlast."
        assert edge.process.wait(15) == 0


def test_sigterm_cuts_no_connection_that_the_system_has_accepted(tmp_path: Path) -> None:
    """With gunicorn's own loop a dozen of these were reset, whose listener was closed before they had begun."""
    cut: list[object] = []

    def ask_until_nobody_listens() -> None:
        while True:
            try:
                client = edge.client(30)
            except ConnectionRefusedError:
                return
            except OSError as error:
                cut.append(error)
                continue
            with client:
                try:
                    client.send(request())
                    assert client.answer().body == b"hello\n"
                except (OSError, WireError) as error:
                    cut.append(error)

    with Script(answers()) as backend, start_edge(tmp_path, backend, server=GEVENT) as edge:
        clients = [threading.Thread(target=ask_until_nobody_listens) for _ in range(12)]
        for client in clients:
            client.start()
        wait_until(lambda: len(backend.requests) > 100, 30, "traffic")
        os.kill(edge.process.pid, signal.SIGTERM)
        for client in clients:
            client.join(60)
        assert cut == []
        assert edge.process.wait(30) == 0


def test_what_is_not_http_is_refused_and_never_forwarded(gevent: LiveEdge) -> None:
    with Script(answers()) as backend:
        gevent.configure(backend)
        for name, raw in REFUSED.items():
            with gevent.client() as client:
                client.send(raw)
                client.half_close()
                received = client.rest()
            assert re.match(rb"HTTP/1\.[012] (400|414|417|431|501|505) ", received) or not received, (name, received)
            assert backend.requests == [], name


def test_a_chunked_body_that_is_none_never_looks_complete_to_a_backend(gevent: LiveEdge) -> None:
    with Script(answers()) as backend:
        gevent.configure(backend, timeouts={"first_byte_s": 1})
        for name, raw in BAD_CHUNKS.items():
            with gevent.client() as client:
                client.send(CHUNKED + raw + NEXT)
                client.half_close()
                received = client.rest()
            assert b" 200 " not in received, name
            assert backend.requests == [], name
        gevent.settled()
        assert gevent.backends()[0]["failed"] == 0


def test_a_truncated_body_never_looks_complete_to_a_backend(gevent: LiveEdge) -> None:
    with Script(answers()) as backend:
        gevent.configure(backend)
        for raw in (POST + b"Content-Length: 10\r\n\r\nhalf", CHUNKED + b"5\r\nhello\r\n", CHUNKED + b"5\r\nhello\r\n0\r\n"):
            with gevent.client(5) as client:
                client.send(raw)
                client.half_close()
                client.rest()
        gevent.settled()
        assert backend.requests == []


def test_header_names_go_on_as_they_came_and_in_one_way_from_gunicorns_parser(gevent: LiveEdge) -> None:
    """gunicorn's parser gives names in capitals; their order and repetition stay."""
    with Script(answers()) as backend:
        for take_over, names in ((True, b"x-LOWER ETAG X-Twice x-twice"), (False, b"X-Lower Etag X-Twice X-Twice")):
            gevent.configure(backend, take_over=take_over)
            gevent.ask(headers=b"x-LOWER: 1\r\nETAG: 2\r\nX-Twice: a\r\nx-twice: b\r\n")
            assert b"%b: 1\r\n%b: 2\r\n%b: a\r\n%b: b\r\n" % tuple(names.split()) in backend.requests[-1]


def test_a_reload_gives_connections_to_gunicorns_loop_and_takes_them_again(gevent: LiveEdge) -> None:
    with Script(answers(headers=[("Server", "backend/1"), ("X-Kept", "1")])) as backend:
        for take_over, server in ((True, b"backend/1"), (False, b"gunicorn"), (True, b"backend/1")):
            gevent.configure(backend, take_over=take_over)
            answer = gevent.ask()
            assert (answer.get(b"server"), answer.get(b"x-kept")) == (server, b"1")


def test_a_script_name_header_changes_no_path(gevent: LiveEdge) -> None:
    """gunicorn takes SCRIPT_NAME from a header of 127.0.0.1's: the target goes on as it came all the same."""
    with Script(answers()) as backend:
        for take_over in (True, False):
            gevent.configure(backend, take_over=take_over)
            gevent.ask(b"/app/x", headers=b"SCRIPT_NAME: /app\r\n")
            assert backend.requests[-1].startswith(b"GET /app/x HTTP/1.1\r\n")


def test_pipelined_requests_are_answered_in_order(gevent: LiveEdge) -> None:
    with Script(answers()) as backend, gevent.client() as client:
        gevent.configure(backend)
        client.send(b"".join(request(b"/%d" % i) for i in range(10)))
        assert [client.answer().status for _ in range(10)] == [200] * 10
        assert [raw.split(b" ")[1] for raw in backend.requests] == [b"/%d" % i for i in range(10)]


def test_a_connection_is_not_used_again_after_a_body_that_was_not_read(gevent: LiveEdge) -> None:
    """What is left of it would be taken for the next request."""

    def act(call: Call) -> None:
        call.request(body=False)
        call.send(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        call.pause(0.2)

    with Script(act) as backend, gevent.client(5) as client:
        gevent.configure(backend)
        client.send(POST + b"Content-Length: 200000\r\n\r\n" + NEXT)
        assert client.answer().status == 413
        client.half_close()
        try:
            assert client.rest().count(b"HTTP/1.1 200") == 0
        except (OSError, WireError):
            pass
        assert not any(b"GET /smuggled" in raw[:20] for raw in backend.requests)
