"""Which processes are one edge, and which edges live."""

from __future__ import annotations

import importlib
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from smartedge.workers.identity import _is_arbiter, _started, edge_identity, lives, sockets_of

IDENTITY = "import os; from smartedge.workers.identity import edge_identity; print(edge_identity() + '\\n', end='')"
ARBITER = """
import os, gunicorn.arbiter
os.environ["SERVER_SOFTWARE"] = "gunicorn/27.0.1"
if os.fork() and os.fork():
    os.wait(), os.wait()
    os._exit(0)
"""


def identities(code: str) -> list[str]:
    """The identities that a program's processes print."""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    return result.stdout.split()


def test_an_edge_of_its_own_is_known_by_its_process() -> None:
    assert edge_identity({}) == edge_identity({})
    assert edge_identity({}).startswith(f"edge-{os.getpid()}-")
    assert len({*identities(IDENTITY), *identities(IDENTITY), edge_identity({})}) == 3


def test_workers_of_one_arbiter_are_one_edge_and_those_of_two_are_not() -> None:
    first, second = identities(ARBITER + IDENTITY), identities(ARBITER + IDENTITY)
    assert len(first) == len(second) == 2
    assert first[0] == first[1] != second[0] == second[1]
    assert first[0].startswith("gunicorn-")


def test_a_process_whose_parent_is_the_arbiter_is_known_by_it() -> None:
    importlib.import_module("gunicorn.arbiter")
    found = edge_identity({"SERVER_SOFTWARE": "gunicorn/27.0.1"})
    assert found.startswith(f"gunicorn-{os.getppid()}-") or os.getppid() == 1


def test_an_orphan_is_no_child_of_an_arbiter() -> None:
    """Process 1 adopts those whose arbiter has died; it is an arbiter itself only where its command line says so."""
    command = Path("/proc/1/cmdline").read_bytes()
    assert _is_arbiter(1) == (b"gunicorn" in command or b"smartedge" in command)
    assert _is_arbiter(2)


def test_a_process_that_is_gone_has_no_start() -> None:
    assert _started(2**30) == "0"
    assert int(_started(os.getpid())) > 0


def test_a_program_that_a_gunicorn_worker_started_is_an_edge_of_its_own() -> None:
    """It inherits SERVER_SOFTWARE; by that alone, two edges started by one worker would share their state."""
    assert edge_identity({"SERVER_SOFTWARE": "gunicorn/27.0.1"}).startswith("edge-") == ("gunicorn.arbiter" not in sys.modules)
    assert identities("import os; os.environ['SERVER_SOFTWARE'] = 'gunicorn/27.0.1';" + IDENTITY)[0].startswith("edge-")


@pytest.mark.skipif(os.geteuid() != 0, reason="a PID namespace of one's own needs root")
def test_in_a_container_the_arbiter_may_be_process_1() -> None:
    code = "# gunicorn\n" + ARBITER + IDENTITY
    command = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    first, second = result.stdout.split()
    assert first == second
    assert first.startswith("gunicorn-1-")


def test_an_edge_lives_as_long_as_the_process_that_it_is_named_after() -> None:
    name = edge_identity({})
    assert lives(f"{name}-0badcafe")
    assert not lives(name.replace(f"-{os.getpid()}-", f"-{2**30}-"))
    assert not lives(name.replace(_started(os.getpid()), "1")), "another process had this number"
    assert not lives(name.rpartition("-")[0] + "-1"), "of another container nobody can say"
    assert not lives("leftover")
    assert not lives("")


def test_a_zombie_is_dead() -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    started, own = _started(process.pid), edge_identity({}).rpartition("-")[2]
    name = f"edge-{process.pid}-{started}-{own}"
    assert lives(name)
    assert process.stdin is not None
    process.stdin.close()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert not lives(name)
    process.wait()


def test_the_sockets_of_a_process_are_those_that_it_shares_with_its_children() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        name = os.readlink(f"/proc/self/fd/{listener.fileno()}")
        mine = sockets_of(os.getpid())
        assert mine is not None
        assert name in mine
        code = "import sys; sys.stdin.read()"
        with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, pass_fds=[listener.fileno()]) as child:
            theirs = sockets_of(child.pid)
            assert theirs is not None
            assert name in theirs
            assert child.stdin is not None
            child.stdin.close()
    assert name not in (sockets_of(os.getpid()) or ())
    assert sockets_of(2**30) == frozenset()


def test_an_arbiter_that_sigusr2_started_is_no_worker_of_the_one_before_it() -> None:
    """With `--preload` it makes the application itself, and must not begin with what the old edge has."""
    importlib.import_module("gunicorn.arbiter")
    env = {"SERVER_SOFTWARE": "gunicorn/27.0.1", "GUNICORN_PID": str(os.getppid())}
    assert edge_identity(env).startswith(f"edge-{os.getpid()}-")
