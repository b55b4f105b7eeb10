"""Our own trouble with real processes: nobody reads what we print, signals come early, descriptors end, the edge is restarted."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from smartedge.http.resources import ROOM_BYTES
from tests.live.edges import GEVENT, OWN, WORKER, LiveEdge, document_of
from tests.live.peers import Script, answers
from tests.live.processes import ROOT, ask, wait_until

pytestmark = pytest.mark.timeout(120)


def command(server: str, port: int, *flags: str) -> list[str]:
    if server == OWN:
        return [sys.executable, "-m", "smartedge", "run", "--bind", f"127.0.0.1:{port}", *flags]
    kind = "gevent" if server == GEVENT else "smartedge.worker.EdgeWorker"
    gunicorn = str(Path(sys.executable).with_name("gunicorn"))
    return [sys.executable, gunicorn, "-k", kind, "-b", f"127.0.0.1:{port}", "smartedge:create_app()"]


def environment(directory: Path) -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "SMARTEDGE_CONFIG": str(directory / "backends.json"),
        "SMARTEDGE_STATE_DIR": str(directory / "state"),
    }


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


@contextlib.contextmanager
def process(arguments: list[str], directory: Path, **options: object) -> Iterator[subprocess.Popen[bytes]]:
    options.setdefault("stdout", subprocess.DEVNULL)
    options.setdefault("stderr", subprocess.DEVNULL)
    with subprocess.Popen(arguments, cwd=directory, env=options.pop("env", environment(directory)), **options) as started:  # type: ignore[call-overload]
        try:
            yield started
        finally:
            started.kill()


@pytest.mark.parametrize("server", [OWN, GEVENT])
def test_standard_output_that_nobody_reads_holds_up_no_request(tmp_path: Path, server: str) -> None:
    """Regression: after 64 KiB everything stood still, /health too."""
    with Script(answers()) as backend:
        (tmp_path / "backends.json").write_text(json.dumps({"backends": [backend.url], "access_log": True}))
        port = free_port()
        reads, writes = os.pipe()
        with process(command(server, port), tmp_path, stdout=writes, stderr=writes) as edge:
            url = f"http://127.0.0.1:{port}"
            wait_until(lambda: ask(f"{url}/health").status == 200, 30, "the edge")
            target = "/" + "x" * 4000
            for _ in range(40):  # 160 kB and more
                assert ask(url + target).status == 200
            assert ask(f"{url}/health").status == 200
            if server == OWN:
                edge.send_signal(signal.SIGTERM)
                assert edge.wait(15) == 0
        os.close(reads)
        os.close(writes)


@pytest.mark.parametrize("workers", ["2"])
def test_signals_from_the_first_moment_on_end_nothing_and_a_service_manager_hears_of_all(tmp_path: Path, workers: str) -> None:
    """Regression: SIGHUP soon after the start, SIGUSR1 and SIGUSR2 ended it; SIGTTIN and SIGTTOU froze it."""
    with Script(answers()) as backend, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        name = f"@smartedge-test-{os.getpid()}-{workers}"
        manager.bind("\0" + name[1:])
        manager.settimeout(30)
        file = tmp_path / "backends.json"
        file.write_text(json.dumps({"backends": [backend.url]}))
        port = free_port()
        env = {**environment(tmp_path), "NOTIFY_SOCKET": name}
        with process(command(OWN, port, "--workers", workers), tmp_path, env=env) as edge:
            wait_until(lambda: caught(edge.pid, signal.SIGHUP), 10, "the program's first instruction")
            os.kill(edge.pid, signal.SIGHUP)
            assert manager.recv(4096).startswith(b"READY=1\n")
            assert manager.recv(4096).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
            while not manager.recv(4096).startswith(b"READY=1\n"):
                pass
            if workers == "1":
                for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGTTIN, signal.SIGTTOU):
                    os.kill(edge.pid, number)
            assert ask(f"http://127.0.0.1:{port}/").status == 200
            file.write_text("{")
            os.kill(edge.pid, signal.SIGHUP)
            wait_until(lambda: b"refused" in manager.recv(4096), 20, "the refusal")
            os.kill(edge.pid, signal.SIGTERM)
            wait_until(lambda: manager.recv(4096).startswith(b"STOPPING=1\n"), 20, "the end to be told")
            assert edge.wait(20) == 0


def caught(pid: int, number: int) -> bool:
    """Whether a process has a handler for a signal (proc(5))."""
    status = Path(f"/proc/{pid}/status").read_text()
    return bool(int(status.split("SigCgt:")[1].split()[0], 16) & 1 << number - 1)


@pytest.mark.parametrize("workers", ["2"])
def test_no_connection_is_refused_over_a_restart_when_the_socket_is_passed(tmp_path: Path, workers: str) -> None:
    """Regression: a plain restart refused 75 of 300 new connections."""
    starter = (
        "import os, sys; os.dup2(int(sys.argv[1]), 3); os.environ['LISTEN_PID'] = str(os.getpid());"
        "os.execv(sys.argv[2], sys.argv[2:])"
    )
    with Script(answers()) as backend, socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        (tmp_path / "backends.json").write_text(json.dumps({"backends": [backend.url]}))
        port = listener.getsockname()[1]
        program = [sys.executable, "-c", starter, str(listener.fileno()), *command(OWN, 1, "--workers", workers)]
        start = {"env": {**environment(tmp_path), "LISTEN_FDS": "1"}, "pass_fds": [listener.fileno()]}
        failed: list[object] = []
        with process(program, tmp_path, **start) as first:
            wait_until(lambda: ask(f"http://127.0.0.1:{port}/").status == 200, 30, "the first edge")
            asked = [0]

            def clients() -> None:
                while asked[0] < 300:
                    asked[0] += 1
                    try:
                        if (status := ask(f"http://127.0.0.1:{port}/", timeout_s=30).status) != 200:
                            failed.append(status)
                    except Exception as error:
                        failed.append(error)
                    time.sleep(0.02)

            threads = [threading.Thread(target=clients) for _ in range(4)]
            for thread in threads:
                thread.start()
            wait_until(lambda: asked[0] > 30, 20, "traffic")
            first.send_signal(signal.SIGTERM)
            assert first.wait(20) == 0
            with process(program, tmp_path, **start):
                for thread in threads:
                    thread.join(60)
        assert failed == []


@pytest.mark.parametrize(
    ("server", "flags", "status"),
    [
        (OWN, (), 2),
        (OWN, ("--workers", "2"), 2),
        (GEVENT, (), 4),
        (WORKER, (), 4),
        (GEVENT, ("--preload",), 1),
        (WORKER, ("--preload",), 1),
    ],
)
def test_too_few_descriptors_are_one_clear_line(tmp_path: Path, server: str, flags: tuple[str, ...], status: int) -> None:
    """Regression: with `ulimit -n 16` it ended somewhere in its start, or its log was full of tracebacks of housekeeping."""
    (tmp_path / "backends.json").write_text('{"backends": ["http://127.0.0.1:9"]}')
    words = [*command(server, 0), *flags]
    start = {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (16, 16)), "stderr": subprocess.PIPE}
    with process(words, tmp_path, **start) as edge:
        _, said = edge.communicate(timeout=60)
        assert edge.returncode == status
    (line,) = [line for line in said.decode().splitlines() if "smartedge: " in line]
    assert "at most 16 files may be open, and the edge needs 48" in line
    assert "ulimit -Hn" in line
    assert "LimitNOFILE" in line
    assert b"Traceback" not in said


def test_few_descriptors_and_many_idle_clients_take_no_backend_out(tmp_path: Path) -> None:
    """Regression: with `ulimit -n 100` and 140 idle clients both sound backends went "Offline"."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))

    with Script(answers()) as a, Script(answers()) as b:
        (tmp_path / "backends.json").write_text(json.dumps(document_of(tmp_path, a, b)))
        port = free_port()
        with process(command(OWN, port), tmp_path, preexec_fn=limit) as edge, contextlib.ExitStack() as idle:
            url = f"http://127.0.0.1:{port}"
            wait_until(lambda: all(one["health"] == "healthy" for one in ask(f"{url}/api/status").json()["backends"]), 30, "it")
            for _ in range(140):
                idle.enter_context(socket.create_connection(("127.0.0.1", port), timeout=5))
            until = time.monotonic() + 2.5  # some rounds of probes
            while time.monotonic() < until:
                assert ask(f"{url}/").status == 200
            for one in ask(f"{url}/api/status").json()["backends"]:
                assert (one["health"], one["breaker"], one["failed"]) == ("healthy", "closed", 0)
            assert edge.poll() is None


def test_a_worker_ends_after_so_many_requests_when_gunicorn_is_told_so(tmp_path: Path) -> None:
    with Script(answers()) as backend:
        (tmp_path / "backends.json").write_text(json.dumps({"backends": [backend.url]}))
        port = free_port()
        with process([*command(WORKER, port), "--max-requests", "5"], tmp_path):
            edge = LiveEdge(port, None, tmp_path, WORKER)  # type: ignore[arg-type]
            wait_until(lambda: edge.admin("/health").status == 200, 30, "the edge")
            before = edge.worker_pid()
            for _ in range(5):
                assert edge.ask().status == 200
            wait_until(lambda: edge.worker_pid() != before, 30, "another worker")


@pytest.mark.parametrize("flags", [(), ("--workers", "2")])
def test_a_pipe_is_read_once_and_a_reload_says_that_it_cannot_be_read_again(tmp_path: Path, flags: tuple[str, ...]) -> None:
    """Regression: `--config <(command)` was read twice, and was empty the second time."""
    with Script(answers()) as first, Script(answers()) as second:
        port = free_port()
        reads, writes = os.pipe()
        os.write(writes, json.dumps({"backends": [first.url], "watch": True}).encode())
        os.close(writes)
        words = command(OWN, port, "--config", f"/dev/fd/{reads}", *flags)
        with process(words, tmp_path, pass_fds=[reads]) as edge:
            os.close(reads)
            url = f"http://127.0.0.1:{port}"
            wait_until(lambda: ask(f"{url}/").status == 200, 30, "the edge")
            for path in ("/api/reload", "/smartedge/plan"):
                refused = ask(f"{url}{path}", "POST")
                assert refused.status == 400
                assert "is no regular file, which was read at the start and cannot be read again" in refused.json()["detail"]
            edge.send_signal(signal.SIGHUP)
            done = ask(f"{url}/api/reload", "POST", body=json.dumps({"backends": [second.url]})).json()
            assert (len(done["added"]), done["persisted"]) == (1, False)
            assert edge.poll() is None


def test_what_is_shown_of_a_pipe_is_what_it_says() -> None:
    script = 'exec %s -m smartedge config show --origin --json -c <(echo \'{"backends": ["http://a:1"], "drain_s": 7}\')'
    done = subprocess.run(["bash", "-c", script % sys.executable], capture_output=True, cwd=ROOT, text=True, check=True)
    (found,) = [one for one in json.loads(done.stdout) if one["path"] == "drain_s"]
    assert (found["value"], found["origin"][:8]) == (7, "/dev/fd/")


def virtual_bytes(pid: int) -> int:
    """How much memory a process has mapped (proc(5))."""
    return int(Path(f"/proc/{pid}/status").read_text().split("VmSize:")[1].split()[0]) * 1024


def first_line(sock: socket.socket) -> bytes:
    """The status line that comes on a connection; raises ConnectionResetError."""
    return sock.recv(65536).partition(b"\r\n")[0]


@pytest.mark.parametrize("server", [OWN, GEVENT])
def test_without_memory_new_clients_are_told_so_in_one_line_and_all_is_well_when_there_is_some_again(
    tmp_path: Path, server: str
) -> None:
    """Regression: a greenlet that began without memory ended unheard of: its client was reset, and counted as connected for ever.

    The thread that writes the log ended in the same way, so nobody was told, then or later.
    """
    upload = b"POST / HTTP/1.1\r\nHost: edge\r\nContent-Length: 1000000\r\n\r\n" + b"a" * 1000
    with Script(answers()) as backend, contextlib.ExitStack() as clients, (tmp_path / "said").open("wb") as said:
        (tmp_path / "backends.json").write_text(json.dumps(document_of(tmp_path, backend)))
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        with process(command(server, port), tmp_path, stderr=said) as edge:
            wait_until(lambda: ask(f"{url}/").status == 200, 30, "the edge")
            pid = edge.pid if server == OWN else worker_of(edge.pid)
            limit = virtual_bytes(pid) + ROOM_BYTES + 4_000_000
            before = resource.prlimit(pid, resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))

            def refused() -> bool:
                """Send ten more uploads that do not end; whether one of them has been answered."""
                some = [clients.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10)) for _ in range(10)]
                for sock in some:
                    sock.sendall(upload)
                answered, *_ = select.select(some, [], [], 0.1)
                return any(first_line(sock).startswith(b"HTTP/1.1 503") for sock in answered)

            wait_until(refused, 60, "the memory to end")
            seen: set[bytes] = set()
            for _ in range(300):  # more than there are greenlets that refused uploads have left
                sock = clients.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))
                sock.sendall(b"GET /new HTTP/1.1\r\nHost: edge\r\n\r\n")
                seen.add(first_line(sock))
            assert b"HTTP/1.1 503 Service Unavailable" in seen
            assert seen <= {b"HTTP/1.1 200 OK", b"HTTP/1.1 503 Service Unavailable"}
            assert edge.poll() is None

            resource.prlimit(pid, resource.RLIMIT_AS, before)
            clients.close()
            wait_until(lambda: all(ask(f"{url}/").status == 200 for _ in range(20)), 30, "the edge to serve again")
            until = time.monotonic() + 2.5  # some rounds of probes
            while time.monotonic() < until:
                (one,) = ask(f"{url}/api/status").json()["backends"]
                assert (one["health"], one["breaker"], one["in_flight"]) == ("healthy", "closed", 0)
        lines = (tmp_path / "said").read_text().splitlines()
        assert 1 <= sum("the edge itself is short of something" in line and "ENOMEM" in line for line in lines) <= 3
        assert not [line for line in lines if "Traceback" in line or "MemoryError" in line]


def worker_of(arbiter: int) -> int:
    """The one child of a process (proc(5))."""
    (child,) = Path(f"/proc/{arbiter}/task/{arbiter}/children").read_text().split()
    return int(child)
