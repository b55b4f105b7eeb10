"""The commands of the README, in a copy of the tree, as a new user would type them.

`make run` has fixed ports: 8080, 8081 and 8082 must be free.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.live.processes import ROOT, Running, ask, free_port, listens, members, running, wait_until

pytestmark = pytest.mark.timeout(300)

EDGE = "http://127.0.0.1:8080"
LEFT_OUT = (".git", ".venv", "__pycache__", ".*_cache", ".hypothesis", ".coverage", "htmlcov", "build", "results")
# This may itself run under make, and its variables are not meant for the one under test.
CLEAN = {"MAKEFLAGS": "", "MFLAGS": "", "MAKELEVEL": "", "MAKEOVERRIDES": ""}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh copy of the tree whose first `make run` has made the environment."""
    copy = tmp_path_factory.mktemp("fresh") / "smartedge"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*LEFT_OUT))
    with make_run(copy) as first:
        assert "installing requirements.txt" in first.output
    return copy


@pytest.fixture
def config(tree: Path) -> Iterator[Path]:
    """The copy's backends.json, afterwards put back as it was, and reloaded by an edge that runs."""
    path = tree / "backends.json"
    before = path.read_bytes()
    yield path
    path.write_bytes(before)
    if listens(8080):
        assert ask(f"{EDGE}/api/reload", "POST").status == 200


@contextmanager
def make_run(tree: Path) -> Iterator[Running]:
    """A `make run` whose two backends have been found healthy."""
    refuse_busy_ports()
    with running(["make", "run"], r"^✅ http://localhost:8082 OK$", timeout_s=240, cwd=tree, env=CLEAN) as edge:
        edge.wait_for(r"^✅ http://localhost:8081 OK$")
        yield edge


@pytest.fixture(scope="class")
def started(tree: Path) -> Iterator[Running]:
    """A `make run` for the experiments, each of which puts back what it changes."""
    with make_run(tree) as edge:
        yield edge


def refuse_busy_ports() -> None:
    busy = [port for port in (8080, 8081, 8082) if listens(port)]
    assert not busy, f"these tests need the ports 8080-8082, and {busy} are in use by something else"


def make(tree: Path, *arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **CLEAN, **(env or {})}
    command = [shutil.which("make") or "make", *arguments]
    return subprocess.run(
        command, cwd=tree, env=environment, capture_output=True, text=True, timeout=240, stdin=subprocess.DEVNULL
    )


def said(result: subprocess.CompletedProcess[str]) -> list[str]:
    """The complaints, without make's own."""
    return [line for line in result.stderr.splitlines() if not line.startswith("make: ")]


def server_of(text: str) -> str:
    return text.partition(":")[0]


def distribution() -> dict[str, int]:
    backends: list[dict[str, Any]] = ask(f"{EDGE}/api/status").json()["backends"]
    return {backend["url"]: backend["requests"] for backend in backends}


# Starting and stopping.


def test_make_alone_lists_the_targets() -> None:
    listed = make(ROOT)
    assert listed.returncode == 0
    for target in ("run", "cluster", "test", "test-live", "check", "fix", "load-test", "bench", "clean"):
        assert re.search(rf"^  make {target} +\w", listed.stdout, re.MULTILINE)


def test_ctrl_c_stops_all_three_quietly_and_leaves_no_process(tree: Path) -> None:
    with make_run(tree) as edge:
        assert len(edge.members()) >= 5  # make, local.py, two servers, the balancer
        edge.interrupt()
        edge.wait(15)
        assert edge.members() == {}
        assert "Traceback" not in edge.output
        assert not any(listens(port) for port in (8080, 8081, 8082))


def test_local_py_itself_exits_with_0_on_ctrl_c(tree: Path) -> None:
    refuse_busy_ports()
    command = [str(tree / ".venv" / "bin" / "python"), "deploy/local.py"]
    with running(command, r"^✅ http://localhost:8082 OK$", cwd=tree) as local:
        local.interrupt()
        assert local.wait(15) == 0
        assert local.members() == {}


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_when_make_itself_is_killed(tree: Path, how: signal.Signals) -> None:
    with make_run(tree) as edge:
        edge.stop(how)
        assert wait_until(lambda: not members(edge.pid), 15, "the end of every process")


def test_nothing_is_left_when_the_terminal_closes(tree: Path) -> None:
    with make_run(tree) as edge:
        os.killpg(edge.pid, signal.SIGHUP)
        assert wait_until(lambda: not members(edge.pid), 15, "the end of every process")


def test_nothing_is_left_when_local_py_is_killed(tree: Path) -> None:
    with make_run(tree) as edge:
        os.kill(edge.find("deploy/local.py"), signal.SIGKILL)
        assert wait_until(lambda: not members(edge.pid), 15, "the end of every process")


def test_make_run_ends_with_status_2_when_the_balancer_dies(tree: Path) -> None:
    with make_run(tree) as edge:
        os.kill(edge.find("smartedge run"), signal.SIGKILL)
        assert edge.wait(15) == 2
        assert "the balancer stopped (exit -9)" in edge.lines
        assert edge.members() == {}


# What cannot work says why.


@pytest.mark.parametrize(("port", "name"), [(8080, "the balancer"), (8081, "server1.py"), (8082, "server2.py")])
def test_a_busy_port_is_one_clear_line_and_status_2(tree: Path, port: int, name: str) -> None:
    refuse_busy_ports()
    with running([shutil.which("python3") or "python3", "server1.py", "--port", str(port)], port, cwd=tree):
        refused = make(tree, "run")
    assert refused.returncode == 2
    assert len(said(refused)) == 1
    assert f"port {port} for {name} is busy" in said(refused)[0]
    assert "server1 on" not in refused.stdout


@pytest.mark.parametrize(
    ("text", "complaint"),
    [(None, "backends.json"), ('{"backends": ["ftp://x"], "colour": 1}', "colour")],
)
def test_a_missing_or_broken_configuration_starts_nothing(config: Path, text: str | None, complaint: str) -> None:
    if text is None:
        config.unlink()
    else:
        config.write_text(text)
    refused = make(config.parent, "run")
    assert refused.returncode == 2
    assert complaint in refused.stderr
    assert "Traceback" not in refused.stderr
    assert "server1 on" not in refused.stdout


@pytest.mark.parametrize(
    ("python", "complaint"),
    [("python3.no-such", "is missing; install it with: sudo apt install"), ("./old-python", "is too old: 3.11 or")],
)
def test_a_python_that_is_missing_or_too_old_is_one_clear_line(tree: Path, python: str, complaint: str) -> None:
    old = tree / "old-python"
    old.write_text("#!/bin/sh\nexit 1\n")  # what python2 -c 'sys.exit(sys.version_info < (3, 11))' does
    old.chmod(0o755)
    refused = make(tree, "run", f"PYTHON={python}")
    assert refused.returncode == 2
    assert [complaint in line for line in said(refused) if "not found" not in line] == [True]


def test_a_missing_python3_venv_is_one_clear_line(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "ensurepip.py").write_text("raise ImportError\n")  # Debian's python3 without python3-venv
    refused = make(tree, "run", f"VENV={tmp_path}/v", env={"PYTHONPATH": str(tmp_path)})
    assert refused.returncode == 2
    assert said(refused) == ["python3-venv is missing; install it with: sudo apt install python3-venv"]


def test_load_test_without_a_balancer_says_make_run(tree: Path) -> None:
    refused = make(tree, "load-test", f"URL=http://127.0.0.1:{free_port()}/")
    assert refused.returncode == 2
    assert len(said(refused)) == 1
    assert said(refused)[0].endswith("start it in another terminal with: make run")


def test_load_test_without_ab_says_how_to_install_it(tree: Path, tmp_path: Path) -> None:
    python = shutil.which("python3.11", path="/usr/bin") or tree / ".venv" / "bin" / "python"
    refused = make(tree, "load-test", f"PYTHON={python}", env={"PATH": str(tmp_path)})
    assert refused.returncode == 2
    assert said(refused) == ["ab is missing; install it with: sudo apt install apache2-utils"]


# The tour of the README.

Step = tuple[str, list[str]]


def steps(title: str) -> list[Step]:
    """Each command of a section of the README with the lines that are shown for it."""
    section = (ROOT / "README.md").read_text().partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    lines = "".join(re.findall(r"^```console\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)).splitlines()
    found: list[Step] = []
    for line in lines:
        if line.startswith("$ "):
            found.append((line[2:], []))
        else:
            found[-1][1].append(line)
    return found


def in_general(line: str) -> str:
    """A line without what is another time another number."""
    return re.sub(r" +\d+ +GET|(?<=in )\d+", " N", line)


@contextmanager
def no_server_is_left() -> Iterator[None]:
    """Stop the servers that the tour starts in the background, wherever it ended."""
    try:
        yield
    finally:
        for port in (8081, 8083):
            if listens(port):
                ask(f"http://127.0.0.1:{port}/__control", "POST", body='{"running": false}')


def typed(command: str, tree: Path) -> list[str]:
    """Run a command as in a shell; what it printed. A server in the background goes on."""
    printed = tree.parent / "printed"
    with printed.open("w+") as output:
        environment = {**os.environ, **CLEAN}
        subprocess.run(["bash", "-c", command], cwd=tree, stdout=output, stderr=output, env=environment, timeout=60)
    return printed.read_text().splitlines()


def test_the_tour_runs_as_it_stands_and_ends_as_it_began(tree: Path) -> None:
    """It left a broken backends.json and two busy ports, and its `kill $(pgrep -f server1.py)` ended everybody's server1."""
    before = files_in(tree)
    with make_run(tree) as edge, no_server_is_left():
        for command, shown in steps("Watch it react"):
            if command == "python3 server1.py &":
                edge.wait_for(r"^❌ http://localhost:8081 Offline$", 10)
            said = typed(command, tree)
            assert list(map(in_general, said[len(said) - len(shown) :])) == list(map(in_general, shown)), command
            if command == "python3 server1.py &":
                wait_until(lambda: edge.output.count("✅ http://localhost:8081 OK") == 2, 10, "two good probes")
            elif command.startswith("python3 server2.py --port 8083 "):
                wait_until(lambda: listens(8083), 10, command)
        edge.interrupt()
        edge.wait(15)
        assert not any(listens(port) for port in (8080, 8081, 8082, 8083))
    assert files_in(tree) == before


def files_in(tree: Path) -> dict[str, bytes]:
    """What lies there, without the history of configurations, which is to stay."""
    return {path.name: path.read_bytes() for path in tree.iterdir() if path.is_file() and path.suffix != ".history"}


# The experiments of the README.


class TestExperiments:
    """All with one `make run`; each leaves it as it was, but the last."""

    def test_all_three_are_started_and_nothing_is_installed_again(self, started: Running) -> None:
        assert "🚀 SmartEdge iniciado na porta 8080" in started.lines
        assert "installing" not in started.output
        assert "making" not in started.output

    def test_curl_alternates_between_the_servers(self, started: Running) -> None:
        def in_turn() -> bool:
            answers = [server_of(ask("http://localhost:8080/").text) for _ in range(6)]
            return sorted(answers[:2]) == ["server1", "server2"] and answers == answers[:2] * 3

        wait_until(in_turn, 10, "turns: a machine that is busy with other things makes one of them look slow")

    def test_load_test_shows_how_the_requests_were_shared_and_nothing_fails(self, started: Running, tree: Path) -> None:
        ask(f"{EDGE}/")  # an uneven start, which must not be counted
        tested = make(tree, "load-test")
        assert tested.returncode == 0, tested.stdout + tested.stderr
        assert re.search(r"^Failed requests:\s+0$", tested.stdout, re.MULTILINE)
        shares = re.findall(r"http://localhost:808[12] +(\d+) +([\d.]+)%$", tested.stdout, re.MULTILINE)
        assert all(float(share) > 5 for _, share in shares)  # 50 each; how even it is on a busy machine is not shown here
        assert sum(int(count) for count, _ in shares) == 1000
        assert "1000 of 1000 requests complete, 0 failed, 0 with a status other than 2xx" in tested.stdout

    def test_the_endpoints_answer_what_the_readme_shows(self, started: Running, config: Path) -> None:
        """Not the last one, which shows an edge without backends."""
        for command, shown in steps("Endpoints")[:-1]:
            said = [re.sub(r"\d+", "N", line) for line in typed(command.replace("curl", "curl -s"), config.parent)]
            wanted = [re.sub(r"\d+", "N", line) for line in shown if line.strip() != "…"]
            assert [line for line in wanted if line not in said] == [], command

    def test_load_test_takes_numbers_an_address_and_keep_alive(self, started: Running, tree: Path) -> None:
        tested = make(tree, "load-test", "N=60", "C=3", "KEEPALIVE=1", f"URL={EDGE}/some/path")
        assert tested.returncode == 0, tested.stdout + tested.stderr
        assert "60 of 60 requests complete" in tested.stdout
        assert re.search(r"^Document Path:\s+/some/path$", tested.stdout, re.MULTILINE)
        assert re.search(r"^Keep-Alive requests:\s+60$", tested.stdout, re.MULTILINE)

    def test_a_third_backend_serves_after_the_file_is_edited_and_reloaded(self, started: Running, config: Path) -> None:
        port = free_port()
        third = [shutil.which("python3") or "python3", "server2.py", "--name", "third", "--port", str(port)]
        with running(third, port, cwd=config.parent):
            before = distribution()
            written = json.loads(config.read_text())
            written["backends"].append(f"http://localhost:{port}")
            config.write_text(json.dumps(written))
            answer = ask(f"{EDGE}/api/reload", "POST")
            assert answer.status == 200, answer.text
            started.wait_for(r"^🔄 Backends atualizados via /api/reload$")
            wait_until(lambda: {server_of(ask(f"{EDGE}/").text) for _ in range(10)} == {"server1", "server2", "third"}, 10)
            assert all(distribution()[url] >= count for url, count in before.items())

    def test_a_broken_file_is_refused_with_every_error_and_changes_nothing(self, started: Running, config: Path) -> None:
        before = ask(f"{EDGE}/api/status").json()
        config.write_text('{"backends": ["http://localhost:8081", {"url": "ftp://x", "wieght": 2}]}')
        answer = ask(f"{EDGE}/api/reload", "POST")
        assert answer.status in (400, 422)
        assert "backends[1].url" in answer.text
        assert "backends[1].wieght" in answer.text
        after = ask(f"{EDGE}/api/status").json()
        assert after["generation"] == before["generation"]
        assert [backend["url"] for backend in after["backends"]] == [backend["url"] for backend in before["backends"]]
        assert {server_of(ask(f"{EDGE}/").text) for _ in range(10)} == {"server1", "server2"}

    def test_load_test_fails_when_answers_are_errors(self, started: Running, tree: Path) -> None:
        for ratio in (1, 0):
            for port in (8081, 8082):
                ask(f"http://127.0.0.1:{port}/__control", "POST", body=json.dumps({"fail_ratio": ratio}))
            if ratio:
                tested = make(tree, "load-test", "N=20", "C=1")
        assert tested.returncode == 2  # make's word for a recipe that failed
        assert re.search(r"[1-9]\d* with a status other than 2xx", tested.stdout)

    def test_a_killed_server_is_noticed_costs_no_request_and_gets_its_share_when_it_is_back(
        self, started: Running, tree: Path
    ) -> None:
        seen: list[int] = []
        stop = threading.Event()

        def client() -> None:
            while not stop.is_set():
                seen.append(ask(f"{EDGE}/").status)

        wait_until(lambda: {server_of(ask(f"{EDGE}/").text) for _ in range(4)} == {"server1", "server2"}, 15)
        well = started.output.count("✅ http://localhost:8081 OK")
        clients = [threading.Thread(target=client) for _ in range(3)]
        for thread in clients:
            thread.start()
        try:
            wait_until(lambda: len(seen) > 30)
            os.kill(started.find("server1.py"), signal.SIGTERM)
            started.wait_for(r"^server1\.py stopped \(exit 0\); start it again with: python3 server1\.py &$")
            started.wait_for(r"^❌ http://localhost:8081 Offline$", 10)
            assert {server_of(ask(f"{EDGE}/").text) for _ in range(10)} == {"server2"}
            with running([shutil.which("python3") or "python3", "server1.py"], 8081, cwd=tree):
                wait_until(lambda: started.output.count("✅ http://localhost:8081 OK") == well + 1, 10, "the return of server1")
                wait_until(lambda: server_of(ask(f"{EDGE}/").text) == "server1")
        finally:
            stop.set()
            for thread in clients:
                thread.join()
        assert set(seen) == {200}
