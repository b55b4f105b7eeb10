"""SIGUSR2 to `smartedge run`: another program takes over on the same sockets, with no request lost and nothing forgotten."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from smartedge.balancer.cells import OWN_CELLS, SHARED_CELLS
from tests.live.acts import answers, says
from tests.live.edges import LiveEdge, document_of, first_piece, request, start_edge
from tests.live.peers import Call, Script
from tests.live.processes import ROOT, Running, ask, free_port, listens, running, wait_until
from tests.live.steady import SteadyLoad
from tests.live.tunnels import echoes, switching

pytestmark = pytest.mark.timeout(180)

ONE_OR_SEVERAL = pytest.mark.parametrize("workers", [1, 3])
FAILS = says(b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n")


def pids(edge: LiveEdge) -> set[int]:
    """The workers' process numbers, with those of a program that still ends."""
    return {worker["pid"] for worker in edge.status()["workers"]}


def main_pid(edge: LiveEdge, workers: int) -> int:
    """The process to which signals go: the only one, or the arbiter of several, once all of these are there."""
    wait_until(lambda: len(pids(edge)) >= workers, 20, "all workers")
    first = min(edge.status()["workers"], key=lambda worker: worker["uptime_s"])["pid"]
    parent = int(Path(f"/proc/{first}/stat").read_text().rpartition(")")[2].split()[1])
    return first if workers == 1 else parent


def count(workers: int) -> tuple[str, ...]:
    return ("--workers", str(workers))


def upgrade(edge: LiveEdge, old: int, workers: int) -> None:
    """Send the signal to a process, and wait until it has ended and others serve."""
    before, refusals = pids(edge), edge.process.output.count("did not take over")
    os.kill(old, signal.SIGUSR2)

    def is_followed() -> bool:
        assert edge.process.output.count("did not take over") == refusals, str(edge.process)
        return len(pids(edge)) == workers and not pids(edge) & before

    wait_until(is_followed, 30, "another program")
    wait_until(partial(has_ended, edge.process, old), 30, "the old one to end")


def has_ended(process: Running, pid: int) -> bool:
    """Whether a process has ended, though whoever started it may not have asked for it yet."""
    return pid not in process.members() or Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def goes_on(load: SteadyLoad) -> None:
    """Wait until more requests have been answered."""
    before = load.answered
    wait_until(lambda: load.answered > before + 50, 20, "the load to go on")


def start_edge_with(directory: Path, document: Mapping[str, Any], workers: int, *arguments: str, **how: Any) -> Any:
    """An edge with just this configuration."""
    (directory / "backends.json").write_text(json.dumps(document))
    return start_edge(directory, arguments=(*count(workers), *arguments), **how)


def services(*urls: Script) -> dict[str, Any]:
    """Two services: one of three backends, with sticky sessions; and one with a backend that fails."""
    good, bad = urls[:3], urls[3]
    return {
        "services": {
            "web": {
                "backends": [{"url": one.url, "id": name} for one, name in zip(good, "abc", strict=True)],
                "sticky": {"cookie": "edge"},
            },
            "bad": {
                "backends": [{"url": bad.url, "id": "bad"}, {"url": good[0].url, "id": "fine"}],
                "breaker": {"open_s": 200, "max_open_s": 200},
                "retry": {"statuses": [], "attempts": 1},
                "strategy": "round_robin",
            },
        },
        "routes": [{"path": "/bad", "to": "bad"}, {"to": "web"}],
        "shutdown_grace_s": 5,
    }


def known(edge: LiveEdge) -> dict[str, Any]:
    """What must not be forgotten."""
    document = edge.status()
    by_id = {one["id"]: one for service in document["services"].values() for one in service["backends"]}
    return {
        "breaker": by_id["bad"]["breaker"],
        "states": {name: one["state"] for name, one in by_id.items()},
        "weight": by_id["a"]["weight"],
        "health": {name: one["health"] for name, one in by_id.items()},
        "generation": document["generation"],
    }


def stuck_to(edge: LiveEdge, cookie: bytes) -> tuple[bytes, bytes | None]:
    """Which backend answers for a cookie, and the new one that it sets, if it does."""
    answer = edge.ask(headers=b"Cookie: " + cookie + b"\r\n")
    assert answer.status == 200
    return answer.body, answer.get(b"set-cookie")


@ONE_OR_SEVERAL
def test_nothing_is_lost_and_nothing_forgotten_twice_in_a_row(tmp_path: Path, workers: int) -> None:
    good = [Script(answers(body=name)) for name in (b"a", b"b", b"c")]
    with good[0] as a, good[1] as b, good[2] as c, Script(FAILS, health=answers()) as bad:
        (tmp_path / "backends.json").write_text(json.dumps(services(a, b, c, bad)))
        with start_edge(tmp_path, arguments=count(workers)) as edge:
            wait_until(lambda: len(pids(edge)) == workers, 30, "all workers")
            old = main_pid(edge, workers)
            asked = 0
            while known(edge)["breaker"] != "open":
                edge.ask(b"/bad")
                asked += 1
                assert asked < 100
            first = edge.ask()
            asked += 1
            cookie = (first.get(b"set-cookie") or b"").partition(b";")[0]
            other = next(name for name in (b"a", b"b", b"c") if name != first.body)
            assert edge.admin(f"/smartedge/services/web/backends/{other.decode()}/drain", "POST").status == 200
            assert edge.admin("/smartedge/services/web/backends/a/weight", "POST", body='{"weight": 3}').status == 200
            told = known(edge)
            with SteadyLoad(edge.port, clients=6) as load:
                wait_until(lambda: load.answered > 50, 20, "the load")
                for _ in range(2):
                    upgrade(edge, old, workers)
                    old = main_pid(edge, workers)
                    goes_on(load)
                    assert known(edge) == told
                    assert stuck_to(edge, cookie) == (first.body, None)
                    asked += 1
            assert load.failures == [], f"{load.failures[:5]}\n{edge.process}"
            edge.settled()
            assert edge.status()["totals"]["requests"] == load.answered + asked
            assert told["states"][other.decode()] == "draining"
            assert edge.process.output.count("has taken over") == 2
            assert edge.process.process.wait(10) == 0
            assert "Traceback" not in edge.process.output


@ONE_OR_SEVERAL
def test_requests_and_tunnels_of_the_old_program_end_in_it_in_its_time(tmp_path: Path, workers: int) -> None:
    go_on: list[bool] = []

    def slow(call: Call) -> None:
        while call.request():
            call.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst")
            wait_until(lambda: go_on, 30)
            call.send(b"last.")

    with (
        Script(slow) as one,
        Script(switching(echoes)) as tunnel,
        start_edge_with(
            tmp_path,
            {
                "services": {"web": {"backends": [one.url]}, "live": {"backends": [tunnel.url]}},
                "routes": [{"path": "/live", "to": "live"}, {"to": "web"}],
                "shutdown_grace_s": 4,
            },
            workers,
        ) as edge,
        edge.client(30) as busy,
        edge.client(30) as switched,
        edge.client(30) as idle,
    ):
        old = main_pid(edge, workers)
        busy.send(request())
        first_piece(busy, b"first")
        switched.send(request(b"/live", headers=b"Connection: Upgrade\r\nUpgrade: chat/1\r\n"))
        assert switched.answer().status == 101
        idle.send(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
        assert idle.answer().get(b"connection") is None
        os.kill(old, signal.SIGUSR2)
        wait_until(lambda: "has taken over" in edge.process.output, 60, f"the other program\n{edge.process}")

        def last_answer() -> bool:
            """Whether the connection, which nobody has closed, ends with this answer: the health is the edge's, which goes on."""
            idle.send(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
            health = idle.answer()
            assert health.status == 200
            return health.get(b"connection") == b"close"

        wait_until(last_answer, 5, "the old program's worker to end")
        switched.send(b"still here")
        first_piece(switched, b"still here")
        go_on.append(True)
        answer = busy.answer()
        assert (answer.body, answer.get(b"connection")) == (b"firstlast.", None)
        assert edge.process.wait(20) == 0  # the tunnel is cut, in the time that SIGTERM gives it
        assert edge.status()["workers"]


@ONE_OR_SEVERAL
def test_a_new_program_that_cannot_start_leaves_the_old_one_in_place_which_says_why(tmp_path: Path, workers: int) -> None:
    with Script(answers()) as backend, start_edge(tmp_path, backend, arguments=count(workers)) as edge:
        wait_until(lambda: len(pids(edge)) == workers, 30, "all workers")
        before, old, file = pids(edge), main_pid(edge, workers), tmp_path / "backends.json"
        good = file.read_text()
        package = tmp_path / "smartedge"
        with SteadyLoad(edge.port, clients=4) as load:
            file.write_text("{")
            os.kill(old, signal.SIGUSR2)
            refused = r"the new program did not take over, and this one serves on: .*backends.json: is not JSON"
            wait_until(lambda: re.search(refused, edge.process.output), 60, f"the reason\n{edge.process}")
            file.write_text(good)
            package.mkdir()
            (package / "__init__.py").write_text("this is no Python\n")
            os.kill(old, signal.SIGUSR2)
            told = "serves on: it ended with status 1 before it served" if workers == 1 else "serves on: it ended"
            wait_until(lambda: told in edge.process.output, 60, f"the second reason\n{edge.process}")
            assert "SyntaxError" in edge.process.output
            shutil.rmtree(package)
            assert pids(edge) == before
            upgrade(edge, old, workers)
        assert load.failures == [], edge.process.output


@ONE_OR_SEVERAL
def test_a_version_with_other_cells_goes_on_with_what_they_have_in_common(tmp_path: Path, workers: int) -> None:
    good = [Script(answers(body=name)) for name in (b"a", b"b", b"c")]
    with good[0] as a, good[1] as b, good[2] as c, Script(FAILS, health=answers()) as bad:
        (tmp_path / "backends.json").write_text(json.dumps(services(a, b, c, bad)))
        with start_edge(tmp_path, arguments=count(workers)) as edge:
            wait_until(lambda: len(pids(edge)) == workers, 30, "all workers")
            asked = 0
            while known(edge)["breaker"] != "open":
                edge.ask(b"/bad")
                asked += 1
            first = edge.ask()
            cookie = (first.get(b"set-cookie") or b"").partition(b";")[0]
            edge.admin("/smartedge/services/web/backends/b/drain", "POST")
            told = known(edge)
            shutil.copytree(ROOT / "smartedge", tmp_path / "smartedge", ignore=shutil.ignore_patterns("__pycache__", "*.so"))
            cells = tmp_path / "smartedge" / "balancer" / "cells.py"
            text = cells.read_text()
            for cells_of, name, number in (
                ("OWN_CELLS", "NEWEST_COUNTER", len(OWN_CELLS)),
                ("SHARED_CELLS", "NEWEST", len(SHARED_CELLS)),
            ):
                text = text.replace(f"\n{cells_of}: Final", f"\n{name}: Final = {number}\n{cells_of}: Final", 1)
            cells.write_text(text)
            first_file = tmp_path / "smartedge" / "__init__.py"
            first_file.write_text(re.sub(r'(?m)^__version__ = ".*"$', '__version__ = "99.0"', first_file.read_text()))
            with SteadyLoad(edge.port, clients=4) as load:
                wait_until(lambda: load.answered > 50, 20, "the load")
                upgrade(edge, main_pid(edge, workers), workers)
                assert known(edge) == told
                assert stuck_to(edge, cookie) == (first.body, None)
                goes_on(load)
            assert load.failures == [], edge.process.output
            assert "99.0" in edge.admin("/metrics").text
            edge.settled()
            wait_until(
                lambda: edge.status()["totals"]["requests"] == load.answered + asked + 2, 10, f"{load.answered} {asked} counted"
            )


@ONE_OR_SEVERAL
def test_the_new_program_reads_the_file_and_listens_on_all_that_the_old_one_did(tmp_path: Path, workers: int) -> None:
    """A unix socket is still there after both of them, until the last one ends."""
    http, admin = free_port(), tmp_path / "admin.sock"
    with Script(answers()) as backend:
        document = document_of(tmp_path, backend)
        certificate = ROOT / "tests" / "live" / "certs" / "localhost.pem"
        arguments = ("--admin-bind", f"unix:{admin}", "--http-bind", f"127.0.0.1:{http}", "--certfile", str(certificate))
        with start_edge_with(tmp_path, document, workers, *arguments, probed=False) as edge:
            wait_until(lambda: len(unix_status(admin)["workers"]) == workers, 30, "all workers")
            before = {one["pid"] for one in unix_status(admin)["workers"]}
            inode = admin.stat().st_ino
            document["backends"][0]["weight"] = 7
            (tmp_path / "backends.json").write_text(json.dumps(document))
            os.kill(edge.process.pid, signal.SIGUSR2)
            assert edge.process.wait(60) == 0
            status = unix_status(admin)
            assert status["generation"] == 2
            assert status["backends"][0]["weight"] == 7
            assert not {one["pid"] for one in status["workers"]} & before
            assert admin.stat().st_ino == inode
            assert ask(f"http://127.0.0.1:{http}/x", headers={"Host": "localhost"}).status in (301, 308)
            assert listens(edge.port)
            one = status["workers"][0]["pid"]
            parent = int(Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()[1])
            os.kill(one if workers == 1 else parent, signal.SIGTERM)
            wait_until(lambda: not admin.exists(), 20, "the socket to go with the last of them")


def unix_status(path: Path) -> dict[str, Any]:
    """What /api/status says at a unix socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(10)
        sock.connect(str(path))
        sock.sendall(b"GET /api/status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        data = b"".join(iter(lambda: sock.recv(65536), b""))
    document: dict[str, Any] = json.loads(data.partition(b"\r\n\r\n")[2])
    return document


STARTER = """
import os, socket, sys
port, path, *program = sys.argv[1:]
clients, pages = socket.create_server(("127.0.0.1", int(port))), socket.socket(socket.AF_UNIX)
pages.bind(path)
pages.listen()
os.dup2(os.dup2(clients.fileno(), 50), 3)
os.dup2(os.dup2(pages.fileno(), 51), 4)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(program[0], program)
"""
"""Does what a service manager does for a unit with two sockets."""


@ONE_OR_SEVERAL
def test_sockets_of_the_service_manager_are_handed_on_and_the_unit_follows(tmp_path: Path, workers: int) -> None:
    """LISTEN_FDS, then SIGUSR2: the manager hears which process is the main one now; its unix socket outlives all of us."""
    admin, notify, port = tmp_path / "admin.sock", tmp_path / "notify", free_port()
    with Script(answers()) as backend, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(notify))
        manager.settimeout(60)
        (tmp_path / "backends.json").write_text(json.dumps({"backends": [backend.url]}))
        program = [sys.executable, "-m", "smartedge", "run", *count(workers)]
        env = {
            "PYTHONPATH": str(ROOT),
            "SMARTEDGE_CONFIG": str(tmp_path / "backends.json"),
            "SMARTEDGE_STATE_DIR": str(tmp_path / "state"),
            "SMARTEDGE_ADMIN_BIND": f"unix:{admin}",
            "LISTEN_FDS": "2",
            "LISTEN_FDNAMES": "smartedge.socket:admin",
            "NOTIFY_SOCKET": str(notify),
        }
        starter = [sys.executable, "-c", STARTER, str(port), str(admin), *program]
        with running(starter, port, cwd=tmp_path, env=env) as first:
            assert manager.recv(4096).startswith(b"READY=1\n")
            wait_until(lambda: len(unix_status(admin)["workers"]) == workers, 30, "all workers")
            wait_until(lambda: ask(f"http://127.0.0.1:{port}/").status == 200, 30, "the first answer")
            pid = first.pid
            with SteadyLoad(port, clients=4) as load:
                for _ in range(2):
                    os.kill(pid, signal.SIGUSR2)
                    told = [b""]
                    while not told[-1].startswith(b"MAINPID="):
                        told.append(manager.recv(4096))
                        assert b"STOPPING" not in told[-1]
                    assert b"READY=1" in told[-1]
                    old, pid = pid, int(told[-1].split(b"\n")[0].partition(b"=")[2])
                    assert pid in first.members()
                    wait_until(partial(has_ended, first, old), 30, "the old one to end")
                goes_on(load)
            assert load.failures == [], str(first)
            os.kill(pid, signal.SIGTERM)
            while not manager.recv(4096).startswith(b"STOPPING=1"):
                pass
            wait_until(partial(has_ended, first, pid), 30, "the end")
            assert admin.exists()
