"""Events and the history with several workers: one stream, which outlives any of them, and the command that follows it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.live.edges import GEVENT, LiveEdge, start_edge
from tests.live.peers import Script
from tests.live.processes import ROOT, ask, free_port, running, wait_until

STREAMS = 50
WAIT_S = 60.0

pytestmark = pytest.mark.timeout(240)


class Stream:
    """A client that follows events, on a connection of its own."""

    def __init__(self, port: int, query: str = "") -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), WAIT_S)
        request = f"GET /smartedge/events{query} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n"
        self.sock.sendall(request.encode())
        self.sock.setblocking(False)
        self.received = b""
        self.is_over = False

    def events(self) -> list[dict[str, Any]]:
        """What has come so far."""
        with contextlib.suppress(BlockingIOError):
            while not self.is_over:
                piece = self.sock.recv(65536)
                self.is_over = not piece
                self.received += piece
        lines = self.received.split(b"\n")[:-1]
        return [json.loads(line.removeprefix(b"data: ")) for line in lines if line.startswith(b"data: ")]

    def texts(self, kind: str) -> list[str]:
        return [event["text"] for event in self.events() if event["kind"] == kind]


@pytest.fixture
def edge(tmp_path: Path) -> Iterator[LiveEdge]:
    """Two workers of bare gunicorn; a grace that a test would notice if it were waited for."""
    with (
        Script() as backend,
        start_edge(
            tmp_path, backend, server=GEVENT, arguments=("-w", "2", "--graceful-timeout", "100"), shutdown_grace_s=100
        ) as started,
    ):
        wait_until(lambda: len(started.status()["workers"]) == 2, WAIT_S, "both workers")
        yield started


def told(edge: LiveEdge, kind: str) -> list[dict[str, Any]]:
    return [event for event in edge.admin("/smartedge/events?limit=1000").json()["events"] if event["kind"] == kind]


def requests_told(edge: LiveEdge) -> int:
    """How many requests the history has of the service, by whichever worker answers."""
    requests = edge.admin("/smartedge/history").json()["services"]["default"]["requests"]
    return sum(number or 0 for number in requests)


def test_all_hear_the_same_whichever_worker_they_are_with_and_whichever_dies(edge: LiveEdge) -> None:
    wait_until(lambda: len(told(edge, "started")) == 2, WAIT_S, "both to say that they serve")
    (backend,) = edge.backends()
    streams = [Stream(edge.port) for _ in range(STREAMS)]
    wait_until(lambda: all(not stream.events() and b"retry:" in stream.received for stream in streams), WAIT_S, "all streams")
    for action in ("drain", "enable"):
        assert edge.admin(f"/smartedge/backends/{backend['id']}/{action}", "POST").status == 200
    words = [f"{backend['id']} was {word} by 127.0.0.1" for word in ("drained", "enabled")]
    wait_until(lambda: all(stream.texts("state_changed") == words for stream in streams), WAIT_S, "all to hear of both")

    for _ in range(20):
        assert ask(edge.url).status == 200
    leader = edge.leader()
    before = edge.admin("/smartedge/events?limit=1000").json()["events"]
    os.kill(leader["pid"], signal.SIGKILL)
    died = f"worker {leader['slot']} (process {leader['pid']}) has died: it was killed, or ended without a word"

    def survivors() -> list[Stream]:
        return [stream for stream in streams if not stream.is_over]

    wait_until(
        lambda: survivors() and all(stream.texts("worker_died") == [died] for stream in survivors()), WAIT_S, "that one has died"
    )
    wait_until(lambda: len(told(edge, "started")) == 3, WAIT_S, "another to serve")
    assert [event for event in edge.admin("/smartedge/events?limit=1000").json()["events"] if event in before] == before
    assert {stream.texts("leader_changed")[-1].partition(" leads")[0] for stream in survivors()} != {died.partition(" has")[0]}
    wait_until(lambda: requests_told(edge) >= 20, WAIT_S, "the history of all requests")
    assert requests_told(edge) == 20
    assert edge.process.stop(timeout_s=WAIT_S) == 0
    wait_until(lambda: all(stream.events() and stream.is_over for stream in streams), WAIT_S, "the streams to end")


def test_the_command_goes_on_over_a_restart_and_ends_without_a_word(tmp_path: Path) -> None:
    bind = f"127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "smartedge", "events", "--follow", "--url", f"http://{bind}"]
    with Script() as backend, contextlib.ExitStack() as edge:
        edge.enter_context(start_edge(tmp_path, backend, bind=bind))
        with running(command, r"  started  ", timeout_s=WAIT_S, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}) as follower:
            first = follower.wait_for(r"  started +(worker 0 \(process \d+\) serves)$", WAIT_S)[1]
            edge.close()
            follower.wait_for(r"^smartedge: no balancer answers at .*; waiting for it$", WAIT_S)
            edge.enter_context(start_edge(tmp_path, backend, bind=bind))
            wait_until(lambda: len([line for line in follower.lines if "  started  " in line]) == 2, WAIT_S, "the next edge")
            assert [line for line in follower.lines if first in line] == [follower.lines[0]]
            follower.interrupt()
            assert follower.wait(WAIT_S) == 130
            assert follower.lines[-1].startswith("20")
            assert "\x1b" not in follower.output
