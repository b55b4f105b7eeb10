"""Several workers, asked one by one: whichever answers, it is the edge that answers."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from smartedge.workers.membership import STARTING_S
from smartedge.workers.state_dir import try_lock
from tests.live.acts import answers, says
from tests.live.edges import GEVENT, OWN, LiveEdge, document_of, first_piece, request, start_edge
from tests.live.peers import Call, Script, message, refused_port
from tests.live.processes import ROOT, ask, free_port, wait_until
from tests.live.steady import SteadyLoad

WORKERS = 3
KINDS = [GEVENT, OWN]
"""Bare gunicorn, and `run`, whose workers are EdgeWorkers under gunicorn's arbiter."""

pytestmark = pytest.mark.timeout(90)


@contextlib.contextmanager
def many(
    directory: Path, server: str, *backends: Script | str, arguments: tuple[str, ...] = (), **settings: Any
) -> Iterator[LiveEdge]:
    """An edge of several workers, all of which have begun."""
    count = ("--workers", str(WORKERS)) if server == OWN else ("-w", str(WORKERS))
    with start_edge(directory, *backends, server=server, arguments=(*count, *arguments), **settings) as edge:
        wait_until(lambda: [worker["generation"] > 0 for worker in workers(edge)] == [True] * WORKERS, 30, "all workers")
        yield edge


@pytest.fixture(scope="module", params=KINDS)
def started(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveEdge]:
    """An edge for the tests that leave it as it was."""
    with Script(answers()) as nobody, many(tmp_path_factory.mktemp("many"), request.param, nobody) as edge:
        yield edge


@pytest.fixture
def edge(started: LiveEdge) -> Iterator[LiveEdge]:
    """The same; after the test every lease must be back."""
    yield started
    started.settled()


def workers(edge: LiveEdge) -> list[dict[str, Any]]:
    """What any worker says of all of them."""
    found: list[dict[str, Any]] = edge.status()["workers"]
    return found


def everybody_says(edge: LiveEdge, what: Any) -> list[Any]:
    """The same question so often that each worker has very likely been asked."""
    return [what() for _ in range(8 * WORKERS)]


# --- reloads ---


def test_a_reload_by_one_worker_is_in_force_in_all_when_it_is_answered(edge: LiveEdge) -> None:
    with Script(answers(body=b"old")) as old, Script(answers(body=b"new")) as new:
        edge.configure(old)
        generation, said = edge.status()["generation"], edge.process.output.count("🔄")
        assert {edge.ask().body for _ in range(20)} == {b"old"}
        answer = edge.admin("/api/reload", "POST", body=json.dumps(document_of(edge.directory, new)))
        assert answer.status == 200, answer.text
        told = answer.json()
        assert told["workers"] == {"applied": WORKERS, "live": WORKERS}
        assert told["generation"] == generation + 1
        assert {edge.ask().body for _ in range(40)} == {b"new"}
        assert {worker["generation"] for worker in workers(edge)} == {generation + 1}
        wait_until(lambda: edge.process.output.count("🔄") > said, 5, "the line of the reload")
        assert edge.process.output.count("🔄") == said + 1


@pytest.mark.parametrize("server", [GEVENT])
def test_a_worker_that_replaces_a_dead_one_has_the_generation_not_the_file(tmp_path: Path, server: str) -> None:
    """An edited file, or a broken one, counts when somebody reloads it, and not when a worker happens to die."""
    with Script(answers()) as backend, many(tmp_path, server, backend) as edge:
        (tmp_path / "backends.json").write_text("{")
        victim = workers(edge)[0]["pid"]
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: len({w["pid"] for w in workers(edge)} - {victim}) == WORKERS, 30, "another worker")
        wait_until(lambda: {worker["generation"] for worker in workers(edge)} == {1}, 10, "it to begin")
        assert {edge.ask().status for _ in range(20)} == {200}
        assert edge.admin("/api/reload", "POST").status == 400


def test_preloaded_workers_are_one_edge_too(tmp_path: Path) -> None:
    """Their app was made in the arbiter, from the file as it was then."""
    with (
        Script(answers(body=b"old")) as old,
        Script(answers(body=b"new")) as new,
        many(tmp_path, GEVENT, old, arguments=("--preload",)) as edge,
    ):
        edge.admin("/api/reload", "POST", body=json.dumps(document_of(tmp_path, new)))
        victim = workers(edge)[0]["pid"]
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: len({w["pid"] for w in workers(edge)} - {victim}) == WORKERS, 30, "another worker")
        wait_until(lambda: {worker["generation"] for worker in workers(edge)} == {2}, 10, "it to begin")
        assert {edge.ask().body for _ in range(30)} == {b"new"}
        before = {worker["pid"] for worker in workers(edge)}
        (tmp_path / "backends.json").write_text(json.dumps(document_of(tmp_path, old)))
        os.kill(edge.process.pid, signal.SIGHUP)
        wait_until(lambda: len({w["pid"] for w in workers(edge)} - before) == WORKERS == len(workers(edge)), 30, "others")
        assert {edge.ask().body for _ in range(30)} == {b"old"}
        ids = re.findall(rb"(?i)\r\nx-request-id: *(\S+)", b"".join([*old.requests, *new.requests]))
        assert len(ids) == len(set(ids)) >= 60  # though they all have their ids from one arbiter


@pytest.mark.parametrize("server", [OWN])
def test_a_worker_that_was_stopped_is_named_and_catches_up(tmp_path: Path, server: str) -> None:
    with Script(answers()) as backend, many(tmp_path, server, backend) as edge:
        stopped = next(worker for worker in workers(edge) if not worker["leader"])
        stop_between_locks(stopped["pid"], tmp_path)
        try:
            body = json.dumps(document_of(tmp_path, {"url": backend.url, "weight": 3}))
            answer = wait_until(lambda: posted(edge, body), 20, "a worker that is not stopped to accept")
            assert answer.status == 202, answer.text
            assert answer.json()["workers"] == {
                "applied": WORKERS - 1,
                "live": WORKERS,
                "late": [{"slot": stopped["slot"], "pid": stopped["pid"]}],
            }
        finally:
            os.kill(stopped["pid"], signal.SIGCONT)
        wait_until(lambda: {worker["generation"] for worker in workers(edge)} == {2}, 10, "it to catch up")


def stop_between_locks(pid: int, directory: Path) -> None:
    """SIGSTOP a worker at a moment at which it keeps nobody out: it may have just begun, and still hold the lock for that."""
    (lock,) = directory.glob("state/*/*/reload.lock")

    def is_free() -> bool:
        os.kill(pid, signal.SIGSTOP)
        if (held := try_lock(lock)) is not None:
            os.close(held)
            return True
        os.kill(pid, signal.SIGCONT)
        return False

    wait_until(is_free, 10, "the worker to hold no lock")


def posted(edge: LiveEdge, body: str) -> Any:
    """A reload's answer; a stopped worker may have accepted the connection, which then times out."""
    return ask(f"{edge.url}/api/reload", "POST", body=body, timeout_s=5)


@pytest.mark.parametrize("server", [OWN])
def test_sighup_to_the_arbiter_reloads_and_replaces_nobody(tmp_path: Path, server: str) -> None:
    with Script(answers()) as backend, many(tmp_path, server, backend) as edge, SteadyLoad(edge.port, 4) as load:
        before = {worker["pid"] for worker in workers(edge)}
        file = tmp_path / "backends.json"
        right = file.read_text()
        file.write_text(right.replace('"backends"', '"strategy": "ewma", "backends"'))
        os.kill(edge.process.pid, signal.SIGHUP)
        edge.process.wait_for(r"generation 2 applied by 3/3 workers in \d+ ms; settings changed: strategy$")
        os.kill(edge.process.pid, signal.SIGHUP)
        edge.process.wait_for(r"unchanged: generation 2 has been in use$")
        file.write_text("{")
        os.kill(edge.process.pid, signal.SIGHUP)
        edge.process.wait_for(r"Z ERROR reload refused, nothing changed: ")
        assert {worker["pid"] for worker in workers(edge)} == before
        load.stop()
        assert load.failures == []
        assert edge.process.output.count("🔄") == 1


# --- health ---


@pytest.mark.parametrize("server", [GEVENT])
def test_one_worker_probes_for_all_and_another_one_when_it_dies(tmp_path: Path, server: str) -> None:
    health = {"interval_s": 0.5, "timeout_s": 2, "fall": 2, "rise": 1}
    with Script(answers()) as backend, many(tmp_path, server, backend, health=health) as edge:
        first = edge.leader()["pid"]
        began, probes = time.monotonic(), backend.probes
        wait_until(lambda: backend.probes >= probes + 6, 20, "six more probes")
        took_s = time.monotonic() - began
        assert took_s > 6 * 0.5 * 0.8, "three workers probe as often as one"
        os.kill(first, signal.SIGKILL)
        probes = backend.probes
        wait_until(lambda: backend.probes > probes, 10, "another one to probe")
        edge.leader(after=first)
        assert edge.process.output.count("✅") == 1, "what is known already is no news"


@pytest.mark.parametrize("server", [OWN])
def test_a_leader_that_is_stopped_is_stood_in_for(tmp_path: Path, server: str) -> None:
    health = {"interval_s": 0.3, "timeout_s": 2, "fall": 2, "rise": 1}
    with Script(answers()) as backend, many(tmp_path, server, backend, health=health) as edge:
        first = edge.leader()["pid"]
        os.kill(first, signal.SIGSTOP)
        try:
            probes = backend.probes
            wait_until(lambda: backend.probes > probes + 2, 15, "somebody else to probe")
            backend.health = says(message(503))
            edge.process.wait_for(f"❌ {backend.url} Offline")
        finally:
            os.kill(first, signal.SIGCONT)
        backend.health = answers()
        wait_until(lambda: edge.process.output.count("✅") == 2, 10, "it to be well again")
        assert edge.leader()["pid"] == first
        assert edge.process.output.count("❌") == 1


def test_a_flip_is_known_to_all_at_once_and_said_once(edge: LiveEdge) -> None:
    with Script(answers()) as well, Script(answers()) as ill:
        edge.configure(well, ill)
        ill.health = says(message(503))
        edge.process.wait_for(f"❌ {ill.url} Offline")
        asked = len(ill.requests)
        assert {edge.ask().status for _ in range(40)} == {200}
        assert len(ill.requests) == asked, "no worker sends it anything"
        said = everybody_says(edge, lambda: [b["health"] for b in edge.backends()])
        assert all(one == ["healthy", "unhealthy"] for one in said)
        assert edge.process.output.count(f"❌ {ill.url}") == 1


def test_a_worker_that_cannot_connect_has_the_leader_look(tmp_path: Path) -> None:
    health = {"interval_s": 30, "timeout_s": 2, "fall": 1, "rise": 1}
    with Script(answers()) as well, Script(answers()) as gone, many(tmp_path, OWN, well, gone, health=health) as edge:
        gone.refuse()
        with SteadyLoad(edge.port, 4):
            edge.process.wait_for(f"❌ {gone.url} Offline", timeout_s=15)


# --- what they know together ---


def test_any_worker_counts_for_the_whole_edge(edge: LiveEdge) -> None:
    with Script(answers()) as first, Script(answers()) as second:
        edge.configure(first, second)
        # Requests to backends of earlier tests are forgotten with those, a moment after the reload.
        wait_until(lambda: sum(worker["requests"] for worker in workers(edge)) == 0, 15, "earlier rows to be freed")
        before = edge.status()
        for _ in range(100):
            assert edge.ask().status == 200
        # A request is counted when its last byte has gone, which its client may know first.
        counted = before["totals"]["requests"] + 100
        wait_until(lambda: edge.status()["totals"]["requests"] == counted, 5, "the last one to be counted")
        for status in everybody_says(edge, edge.status):
            assert status["totals"]["requests"] == counted
            assert sum(worker["requests"] for worker in status["workers"]) == 100
            first_count, second_count = (backend["requests"] for backend in status["backends"])
            assert abs(first_count - second_count) <= 2 * WORKERS
        for text in everybody_says(edge, lambda: edge.admin("/metrics").text):
            assert sum(total_of(text, f'smartedge_requests_total{{backend="{b["id"]}"') for b in before["backends"]) == 100
            assert f"smartedge_workers {WORKERS}.0" in text


def total_of(text: str, name: str) -> float:
    """All samples of a metric, added up."""
    return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith((name + "{", name + ",")))


@pytest.mark.parametrize("server", [GEVENT])
def test_counters_survive_a_killed_worker_and_go_with_a_removed_backend(tmp_path: Path, server: str) -> None:
    with Script(answers()) as stays, Script(answers()) as goes, many(tmp_path, server, stays, goes) as edge:
        base = json.loads((tmp_path / "backends.json").read_text())
        for _ in range(40):
            edge.ask()
        edge.settled()
        victim = workers(edge)[0]["pid"]
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: len({w["pid"] for w in workers(edge)} - {victim}) == WORKERS, 30, "another worker")
        assert {total_of(edge.admin("/metrics").text, "smartedge_requests_total") for _ in range(10)} == {40}
        gone = base["backends"].pop()
        assert edge.admin("/api/reload", "POST", body=json.dumps(base)).status == 200
        texts = everybody_says(edge, lambda: edge.admin("/metrics").text)
        assert not any(f'backend="{gone["id"]}"' in text for text in texts)
        assert len({total_of(text, "smartedge_requests_total") for text in texts}) == 1
        (state,) = (tmp_path / "state").glob("*/*")
        wait_until(
            lambda: len(json.loads((state / "rows.json").read_text())) == 2, 10, "the row to be freed"
        )  # service and backend


def test_the_whole_edge_is_a_lame_duck_and_serves_on(edge: LiveEdge) -> None:
    with Script(answers()) as backend:
        edge.configure(backend)
        assert edge.admin("/smartedge/drain", "POST").json()["draining"] is True
        assert {answer.status for answer in everybody_says(edge, lambda: edge.admin("/health"))} == {503}
        assert edge.admin("/health").json()["status"] == "draining"
        assert {edge.ask().status for _ in range(20)} == {200}
        assert edge.admin("/smartedge/enable", "POST").json()["draining"] is False
        assert {answer.status for answer in everybody_says(edge, lambda: edge.admin("/health"))} == {200}


# --- smartedge run --workers ---


def test_run_looks_the_same_with_many_workers_as_with_one(tmp_path: Path) -> None:
    with Script(answers()) as backend, many(tmp_path, OWN, backend) as edge:
        assert edge.process.lines == [f"🚀 SmartEdge iniciado na porta {edge.port}", f"✅ {backend.url} OK"]
        assert edge.process.stop(timeout_s=20) == 0
        assert len(edge.process.lines) == 2
    (home,) = (tmp_path / "state").iterdir()
    assert list(home.iterdir()) == []


def test_control_c_lets_requests_end(tmp_path: Path) -> None:
    go_on: list[bool] = []

    def act(call: Call) -> None:
        while call.request():
            call.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst")
            wait_until(lambda: go_on, 10)
            call.send(b"last.")

    with Script(act) as backend, many(tmp_path, OWN, backend) as edge, edge.client(20) as client:
        client.send(request())
        first_piece(client, b"first")
        for pid in edge.process.members():
            os.kill(pid, signal.SIGINT)  # as a terminal does
        wait_until(lambda: edge.process.process.poll() is not None or not listening(edge), 10, "the listener to close")
        go_on.append(True)
        assert client.answer().body == b"firstlast."
        assert edge.process.wait(20) == 0
        assert "Traceback" not in edge.process.output


def listening(edge: LiveEdge) -> bool:
    """Whether somebody accepts."""
    try:
        edge.client(2).close()
    except OSError:
        return False
    return True


def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    def act(call: Call) -> None:
        call.request()
        call.stall()

    with Script(act) as backend, many(tmp_path, OWN, backend) as edge, edge.client() as client:
        client.send(request())
        wait_until(lambda: backend.requests, 10, "the request to get there")
        os.kill(edge.process.pid, signal.SIGTERM)
        wait_until(lambda: not listening(edge), 10, "the listener to close")
        os.kill(edge.process.pid, signal.SIGTERM)
        assert edge.process.wait(5) == 128 + signal.SIGTERM
        wait_until(lambda: not edge.process.members(), 10, "all workers to be gone")


def test_workers_whose_arbiter_is_killed_end(tmp_path: Path) -> None:
    with Script(answers()) as backend, many(tmp_path, OWN, backend) as edge:
        os.kill(edge.process.pid, signal.SIGKILL)
        edge.process.wait(10)
        wait_until(lambda: not edge.process.members(), 20, "all workers to be gone")
    (home,) = (tmp_path / "state").iterdir()
    assert list(home.iterdir()) == []


def test_the_admin_pages_have_their_own_port_with_many_workers_too(tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "backends.json").write_text("{}")
    with Script(answers(body=b"theirs")) as backend:
        (tmp_path / "backends.json").write_text(json.dumps(document_of(tmp_path, backend)))
        arguments = ("--workers", "2", "--admin-bind", f"127.0.0.1:{port}")
        with start_edge(tmp_path, server=OWN, arguments=arguments, probed=False) as edge:
            admin = f"http://127.0.0.1:{port}"
            wait_until(lambda: len(ask(f"{admin}/api/status").json()["workers"]) == 2, 20, "both workers")
            assert {ask(f"{edge.url}/api/status").body for _ in range(8)} == {b"theirs"}
            assert ask(f"{admin}/health").status == 200


def run(directory: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run it until it ends by itself."""
    (directory / "backends.json").write_text('{"backends": ["http://127.0.0.1:1"]}')
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "SMARTEDGE_STATE_DIR": str(directory / "state"), **env}
    command = [sys.executable, "-m", "smartedge", "run", *arguments]
    return subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_a_busy_port_is_one_clear_line(tmp_path: Path) -> None:
    with refused_port() as port, Script() as other:
        ended = run(tmp_path, "--workers", "2", "--bind", f"127.0.0.1:{other.port}")
        assert (ended.returncode, ended.stdout) == (2, "")
        assert ended.stderr == f"smartedge: port {other.port} is in use; stop the other program or choose --bind\n"
        ended = run(tmp_path, "--workers", "2", "--bind", f"127.0.0.1:{port + 0}", "--admin-bind", f"127.0.0.1:{other.port}")
        assert ended.returncode == 2


@pytest.mark.parametrize(("workers", "said"), [("65", "from 1 to 64"), ("many", '"auto"')])
def test_a_wrong_number_of_workers_is_one_clear_line(tmp_path: Path, workers: str, said: str) -> None:
    ended = run(tmp_path, "--workers", workers)
    assert ended.returncode == 2
    assert ended.stderr.startswith("smartedge: ")
    assert "--workers" in ended.stderr
    assert said in ended.stderr


@pytest.mark.parametrize("kind", [OWN, GEVENT])
def test_without_a_usable_state_directory_several_workers_do_not_start(tmp_path: Path, kind: str) -> None:
    """Each would know only a part, and none could say so."""
    (tmp_path / "state").write_text("a file")
    if kind == OWN:
        ended = run(tmp_path, "--workers", "2", "--bind", "127.0.0.1:0")
        assert ended.returncode == 2
    else:
        (tmp_path / "backends.json").write_text('{"backends": ["http://127.0.0.1:1"]}')
        command = [sys.executable, "-m", "gunicorn", "-k", "gevent", "-w", "2", "-b", "127.0.0.1:0", "smartedge:create_app()"]
        env = {**os.environ, "PYTHONPATH": str(ROOT), "SMARTEDGE_STATE_DIR": str(tmp_path / "state")}
        ended = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60, check=False)
        assert ended.returncode in (1, 3)  # 1 when a second worker fails while gunicorn deals with the first
    assert f"cannot make SMARTEDGE_STATE_DIR {tmp_path / 'state'}" in ended.stderr


@pytest.mark.parametrize("kind", [OWN])
def test_workers_whose_state_directory_was_removed_meet_in_a_new_one(tmp_path: Path, kind: str) -> None:
    """Whoever tidies up a temporary directory must not leave an edge of which every worker tells another story."""
    with Script(answers()) as backend, many(tmp_path, kind, backend) as edge:
        before = {worker["pid"] for worker in workers(edge)}
        with SteadyLoad(edge.port, clients=4) as load:
            (home,) = (tmp_path / "state").iterdir()
            home.rename(tmp_path / "elsewhere")
            wait_until(lambda: "somebody has removed the state directory" in edge.process.output, 20, "one to notice")
            wait_until(lambda: {worker["pid"] for worker in workers(edge)}.isdisjoint(before), 30, "other workers")
            wait_until(lambda: len(workers(edge)) == WORKERS, 30, "all of them")
        assert load.failures == []
        assert edge.admin("/api/reload", "POST").json()["workers"] == {"applied": WORKERS, "live": WORKERS}
        assert edge.leader()


@pytest.mark.parametrize("kind", [GEVENT])
def test_a_worker_that_cannot_join_does_not_end_those_who_serve(tmp_path: Path, kind: str) -> None:
    """A state directory without room, when one dies: the others go on, and it is replaced once there is some."""
    with Script(answers()) as backend, many(tmp_path, kind, backend) as edge:
        wait_until(lambda: all(worker["uptime_s"] > STARTING_S for worker in workers(edge)), 30, "workers of some age")
        (directory,) = (tmp_path / "state").glob("*/*")
        newest, most = int(Path("/proc/loadavg").read_text().split()[-1]), int(Path("/proc/sys/kernel/pid_max").read_text())
        in_the_way = [directory / f"rows.json.{(newest + more) % most}.new" for more in range(1, 5000)]
        for name in in_the_way:  # what a process that comes would write before it replaces rows.json
            name.mkdir()
        os.kill(workers(edge)[0]["pid"], signal.SIGKILL)
        wait_until(lambda: edge.process.output.count("cannot use the state directory") >= 2, 30, "two tries")
        assert {edge.ask().status for _ in range(10)} == {200}
        assert len(workers(edge)) >= WORKERS - 1
        for name in in_the_way:
            name.rmdir()
        wait_until(lambda: len(workers(edge)) == WORKERS, 30, "another worker")
