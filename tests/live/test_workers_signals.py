"""What gunicorn's signals do to an edge of several workers under load: no request is lost."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from smartedge.workers.identity import sockets_of
from tests.live.acts import answers
from tests.live.edges import GEVENT, OWN, WORKER, LiveEdge, document_of, first_piece, request, start_edge
from tests.live.peers import Call, Client, Script
from tests.live.processes import wait_until
from tests.live.steady import SteadyLoad

pytestmark = pytest.mark.timeout(120)


@contextlib.contextmanager
def many(directory: Path, server: str, backend: Script, workers: int = 2, *arguments: str) -> Iterator[LiveEdge]:
    """An edge of several workers."""
    count = ("--workers", str(workers)) if server == OWN else ("-w", str(workers))
    with start_edge(directory, backend, server=server, arguments=(*count, *arguments)) as edge:
        wait_until(lambda: len(pids(edge)) == workers, 30, "all workers")
        yield edge


def pids(edge: LiveEdge) -> set[int]:
    """The workers' process numbers."""
    return {worker["pid"] for worker in edge.status()["workers"]}


@contextlib.contextmanager
def lossless(edge: LiveEdge) -> Iterator[SteadyLoad]:
    """A load that fails the test if anything of it does."""
    with SteadyLoad(edge.port, clients=6) as load:
        wait_until(lambda: load.answered > 50, 20, "the load")
        yield load
        before = load.answered
        wait_until(lambda: load.answered > before + 50, 20, "the load to go on")
    assert load.failures == [], f"{load.failures[:5]}\n{edge.process}"


@pytest.mark.parametrize("server", [GEVENT, WORKER])
def test_hup_replaces_the_workers_of_a_bare_gunicorn_with_what_the_file_says_now(tmp_path: Path, server: str) -> None:
    with Script(answers()) as backend, many(tmp_path, server, backend) as edge, lossless(edge):
        old = pids(edge)
        file = tmp_path / "backends.json"
        document = json.loads(file.read_text())
        document["backends"][0]["weight"] = 7
        file.write_text(json.dumps(document))
        os.kill(edge.process.pid, signal.SIGHUP)
        wait_until(lambda: len(pids(edge)) == 2 and not pids(edge) & old, 40, "other workers")
        # A worker is listed from the moment it has its slot, and confirms what it has applied a moment later.
        wait_until(lambda: {worker["generation"] for worker in edge.status()["workers"]} == {2}, 20, "all to have the second")
        status = edge.status()
        assert status["generation"] == 2
        assert status["backends"][0]["weight"] == 7
        assert edge.process.output.count("🔄") == 1


@pytest.mark.parametrize("server", [GEVENT, OWN])
def test_workers_come_and_go_and_nothing_is_lost(tmp_path: Path, server: str) -> None:
    with Script(answers()) as backend, many(tmp_path, server, backend) as edge, lossless(edge):
        os.kill(edge.process.pid, signal.SIGTTIN)
        wait_until(lambda: len(pids(edge)) == 3, 30, "a third worker")
        for _ in range(2):
            now = len(pids(edge))
            os.kill(edge.process.pid, signal.SIGTTOU)
            wait_until(lambda now=now: len(pids(edge)) == now - 1, 30, "one worker less")
        assert len(pids(edge)) == 1


@pytest.mark.parametrize("server", [GEVENT, OWN])
def test_a_client_of_a_worker_that_goes_may_ask_once_more_on_its_connection(tmp_path: Path, server: str) -> None:
    """Such connections were closed at once: whoever sent a request just then lost it."""
    with contextlib.ExitStack() as stack:
        edge = stack.enter_context(many(tmp_path, server, stack.enter_context(Script(answers()))))
        clients: list[Client] = []
        workers = pids(edge)
        for other in workers:
            os.kill(other, signal.SIGSTOP)  # so that each worker has some
            try:
                fresh = [stack.enter_context(edge.client()) for _ in range(4)]
                assert not any(closes(client) for client in fresh)
            finally:
                os.kill(other, signal.SIGCONT)
            clients += fresh
        listener = frozenset.intersection(*map(open_sockets, workers))
        os.kill(edge.process.pid, signal.SIGTTOU)
        wait_until(lambda: any(listener - open_sockets(pid) for pid in workers), 30, "one worker to listen no more")
        assert sum(closes(client) for client in clients) == 4


def open_sockets(pid: int) -> frozenset[str]:
    """The names of a process's sockets."""
    found = sockets_of(pid)
    assert found is not None
    return found


def closes(client: Client) -> bool:
    """Ask on a connection, and say whether it was the last time."""
    client.send(b"GET / HTTP/1.1\r\nHost: edge.test\r\n\r\n")
    answer = client.answer()
    assert answer.status == 200
    return answer.get(b"connection") == b"close"


def test_usr2_starts_from_the_file_also_with_preload(tmp_path: Path) -> None:
    with Script(answers()) as old, Script(answers()) as new, many(tmp_path, WORKER, old, 2, "--preload") as edge:
        before = pids(edge)
        (tmp_path / "backends.json").write_text(json.dumps(document_of(tmp_path, new)))
        os.kill(edge.process.pid, signal.SIGUSR2)
        wait_until(lambda: any(not pids(edge) & before for _ in range(5)), 40, "the second edge to answer")
        os.kill(edge.process.pid, signal.SIGTERM)
        assert edge.process.wait(40) == 0
        wait_until(lambda: len(pids(edge)) == 2 and not pids(edge) & before, 20, "only the second edge")
        assert [backend["url"] for backend in edge.status()["backends"]] == [new.url]


def test_usr2_to_a_bare_gunicorn_starts_a_second_edge_on_the_same_port_and_the_first_one_can_go(tmp_path: Path) -> None:
    with Script(answers()) as backend, many(tmp_path, GEVENT, backend) as edge, lossless(edge):
        old = pids(edge)
        os.kill(edge.process.pid, signal.SIGUSR2)
        home = tmp_path / "state"
        wait_until(lambda: len([path for path in home.glob("*/*") if path.is_dir()]) == 2, 40, "the second edge's directory")
        wait_until(lambda: any(not pids(edge) & old for _ in range(5)), 40, "the second edge to answer")
        os.kill(edge.process.pid, signal.SIGTERM)
        assert edge.process.wait(40) == 0
        wait_until(lambda: len(pids(edge)) == 2 and not pids(edge) & old, 20, "only the second edge")
        wait_until(lambda: len([path for path in home.glob("*/*") if path.is_dir()]) == 1, 20, "the first edge's directory to go")


@pytest.mark.parametrize("server", [GEVENT, WORKER, OWN])
def test_sigterm_lets_requests_end_and_idle_clients_do_not_hold_it_up(tmp_path: Path, server: str) -> None:
    stopped: list[bool] = []

    def act(call: Call) -> None:
        while call.request():
            call.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst")
            wait_until(lambda: stopped, 10)
            call.send(b"last.")

    with Script(act) as backend, many(tmp_path, server, backend) as edge:
        idle = [edge.client(), edge.client()]
        used = edge.client()
        used.send(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
        assert used.answer().status == 200
        with edge.client(20) as busy:
            busy.send(request())
            first_piece(busy, b"first")
            os.kill(edge.process.pid, signal.SIGTERM)
            wait_until(lambda: not accepts(edge), 10, "the listener to close")
            began = time.monotonic()
            stopped.append(True)
            assert busy.answer().body == b"firstlast."
        assert edge.process.wait(20) == 0
        # gunicorn's own loop waits for idle clients as long as its `keepalive`, 2 s unless told otherwise.
        assert time.monotonic() - began < 8
        for client in (*idle, used):
            client.close()
        assert "Traceback" not in edge.process.output


def accepts(edge: LiveEdge) -> bool:
    """Whether somebody listens."""
    try:
        Client(edge.port, timeout=2).close()
    except OSError:
        return False
    return True
