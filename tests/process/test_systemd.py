"""What the service manager is told: datagrams to a socket of the test's own, by path and in the abstract namespace."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from smartedge.process.systemd import Notifier


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    name = str(tmp_path / "notify") if request.param == "path" else f"@smartedge-{tmp_path.name}-{time.monotonic_ns()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(name.replace("@", "\0", 1) if name[0] == "@" else name)
        sock.settimeout(5)
        yield name, sock


def test_ready_reloading_and_stopping(manager: tuple[str, socket.socket]) -> None:
    name, sock = manager
    notifier = Notifier({"NOTIFY_SOCKET": name})
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    notifier.reloading()
    notifier.ready("generation 2:\nadded b")
    notifier.stopping()
    reloading = sock.recv(4096).decode().split("\n")
    assert reloading[0] == "RELOADING=1"
    name, _, value = reloading[1].partition("=")
    assert name == "MONOTONIC_USEC"
    assert before <= int(value) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    assert sock.recv(4096) == b"READY=1\nSTATUS=generation 2: added b"
    assert sock.recv(4096).startswith(b"STOPPING=1\n")


@pytest.mark.parametrize("address", ["", "/nowhere/notify", "@nobody", "vsock:2:1234", "relative"])
def test_without_a_service_manager_nothing_is_told_and_nothing_fails(address: str) -> None:
    assert not Notifier({"NOTIFY_SOCKET": address}).tell("READY=1")
    assert not Notifier({}).tell("READY=1")


def test_a_manager_that_does_not_read_holds_nobody_up(manager: tuple[str, socket.socket]) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": manager[0]})
    assert not all(notifier.tell("STATUS=x") for _ in range(10_000))
