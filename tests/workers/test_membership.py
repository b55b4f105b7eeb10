from __future__ import annotations

import gc
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from smartedge.balancer.cells import LAYOUT, ROW_CELLS
from smartedge.workers.board import Board
from smartedge.workers.membership import MAX_ROWS, STARTING_S, Membership, open_membership, serves_already
from smartedge.workers.state_dir import StateError

CELLS = 6
IN_FLIGHT, COUNT = 0, 1

log = logging.getLogger("test")

CHILD = """
import logging, sys
from smartedge.workers.membership import open_membership
membership = open_membership(sys.argv[1], 6, "cells", {"SMARTEDGE_STATE_DIR": sys.argv[2]}, logging.getLogger(), gauges=[0])
ints = membership.row_for("b1").own[0]
ints[0] = 2
ints[1] += 10
print(membership.slot, membership.lead(), flush=True)
sys.stdin.read()
membership.close()
"""


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    return {"SMARTEDGE_STATE_DIR": str(tmp_path)}


def membership_in(env: dict[str, str], identity: str = "gunicorn-1", layout: str = "cells") -> Membership:
    return open_membership(identity, CELLS, layout, env, log, gauges=[IN_FLIGHT])


@contextmanager
def worker(env: dict[str, str], identity: str = "gunicorn-1") -> Iterator[subprocess.Popen[str]]:
    """Another worker of the edge, with 2 leases open and 10 counted on backend b1."""
    arguments = [sys.executable, "-c", CHILD, identity, env["SMARTEDGE_STATE_DIR"]]
    process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield process
        finally:
            process.stdin.close()
            process.wait(30)


def total(membership: Membership, cell: int, key: str = "b1") -> int:
    return sum(row[cell] for row in membership.row_for(key).everyone)


def test_a_worker_counts_in_its_own_rows(env: dict[str, str]) -> None:
    membership = membership_in(env)
    edge, b1 = membership.row_for(""), membership.row_for("b1")
    assert membership.slot == 0
    b1.own[0][COUNT] += 5
    b1.own[1][2] = 0.25
    assert membership.row_for("b1") is b1
    assert (b1.everyone[0][COUNT], edge.own[0][COUNT], len(b1.everyone)) == (5, 0, 1)
    membership.close()


def test_a_membership_says_its_state_in_one_line(env: dict[str, str]) -> None:
    membership = membership_in(env)
    membership.rows_for(["", "b1"])
    assert repr(membership) == f"<Membership of slot 0, 2 rows of {MAX_ROWS}, in {membership.directory}>"
    assert membership.lead()
    assert repr(membership) == f"<Membership of slot 0, 2 rows of {MAX_ROWS}, leads, in {membership.directory}>"
    membership.close()


def test_several_backends_get_their_rows_at_once(env: dict[str, str]) -> None:
    membership = membership_in(env)
    rows = membership.rows_for(["b1", "", "b2", "b1"])
    assert rows.keys() == {"b1", "", "b2"}
    rows["b2"].own[0][COUNT] = 7
    assert [row[COUNT] for row in membership.rows_of(0)] == [0, 0, 7]
    membership.close()


def test_every_worker_sees_every_row_once_it_has_looked(env: dict[str, str]) -> None:
    membership = membership_in(env)
    membership.row_for("b1").own[0][COUNT] += 1
    with worker(env) as other:
        assert membership.live() == {0: os.getpid(), 1: other.pid}
        assert total(membership, COUNT) == 1
        own = membership.row_for("b1").own
        assert membership.refresh() is True
        assert membership.row_for("b1").own[0] is own[0]
        assert (total(membership, COUNT), total(membership, IN_FLIGHT)) == (11, 2)
        assert membership.refresh() is False
    membership.close()


def test_a_worker_that_comes_later_sees_those_before_it(env: dict[str, str]) -> None:
    with worker(env):
        membership = membership_in(env)
        assert membership.slot == 1
        assert membership.row_for("b1").own[0][COUNT] == 0
        assert total(membership, COUNT) == 10
        membership.close()


def test_what_a_killed_worker_counted_stays_and_what_it_had_open_does_not(env: dict[str, str]) -> None:
    membership = membership_in(env)
    membership.row_for("b1")
    with worker(env) as other:
        membership.refresh()
        assert (total(membership, COUNT), total(membership, IN_FLIGHT)) == (10, 2)
        other.send_signal(signal.SIGKILL)
        other.wait(30)
        membership.refresh()
        assert (total(membership, COUNT), total(membership, IN_FLIGHT)) == (10, 0)
    membership.close()


def test_a_worker_in_the_slot_of_a_killed_one_counts_on_without_its_leases(env: dict[str, str]) -> None:
    with worker(env) as other:
        other.send_signal(signal.SIGKILL)
        other.wait(30)
    membership = membership_in(env)
    ints = membership.row_for("b1").own[0]
    assert (membership.slot, ints[IN_FLIGHT], ints[COUNT]) == (0, 0, 10)
    membership.close()


def test_a_stopped_worker_keeps_its_leases(env: dict[str, str]) -> None:
    membership = membership_in(env)
    with worker(env) as other:
        other.send_signal(signal.SIGSTOP)
        try:
            membership.refresh()
            assert total(membership, IN_FLIGHT) == 2
        finally:
            other.send_signal(signal.SIGCONT)
    membership.close()


def test_a_released_row_comes_back_as_zeros_in_every_slot(env: dict[str, str]) -> None:
    membership = membership_in(env)
    first = membership.row_for("b1")
    first.own[0][COUNT] = 5
    with worker(env):
        membership.refresh()
    membership.release(["b1"])
    membership.release(["b1"])
    membership.release([""])
    second = membership.row_for("b2")
    assert total(membership, COUNT, "b2") == 0
    second.own[0][COUNT] = 3
    assert first.own[0][COUNT] == 3, "it is the same row"
    assert len(second.everyone) == 2
    membership.close()


def test_a_row_that_another_worker_uses_is_not_given_away(env: dict[str, str]) -> None:
    with worker(env):
        membership = membership_in(env)
        membership.row_for("b1")
        membership.release(["b1"])
        assert total(membership, COUNT, "b2") == 0
        assert total(membership, COUNT) == 10
        membership.close()


def test_one_worker_leads_and_the_next_one_takes_over(env: dict[str, str]) -> None:
    with worker(env) as other:
        membership = membership_in(env)
        assert membership.lead() is False
        other.kill()
        other.wait(30)
        assert membership.lead() is True
        assert membership.lead() is True
    membership.close()


def test_two_edges_share_nothing_and_neither_do_two_layouts(env: dict[str, str]) -> None:
    places = [membership_in(env), membership_in(env, "gunicorn-2"), membership_in(env, layout="new cells")]
    for number, membership in enumerate(places, start=1):
        membership.row_for("b1").own[0][COUNT] += number
    assert [(membership.slot, total(membership, COUNT)) for membership in places] == [(0, 1), (0, 2), (0, 3)]
    for membership in places:
        membership.close()


def test_closing_the_last_place_leaves_nothing_behind(env: dict[str, str], tmp_path: Path) -> None:
    gc.collect()  # what other tests left open and the collector has not found yet
    descriptors = set(os.listdir("/proc/self/fd"))
    membership = membership_in(env)
    membership.row_for("b1")
    membership.lead()
    membership.close()
    membership.close()
    assert [list(home.iterdir()) for home in tmp_path.iterdir()] == [[]]
    assert set(os.listdir("/proc/self/fd")) <= descriptors


def test_a_process_that_ends_by_itself_leaves_nothing_behind_either(env: dict[str, str], tmp_path: Path) -> None:
    """A gunicorn worker just ends: nobody calls `close`."""
    code = CHILD.replace("membership.close()", "")
    subprocess.run([sys.executable, "-c", code, "gunicorn-1", str(tmp_path)], stdin=subprocess.DEVNULL, timeout=60, check=True)
    assert [list(home.iterdir()) for home in tmp_path.iterdir()] == [[]]


def test_a_closed_place_can_still_be_counted_on_by_those_who_hold_a_row(env: dict[str, str]) -> None:
    membership = membership_in(env)
    ints = membership.row_for("b1").own[0]
    membership.close()
    ints[COUNT] += 1
    assert ints[COUNT] == 1


def test_leftovers_of_a_killed_edge_are_removed_and_that_is_said(env: dict[str, str], caplog: pytest.LogCaptureFixture) -> None:
    with worker(env, "edge-killed") as other:
        other.kill()
        other.wait(30)
    with caplog.at_level(logging.INFO):
        membership = membership_in(env)
    assert "removed what earlier edges left behind: edge-killed-" in caplog.text
    membership.close()


JOIN_AND_COUNT = """
import logging, sys
from smartedge.workers.membership import open_membership
env = {"SMARTEDGE_STATE_DIR": sys.argv[1]}
membership = open_membership("gunicorn-1", 6, "cells", env, logging.getLogger(), gauges=[0])
ints = membership.rows_for([f"b{number}" for number in range(20)])["b7"].own[0]
for _ in range(100):
    ints[1] += 1
"""


def test_workers_that_start_at_once_agree_on_the_rows(env: dict[str, str], tmp_path: Path) -> None:
    membership = membership_in(env)
    processes = [subprocess.Popen([sys.executable, "-c", JOIN_AND_COUNT, str(tmp_path)]) for _ in range(4)]
    assert [process.wait(60) for process in processes] == [0] * 4
    membership.refresh()
    assert total(membership, COUNT, "b7") == 400
    membership.close()


@pytest.fixture
def no_directory(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "file").touch()
    return {"SMARTEDGE_STATE_DIR": str(tmp_path / "file")}


def test_an_edge_of_one_process_does_without_a_directory_and_says_so_once(
    no_directory: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    membership = membership_in(no_directory, "edge-1")
    assert len(caplog.records) == 1
    assert "the numbers are kept in this process alone: cannot make SMARTEDGE_STATE_DIR" in caplog.text
    b1 = membership.row_for("b1")
    b1.own[0][COUNT] += 1
    assert (total(membership, COUNT), membership.lead(), membership.refresh(), membership.live()) == (
        1,
        True,
        False,
        {0: os.getpid()},
    )
    membership.release(["b1"])
    assert total(membership, COUNT, "b2") == 0
    membership.close()


def test_an_edge_that_may_have_several_processes_refuses_to_start_without_one(no_directory: dict[str, str]) -> None:
    with pytest.raises(
        StateError, match=r"cannot make SMARTEDGE_STATE_DIR .*\(workers of one edge must share a state directory\)"
    ):
        membership_in(no_directory, "gunicorn-1")


def test_a_broken_board_is_refused_and_the_slot_is_free_again(env: dict[str, str]) -> None:
    with worker(env):
        membership = membership_in(env)
        assert membership.state is not None
        board = membership.state.path / "board"
        membership.close()
        os.truncate(board, 100)
        with pytest.raises(StateError, match="bytes long instead of"):
            membership_in(env)
        assert list(membership.state.live_slots()) == [0]


def test_more_backends_than_there_are_rows_is_a_clear_error(env: dict[str, str]) -> None:
    membership = membership_in(env)
    with pytest.raises(StateError, match=f"more backends than the {MAX_ROWS - 1} "):
        membership.rows_for(f"b{number}" for number in range(MAX_ROWS))
    assert len(membership.rows_for(f"b{number}" for number in range(MAX_ROWS - 1))) == MAX_ROWS - 1
    membership.close()


def test_a_place_whose_directory_was_removed_can_be_closed(env: dict[str, str]) -> None:
    membership = membership_in(env)
    assert membership.state is not None
    for path in (*membership.state.path.iterdir(), membership.state.path, membership.state.home):
        path.unlink() if path.is_file() else path.rmdir()
    membership.close()
    assert not membership.state.home.exists()
    assert membership._lock is not None
    assert membership._lock.fd is None


def test_the_board_is_as_large_as_it_says() -> None:
    membership = Membership(Board.private(MAX_ROWS, CELLS), None, None, [])
    assert membership.row_for("b1").everyone[0].nbytes == CELLS * 8
    membership.close()


def test_a_table_and_its_secret_are_those_of_all_workers(env: dict[str, str]) -> None:
    one, two, another = membership_in(env), membership_in(env), membership_in(env, "gunicorn-2")
    tables = [membership.table("clients", 100) for membership in (one, two, another)]
    tables[0].ints[99] = 7
    tables[0].reals[0] = 0.5
    assert (tables[1].ints[99], tables[1].reals[0], len(tables[1].ints)) == (7, 0.5, 100)
    assert (tables[2].ints[99], tables[2].reals[0]) == (0, 0.0)
    assert tables[0].salt == tables[1].salt != tables[2].salt
    assert len(tables[0].salt) == 32
    for membership in (one, two, another):
        membership.close()


def test_what_a_killed_worker_had_of_backends_that_are_gone_is_freed(env: dict[str, str]) -> None:
    membership = membership_in(env)
    membership.row_for("b1")
    with worker(env) as other:
        membership.rows_for(["stays"])
        other.kill()
        other.wait()
    membership.release(["b1"])
    assert membership.state is not None
    book = membership.state.path / "rows.json"
    membership.free_dead_rows()
    assert json.loads(book.read_text()).keys() == {"stays"}
    before = book.stat().st_mtime_ns
    membership.free_dead_rows()
    assert book.stat().st_mtime_ns == before, "what has not changed is left alone"
    membership.close()


def test_without_a_directory_a_table_is_the_processs_own(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    membership = open_membership("one", CELLS, "cells", {"SMARTEDGE_STATE_DIR": str(tmp_path / "file")}, log)
    assert membership.state is None
    table = membership.table("clients", 10)
    assert (len(table.ints), len(table.salt), sum(table.ints)) == (10, 32, 0)
    membership.close()


def test_a_table_for_which_there_is_no_room_is_an_error_that_says_so(env: dict[str, str]) -> None:
    membership = membership_in(env)
    assert membership.state is not None
    (membership.state.path / "clients").write_text("something else")
    with pytest.raises(StateError, match="clients"):
        membership.table("clients", 10)
    membership.close()


def test_a_place_is_lost_when_somebody_removes_its_directory_or_makes_another_one(env: dict[str, str]) -> None:
    membership = membership_in(env)
    assert membership.state is not None
    assert not membership.lost
    shutil.rmtree(membership.state.path)
    assert membership.lost
    again = membership_in(env)
    assert membership.lost
    assert not again.lost
    again.close()
    membership.close()
    alone = membership_in(env, "edge-1")
    assert alone.state is not None
    shutil.rmtree(alone.state.path)
    assert not alone.lost  # there is nobody to lose
    alone.close()


def test_a_directory_that_cannot_be_written_to_is_named_with_what_to_do(env: dict[str, str]) -> None:
    membership = membership_in(env)
    assert membership.state is not None
    (membership.state.path / "rows.json").unlink(missing_ok=True)
    (membership.state.path / "rows.json").mkdir()
    with pytest.raises(
        StateError, match=r"cannot use the state directory .*gunicorn-1.*; make room there or set SMARTEDGE_STATE_DIR"
    ):
        membership_in(env)
    assert list(membership.state.live_slots()) == [0]
    membership.close()


def test_an_edge_serves_already_when_a_worker_has_been_there_for_some_time(env: dict[str, str]) -> None:
    def serves() -> bool:
        return serves_already("gunicorn-1", CELLS, "cells", env)

    assert not serves()
    membership = membership_in(env)
    assert not serves()
    assert membership.state is not None
    (membership.state.path / "slot-0.lock").write_text(f"{os.getpid()} {time.monotonic() - STARTING_S - 1:.3f}\n")
    assert serves()
    membership.close()
    assert not serves()


def test_a_program_that_takes_over_goes_on_in_the_directory_of_the_one_before_which_outlives_its_process(
    env: dict[str, str],
) -> None:
    whole = ROW_CELLS, LAYOUT, env, log
    first = open_membership("edge-1-2-3", *whole, gauges=[IN_FLIGHT])
    first.row_for("b1").own[0][COUNT] += 5
    assert first.lead()
    second = open_membership("edge-4-5-6", *whole, gauges=[IN_FLIGHT], follows="edge-1-2-3")
    assert first.state is not None
    assert (second.slot, second.state) == (1, first.state)
    assert sum(row[COUNT] for row in second.row_for("b1").everyone) == 5
    assert not second.lead()
    first.confirm(1, 7)
    first.retire()
    assert second.lead()
    assert not first.lead()
    assert first.confirmed()[0] > 10**9  # no reload waits for it
    first.close()
    assert (second.state.path / "owner").read_text() == "edge-4-5-6"  # type: ignore[union-attr]
    second.close()
    assert not first.state.path.exists()


def test_a_program_with_other_cells_has_what_both_know_and_every_count_to_the_last(env: dict[str, str]) -> None:
    """The rows of the first are in_flight, count, gone; those of the second in_flight, new, count."""
    old_layout, new_layout = (
        "IN_FLIGHT,COUNT,GONE,shared HEALTH,shared WENT,detail 1",
        "IN_FLIGHT,NEW,COUNT,shared CAME,shared HEALTH,detail 1",
    )
    old = membership_in(env, layout=old_layout, identity="edge-1-2-3")
    rows = old.row_for("b1")
    rows.own[0][:3] = memoryview(bytes(24)).cast("q")
    rows.own[0][IN_FLIGHT], rows.own[0][COUNT], rows.own[0][2] = 3, 40, 9
    rows.shared[0][0], rows.shared[0][1], rows.shared[0][2] = 2, 8, 77
    assert old.state is not None
    (old.state.path / "sticky.secret").write_bytes(b"s" * 32)

    new = open_membership("edge-4-5-6", CELLS, new_layout, env, log, gauges=[IN_FLIGHT], follows="edge-1-2-3")
    assert new.state is not None
    assert new.state != old.state
    assert (new.state.path / "sticky.secret").read_bytes() == b"s" * 32
    found = new.row_for("b1")
    assert found.shared[0].tolist()[:3] == [0, 2, 77]
    assert [sum(row[cell] for row in found.everyone) for cell in range(3)] == [0, 0, 40]
    rows.own[0][COUNT] += 2  # an answer that the old program gives at last
    old.close()
    new.refresh()
    assert sum(row[2] for row in found.everyone) == 42
    assert new.inheritance is None
    late = open_membership("edge-4-5-6", CELLS, new_layout, env, log, gauges=[IN_FLIGHT], follows="edge-1-2-3")
    assert sum(row[2] for row in late.row_for("b1").everyone) == 42
    late.close()
    new.close()


def test_where_nothing_can_be_inherited_an_edge_begins_anew_and_says_so(
    env: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    old = membership_in(env, identity="edge-1-2-3")
    assert old.state is not None
    (old.state.path / "layout").unlink()  # a version that did not write it down
    new = open_membership("edge-4-5-6", CELLS, "others", env, log, follows="edge-1-2-3")
    assert "nothing of what the program before this one knew is used" in caplog.text
    new.close()
    old.close()
