from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from smartedge.workers.identity import edge_identity
from smartedge.workers.state_dir import StateDir, StateError, held

CHILD = """
import sys
from smartedge.workers.state_dir import StateDir
state = StateDir.find(sys.argv[1], {"SMARTEDGE_STATE_DIR": sys.argv[2]})
slot = state.take_slot()
leads = state.leader_lock()
print(slot.index, leads is not None, flush=True)
sys.stdin.read()
state.leave(slot)
"""


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    return {"SMARTEDGE_STATE_DIR": str(tmp_path / "state")}


@pytest.fixture
def state(env: dict[str, str]) -> StateDir:
    return StateDir.find("edge-1", env)


@contextmanager
def worker(env: dict[str, str], identity: str = "edge-1") -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Another process in the edge, and what it says of itself; it leaves cleanly when its input ends."""
    arguments = [sys.executable, "-c", CHILD, identity, env["SMARTEDGE_STATE_DIR"]]
    process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout is not None
        try:
            yield process, process.stdout.readline().strip()
        finally:
            assert process.stdin is not None
            process.stdin.close()
            process.wait(30)


def test_the_directory_is_private_and_the_same_for_the_same_edge(env: dict[str, str], state: StateDir) -> None:
    assert state.path == Path(env["SMARTEDGE_STATE_DIR"]) / f"smartedge-{os.geteuid()}" / "edge-1"
    assert [path.stat().st_mode & 0o777 for path in (state.path, state.home)] == [0o700, 0o700]
    assert StateDir.find("edge-1", env) == state
    assert StateDir.find("edge-2", env).path.parent == state.home


def test_shared_memory_comes_before_the_runtime_directory(tmp_path: Path) -> None:
    if not os.access("/dev/shm", os.W_OK):
        pytest.skip("this machine has no /dev/shm")
    found = StateDir.find("edge-of-a-test", {"XDG_RUNTIME_DIR": str(tmp_path)})
    found.path.rmdir()
    assert found.home == Path(f"/dev/shm/smartedge-{os.geteuid()}")


@pytest.mark.parametrize(("runtime", "expected"), [("runtime", "runtime"), (None, "temporary"), ("missing", "temporary")])
def test_without_shared_memory_the_runtime_directory_or_the_temporary_one_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runtime: str | None, expected: str
) -> None:
    (tmp_path / "runtime").mkdir()
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("smartedge.workers.state_dir.SHARED_MEMORY", tmp_path / "no-shared-memory")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    env = {"XDG_RUNTIME_DIR": str(tmp_path / runtime)} if runtime else {}
    assert StateDir.find("edge-1", env).home.parent == tmp_path / expected


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StateError, match=r"cannot make SMARTEDGE_STATE_DIR .*/file/state: Not a directory"):
        StateDir.find("edge-1", {"SMARTEDGE_STATE_DIR": str(tmp_path / "file" / "state")})
    with pytest.raises(StateError, match=r"cannot make the state directory .*: File name too long"):
        StateDir.find("x" * 300, {"SMARTEDGE_STATE_DIR": str(tmp_path)})


def test_a_symbolic_link_or_a_file_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    home = tmp_path / f"smartedge-{os.geteuid()}"
    home.symlink_to("elsewhere")
    with pytest.raises(StateError, match="must be a directory, but is a file or a symbolic link"):
        StateDir.find("edge-1", {"SMARTEDGE_STATE_DIR": str(tmp_path)})
    home.unlink()
    home.touch()
    with pytest.raises(StateError, match="must be a directory"):
        StateDir.find("edge-1", {"SMARTEDGE_STATE_DIR": str(tmp_path)})


def test_a_directory_that_others_can_enter_is_refused(tmp_path: Path) -> None:
    home = tmp_path / f"smartedge-{os.geteuid()}"
    home.mkdir()
    home.chmod(0o710)
    with pytest.raises(StateError, match=r"open to other users \(mode 710\): chmod 700 it"):
        StateDir.find("edge-1", {"SMARTEDGE_STATE_DIR": str(tmp_path)})


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make what belongs to somebody else")
def test_a_directory_of_somebody_else_is_refused(tmp_path: Path) -> None:
    home = tmp_path / "smartedge-0"
    home.mkdir(mode=0o700)
    os.chown(home, 12345, -1)
    with pytest.raises(StateError, match="belongs to user 12345, not 0"):
        StateDir.find("edge-1", {"SMARTEDGE_STATE_DIR": str(tmp_path)})


def test_workers_take_the_first_free_slot(state: StateDir) -> None:
    slots = [state.take_slot() for _ in range(3)]
    assert [slot.index for slot in slots] == [0, 1, 2]
    slots[1].release()
    assert state.take_slot().index == 1
    assert state.used_slots() == [0, 1, 2]


def test_there_are_only_so_many_slots(state: StateDir) -> None:
    kept = [state.take_slot(2), state.take_slot(2)]
    with pytest.raises(StateError, match=r"all 2 worker slots in .* are taken"):
        state.take_slot(2)
    assert len(kept) == 2


def test_live_workers_are_seen_with_their_process_numbers(env: dict[str, str], state: StateDir) -> None:
    kept = state.take_slot()
    with worker(env) as (process, said):
        assert said == "1 True"
        assert state.live_slots() == {0: os.getpid(), 1: process.pid}
    assert state.live_slots() == {0: os.getpid()}
    assert kept.index == 0


def test_a_live_worker_that_has_not_written_its_number_yet_counts(state: StateDir) -> None:
    slot = state.take_slot()
    slot.path.write_text("")
    assert state.live_slots() == {0: 0}


def test_a_killed_worker_frees_its_slot_and_the_lead_at_once(env: dict[str, str], state: StateDir) -> None:
    with worker(env) as (process, said):
        assert said == "0 True"
        assert state.leader_lock() is None
        process.send_signal(signal.SIGKILL)
        process.wait(30)
        assert state.live_slots() == {}
        assert state.leader_lock() is not None
        assert state.take_slot().index == 0


def test_a_stopped_worker_keeps_its_slot(env: dict[str, str], state: StateDir) -> None:
    with worker(env) as (process, _):
        process.send_signal(signal.SIGSTOP)
        try:
            assert state.live_slots() == {0: process.pid}
            assert state.take_slot().index == 1
        finally:
            process.send_signal(signal.SIGCONT)


def test_there_is_one_leader_until_it_lets_go(state: StateDir) -> None:
    first = state.leader_lock()
    assert first is not None
    assert state.leader_lock() is None
    first.release()
    first.release()
    assert state.leader_lock() is not None


def test_a_lock_outlives_a_child_that_inherited_it_and_ended(state: StateDir) -> None:
    slot = state.take_slot()
    child = os.fork()
    if child == 0:
        slot.release()
        os._exit(0)
    os.waitpid(child, 0)
    assert state.live_slots() == {0: os.getpid()}


def test_locks_do_not_pass_on_to_other_programs(state: StateDir) -> None:
    slot = state.take_slot()
    with subprocess.Popen(["sleep", "60"], close_fds=False) as program:
        slot.release()
        assert state.live_slots() == {}
        program.kill()


def test_the_last_to_leave_removes_the_directory(env: dict[str, str], state: StateDir) -> None:
    slot = state.take_slot()
    with worker(env):
        pass
    assert state.path.exists()
    state.leave(slot)
    assert list(state.home.iterdir()) == []


def test_leftovers_of_killed_edges_are_swept_and_live_edges_are_not(env: dict[str, str], state: StateDir) -> None:
    kept = state.take_slot()
    with worker(env, "live-edge"), worker(env, "killed-edge") as (killed, _):
        killed.kill()
        killed.wait(30)
        (state.home / "killed-edge" / "board").write_bytes(b"x")
        (state.home / "a-file").touch()
        (state.home / "a-link").symlink_to(state.path)
        assert state.sweep() == ["killed-edge"]
        assert sorted(path.name for path in state.home.iterdir()) == ["a-file", "a-link", "edge-1", "live-edge"]
    assert kept.fd is not None


def test_a_directory_that_was_swept_before_its_first_worker_came_is_made_again(env: dict[str, str], state: StateDir) -> None:
    other = StateDir.find("edge-2", env)
    assert other.sweep() == ["edge-1"]
    assert state.take_slot().index == 0


def test_a_lock_that_is_held_too_long_is_an_error_and_no_hang(tmp_path: Path) -> None:
    path = tmp_path / "rows.lock"
    with (
        held(path),
        pytest.raises(StateError, match=r"another process has held the lock on .*rows\.lock for more"),
        held(path, wait_s=0.05),
    ):
        pass
    with held(path):
        pass


def test_a_lock_is_waited_for(tmp_path: Path) -> None:
    path, entered = tmp_path / "rows.lock", threading.Event()

    def enter() -> None:
        with held(path):
            entered.set()

    with held(path):
        thread = threading.Thread(target=enter)
        thread.start()
        assert not entered.wait(0.05)
    assert entered.wait(30)
    thread.join()


def test_a_home_that_somebody_removed_is_not_replaced_by_a_file(state: StateDir) -> None:
    slot = state.take_slot()
    slot.path.unlink()
    state.path.rmdir()
    state.home.rmdir()
    with pytest.raises(StateError, match=r"cannot lock .*: No such file or directory"):
        state.leave(slot)
    assert not state.home.exists()


def test_what_cannot_be_locked_is_named(tmp_path: Path) -> None:
    with pytest.raises(StateError, match=r"cannot lock .*: Is a directory"), held(tmp_path):
        pass
    (tmp_path / "link").symlink_to("elsewhere")
    with pytest.raises(StateError, match=r"cannot lock .*: Too many levels of symbolic links"), held(tmp_path / "link"):
        pass


LEAVE = """
from gevent import monkey
monkey.patch_all()
import gevent, os, sys
from smartedge.workers.state_dir import StateDir
gevent.sleep(0)
state = StateDir.find("edge-1", {"SMARTEDGE_STATE_DIR": sys.argv[1]})
state.leave(state.take_slot())
print(state.path.exists(), flush=True)
with state.guarded():
    pass
with state.guarded():  # it would still be locked
    print("free", flush=True)
"""


def test_a_lock_is_let_go_of_at_once_under_gevent_too(env: dict[str, str]) -> None:
    """Its `os.close` leaves a directory open until the event loop comes round, which it no more does when a worker ends."""
    command = [sys.executable, "-c", LEAVE, env["SMARTEDGE_STATE_DIR"]]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    assert said == "False\nfree\n"


def test_whoever_leaves_last_leaves_the_directory_to_workers_that_may_come(state: StateDir, env: dict[str, str]) -> None:
    state.leave(state.take_slot(), others_may_come=True)
    assert state.path.exists()
    state.leave(state.take_slot())
    assert not state.path.exists()


def test_a_directory_whose_arbiter_lives_is_swept_by_nobody(env: dict[str, str]) -> None:
    """Between the end of its last worker and the start of the next one nothing in it is locked."""
    mine = edge_identity({}).replace("edge-", "gunicorn-")
    process = subprocess.Popen([sys.executable, "-c", ""])
    gone = mine.replace(str(os.getpid()), str(process.pid))
    process.wait()
    for name in (mine, gone):
        StateDir.find(name, env)
    state = StateDir.find("edge-1", env)
    assert state.sweep() == [gone]
