"""Stopping: SIGTERM finishes what is in flight and exits with 0, a second signal exits at once."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.live.edges import GEVENT, OWN, WORKER, first_piece, request, start_edge
from tests.live.peers import Call, Script, answers, never_answers
from tests.live.processes import listens, wait_until


class Slow:
    """A backend that answers when it is told to."""

    def __init__(self) -> None:
        self.go_on = threading.Event()

    def __call__(self, call: Call) -> None:
        while call.request():
            call.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst")
            self.go_on.wait(10)
            call.send(b"last.")


# gunicorn's own SIGINT is its quick stop.
@pytest.mark.parametrize(("server", "how"), [(OWN, signal.SIGTERM), (OWN, signal.SIGINT), (WORKER, signal.SIGTERM)])
def test_a_signal_ends_it_with_0_after_what_is_in_flight(tmp_path: Path, server: str, how: signal.Signals) -> None:
    slow = Slow()
    with Script(slow) as backend, start_edge(tmp_path, backend, server=server) as edge, edge.client() as client:
        client.send(request())
        first_piece(client, b"first")
        os.kill(edge.process.pid, how)
        wait_until(lambda: not listens(edge.port), 5, "the edge to stop listening")
        assert edge.process.process.poll() is None
        slow.go_on.set()
        assert client.answer().body == b"firstlast."
        assert client.rest() == b""
        assert edge.process.wait(10) == 0
        assert "Traceback" not in edge.process.output


def test_idle_connections_do_not_hold_it_up(tmp_path: Path) -> None:
    with Script(answers()) as backend, start_edge(tmp_path, backend) as edge, edge.client() as used, edge.client() as fresh:
        used.send(request())
        assert used.answer().status == 200
        started = time.monotonic()
        assert edge.process.stop() == 0
        assert time.monotonic() - started < 3  # keepalive_s is 75, the grace 10
        assert used.rest() == fresh.rest() == b""


def test_a_request_that_comes_in_with_the_signal_is_answered_and_told_to_close(tmp_path: Path) -> None:
    slow = Slow()
    with Script(slow) as backend, start_edge(tmp_path, backend) as edge, edge.client() as busy:
        busy.send(request() + request())  # the second waits behind the first
        first_piece(busy, b"first")
        os.kill(edge.process.pid, signal.SIGTERM)
        wait_until(lambda: not listens(edge.port), 5, "the edge to stop listening")
        slow.go_on.set()
        assert busy.answer().body == b"firstlast."
        second = busy.answer()
        assert (second.body, second.get(b"connection")) == (b"firstlast.", b"close")
        assert edge.process.wait(10) == 0


def test_a_second_signal_exits_at_once(tmp_path: Path) -> None:
    with Script(never_answers()) as backend, start_edge(tmp_path, backend) as edge, edge.client() as client:
        client.send(request())
        wait_until(lambda: backend.requests, 5, "the request at the backend")
        os.kill(edge.process.pid, signal.SIGTERM)
        wait_until(lambda: not listens(edge.port), 5, "the edge to stop listening")
        assert edge.process.process.poll() is None
        started = time.monotonic()
        os.kill(edge.process.pid, signal.SIGTERM)
        assert edge.process.wait(5) != 0
        assert time.monotonic() - started < 1


@pytest.mark.parametrize("workers", [(), ("--workers", "2")], ids=["run", "run --workers"])
def test_what_does_not_end_within_the_grace_is_cut_and_the_log_says_by_whom(tmp_path: Path, workers: tuple[str, ...]) -> None:
    """It said 499, the client left."""
    with (
        Script(never_answers()) as backend,
        start_edge(tmp_path, backend, arguments=workers, shutdown_grace_s=0.5, timeouts={"first_byte_s": 30}) as edge,
        edge.client() as client,
    ):
        client.send(request())
        wait_until(lambda: backend.requests, 5, "the request at the backend")
        started = time.monotonic()
        os.kill(edge.process.pid, signal.SIGTERM)
        assert client.answer().status == 503
        edge.process.wait(5)
        assert 0.4 < time.monotonic() - started < 4
        assert edge.log(status=503)["error"] == "The edge stopped before the answer was complete."


@pytest.mark.parametrize(("server", "take_over"), [(WORKER, True), (GEVENT, True), (GEVENT, False)])
def test_what_a_worker_of_gunicorns_cuts_at_its_end_is_logged_as_that(tmp_path: Path, server: str, take_over: bool) -> None:
    """Where gunicorn keeps its connections it kills the request's greenlet, and nobody is answered."""
    more: dict[str, Any] = {"take_over": take_over, "timeouts": {"first_byte_s": 30}}
    with (
        Script(never_answers()) as backend,
        start_edge(tmp_path, backend, server=server, arguments=("--graceful-timeout", "1"), **more) as edge,
        edge.client() as client,
    ):
        client.send(request())
        wait_until(lambda: backend.requests, 5, "the request at the backend")
        os.kill(edge.worker_pid(), signal.SIGTERM)
        if take_over:
            assert client.answer().status == 503
        line = edge.log(path="/")
        assert (line["status"], line["error"]) == (503, "The edge stopped before the answer was complete.")


def test_health_says_that_it_drains(tmp_path: Path) -> None:
    """A load balancer in front stops sending; an admin listener of its own answers until the end."""
    slow = Slow()
    with Script(slow) as backend, start_edge(tmp_path, backend) as edge, edge.client() as busy:
        busy.send(request() + b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        first_piece(busy, b"first")
        os.kill(edge.process.pid, signal.SIGTERM)
        wait_until(lambda: not listens(edge.port), 5, "the edge to stop listening")
        slow.go_on.set()
        assert busy.answer().status == 200
        health = busy.answer()
        assert health.status == 503
        assert b'"draining"' in health.body


def test_nothing_is_left_of_it(tmp_path: Path) -> None:
    with Script(answers()) as backend, start_edge(tmp_path, backend) as edge:
        edge.ask()
        assert edge.process.stop() == 0
        assert edge.process.members() == {}
        assert list((tmp_path / "state").rglob("slot-*")) == []
        wait_until(lambda: backend.open_connections == 0, 5, "its connections to be closed")


def test_no_request_fails_while_one_edge_takes_over_from_another(tmp_path: Path) -> None:
    """What a rolling restart does: the old one stops while its clients go on elsewhere."""
    with Script(answers()) as backend, start_edge(tmp_path, backend) as edge:
        failed: list[object] = []
        done = threading.Event()

        def client() -> None:
            """Keep asking on one connection; the end of the connection between two answers is no failure."""
            with edge.client() as connection:
                while not done.is_set():
                    try:
                        connection.send(request())
                        answer = connection.answer()
                    except OSError:
                        return
                    except Exception as error:
                        if connection.stream.buffer or connection.stream.taken:
                            failed.append(error)
                        return
                    if answer.status != 200:
                        failed.append(answer.raw)
                    if answer.get(b"connection") == b"close":
                        return

        clients = [threading.Thread(target=client) for _ in range(5)]
        for thread in clients:
            thread.start()
        wait_until(lambda: len(backend.requests) > 50, 5, "traffic")
        assert edge.process.stop() == 0
        done.set()
        for thread in clients:
            thread.join(5)
        assert failed == []


@pytest.mark.parametrize(("server", "take_over"), [(WORKER, True), (GEVENT, True), (GEVENT, False)])
def test_a_worker_that_hangs_is_replaced_and_what_it_cuts_is_logged(tmp_path: Path, server: str, take_over: bool) -> None:
    """Regression: gunicorn's SIGABRT ended the process where it stood, and no request had a line in the log."""
    (tmp_path / "own_hanging.py").write_text(
        "class Own:\n    def pick(self, candidates, now, rng, key):\n        while key == b'/hang':\n            pass\n"
        "        return candidates[0]\n"
    )
    more: dict[str, Any] = {"take_over": take_over, "strategy": "own_hanging:Own", "hash": {"by": "path"}}
    more["timeouts"] = {"first_byte_s": 30}
    with (
        Script(never_answers()) as backend,
        start_edge(tmp_path, backend, server=server, arguments=("--timeout", "3"), **more) as edge,
        edge.client() as waiting,
        edge.client() as hanging,
    ):
        before = edge.worker_pid()
        waiting.send(request(b"/waits"))
        wait_until(lambda: backend.requests, 5, "the request at the backend")
        hanging.send(request(b"/hang"))
        edge.process.wait_for(r"ERROR gunicorn ends this worker, whose loop has stood still at .*own_hanging\.py:\d, in pick")
        wait_until(lambda: edge.log_text().count("/waits") and edge.log_text().count("/hang"), 10, "their lines")
        for path in ("/waits", "/hang"):
            line = edge.log(path=path)
            assert (line["status"], line["error"]) == (503, "The edge stopped before the answer was complete.")
        wait_until(lambda: edge.worker_pid() != before, 20, "another worker")
