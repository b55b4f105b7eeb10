"""A new program as the old one hears of it: small programs of the tests' own, and the sockets that they are handed."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from smartedge.process import successor as module
from smartedge.process.predecessor import VARIABLE, Listener, Predecessor, find_predecessor
from smartedge.process.successor import START_S, Heard, StartedAs, Successor, started_as
from smartedge.process.upgrade import Upgrade

ROOT = Path(__file__).parents[2]
TAKES_OVER = """
import sys; sys.path.insert(0, sys.argv[1])
from smartedge.process.predecessor import find_predecessor
found = find_predecessor()
"""


@pytest.fixture
def listener() -> Iterator[Listener]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield Listener(sock.fileno(), "clients", "127.0.0.1:0")


def program(code: str) -> StartedAs:
    return StartedAs((sys.executable, "-c", TAKES_OVER + code, str(ROOT)), str(ROOT))


def heard(successor: Successor) -> Heard:
    deadline = time.monotonic() + 30
    while (found := successor.look()) is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return found


def test_it_serves_on_the_sockets_that_it_was_handed_and_says_so(listener: Listener) -> None:
    code = """
import os, socket
sock = socket.socket(fileno=found.listeners[0].descriptor)
assert (found.identity, found.listeners[0][1:], os.environ["MORE"]) == ("edge-1", ("clients", "127.0.0.1:0"), "yes")
assert "SMARTEDGE_TAKES_OVER" not in os.environ and not os.get_inheritable(sock.fileno())
found.we_serve(); found.we_serve(); found.we_cannot("no more")
sock.accept()[0].send(b"hello")
"""
    successor = Successor(program(code), "edge-1", [listener], {"MORE": "yes"})
    try:
        assert heard(successor) == Heard(True)
        with socket.socket(fileno=os.dup(listener.descriptor)) as ours, socket.create_connection(ours.getsockname()) as client:
            client.settimeout(10)
            assert client.recv(10) == b"hello"
    finally:
        os.waitpid(successor.pid, 0)


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("found.we_cannot('b.json: is not JSON'); sys.exit(2)", "b.json: is not JSON"),
        ("sys.exit(3)", "it ended with status 3 before it served; what it has said stands above"),
        ("import os; os.kill(os.getpid(), 9)", "it ended, killed by signal 9 before it served; what it has said stands above"),
    ],
)
def test_one_that_ends_says_why_or_how(listener: Listener, code: str, why: str) -> None:
    assert heard(Successor(program(code), "edge-1", [listener])) == Heard(False, why)


def test_a_program_that_is_not_there_any_more_is_told(listener: Listener, tmp_path: Path) -> None:
    gone = StartedAs((str(tmp_path / "gone"),), str(tmp_path))
    assert heard(Successor(gone, "edge-1", [listener])).why.startswith(f"{tmp_path}/gone cannot be started in {tmp_path}: ")


def test_one_that_hangs_is_ended_in_time(listener: Listener) -> None:
    successor = Successor(program("import time; time.sleep(300)"), "edge-1", [listener], now=0.0)
    assert successor.look(START_S - 1) is None
    assert successor.look(START_S + 1) == Heard(False, "it did not serve within 60 s, and was ended")
    with pytest.raises(ProcessLookupError):
        os.kill(successor.pid, 0)


@pytest.mark.parametrize(
    "text",
    ["", "{}", '{"identity": "a", "listeners": [[1]], "tells": 2}', '{"identity": "a", "listeners": [], "tells": 4711}'],
)
def test_a_variable_that_nobody_of_ours_has_set_is_refused(text: str) -> None:
    env = {VARIABLE: text}
    with pytest.raises(ValueError, match="is set by SIGUSR2 alone"):
        find_predecessor(env)
    assert env == {}


def test_descriptors_that_do_not_listen_are_refused(tmp_path: Path) -> None:
    hears, tells = os.pipe()
    with (tmp_path / "file").open("w") as file:
        handed = Predecessor("edge-1", [Listener(file.fileno(), "clients", "")], tells)
        with pytest.raises(ValueError, match="descriptors that do not listen"):
            find_predecessor({VARIABLE: handed.to_text()})
    os.close(hears)
    os.close(tells)
    assert find_predecessor({}) is None


def test_the_same_command_is_started_again_where_the_shell_says_that_we_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A symbolic link may lead to another version by then; and a script names its own Python."""
    (tmp_path / "1").mkdir()
    link, script = tmp_path / "current", tmp_path / "smartedge"
    link.symlink_to(tmp_path / "1")
    monkeypatch.chdir(link)
    monkeypatch.setattr(sys, "argv", [str(script), "run"])
    monkeypatch.setattr(sys, "orig_argv", ["/usr/bin/python3", str(script), "run"])
    assert started_as({"PWD": str(link)}) == StartedAs((sys.executable, str(script), "run"), str(link))
    script.touch(0o755)
    assert started_as({"PWD": "/elsewhere"}) == StartedAs((str(script), "run"), str(tmp_path / "1"))
    monkeypatch.setattr(sys, "argv", ["/x/smartedge/__main__.py", "run"])
    monkeypatch.setattr(sys, "orig_argv", ["python", "-O", "-m", "smartedge", "run"])
    assert started_as({}).arguments == (sys.executable, "-O", "-m", "smartedge", "run")


@pytest.fixture
def upgrade(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Upgrade]:
    def make(code: str) -> Upgrade:
        made = Upgrade({})
        monkeypatch.setattr(made, "_ours", program(code))
        return made

    return make


def finished(upgrade: Upgrade) -> None:
    deadline = time.monotonic() + 30
    while not upgrade.look():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_one_new_program_at_a_time_and_another_try_after_one_that_failed(
    upgrade: Callable[[str], Upgrade], listener: Listener, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    one = upgrade("found.we_cannot('no room')")
    assert one.look()  # there is nothing to wait for
    assert one.begin("edge-1", [listener])
    assert not one.begin("edge-1", [listener])
    assert "is starting already, to take over" in caplog.text
    finished(one)
    assert (one.done, one.successor) == (False, None)
    assert "the new program did not take over, and this one serves on: no room" in caplog.text
    one._ours = program("found.we_serve()")
    assert one.begin("edge-1", [listener])
    finished(one)
    assert one.done
    assert "has taken over; requests under way end here" in caplog.text
    one.end()  # it is none of ours any more
    assert one.successor is not None
    os.waitpid(one.successor.pid, 0)


def test_a_new_program_that_still_starts_ends_with_us(upgrade: Callable[[str], Upgrade], listener: Listener) -> None:
    one = upgrade("import time; time.sleep(300)")
    one.begin("edge-1", [listener])
    assert one.successor is not None
    pid = one.successor.pid
    one.end()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def test_process_1_stays(
    upgrade: Callable[[str], Upgrade], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A container ends with it."""
    one = upgrade("")
    monkeypatch.setattr(module.os, "getpid", lambda: 1)
    assert not one.begin("edge-1", [])
    assert "process 1 of a container must stay" in caplog.text
