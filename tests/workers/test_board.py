from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from smartedge.workers.board import PAGE_BYTES, Board, BoardError

SLOTS, ROWS, CELLS = 4, 8, 13


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "board"


@pytest.fixture
def board(path: Path) -> Iterator[Board]:
    board = opened(path)
    yield board
    board.close()


def opened(path: Path, layout: str = "cells v1", **shape: int) -> Board:
    return Board.open(path, **({"slots": SLOTS, "rows": ROWS, "row_cells": CELLS} | shape), layout=layout)


def test_a_row_is_the_same_bytes_as_integers_and_as_doubles(board: Board) -> None:
    ints, reals = board.row(1, 2)
    assert (ints.format, reals.format, len(ints), len(reals)) == ("q", "d", CELLS, CELLS)
    reals[3] = 1.0
    assert ints[3] == 0x3FF0000000000000
    ints[3] = -5
    assert board.row(1, 2)[0][3] == -5


def test_no_two_rows_share_a_cell_and_a_slot_starts_on_its_own_page(board: Board) -> None:
    rows = [(slot, index) for slot in range(SLOTS) for index in range(ROWS)]
    for number, (slot, index) in enumerate(rows, start=1):
        ints, _ = board.row(slot, index)
        ints[:] = memoryview(b"".join(number.to_bytes(8, "little") for _ in range(CELLS))).cast("q")
    for number, (slot, index) in enumerate(rows, start=1):
        assert board.row(slot, index)[0].tolist() == [number] * CELLS
    assert board._start(1, 0) % PAGE_BYTES == board._start(0, 0) % PAGE_BYTES == 0


def test_what_one_opener_writes_another_one_reads(path: Path, board: Board) -> None:
    other = opened(path)
    board.row(0, 0)[0][5] += 7
    assert other.row(0, 0)[0][5] == 7
    other.close()


COUNT = f"""
import sys
from pathlib import Path
from smartedge.workers.board import Board
board = Board.open(Path(sys.argv[1]), slots={SLOTS}, rows={ROWS}, row_cells={CELLS}, layout="cells v1")
ints, _ = board.row(int(sys.argv[2]), 1)
for _ in range(1000):
    ints[0] += 1
"""


def test_processes_that_start_at_once_get_one_board_and_count_into_it(path: Path) -> None:
    processes = [subprocess.Popen([sys.executable, "-c", COUNT, str(path), str(slot)]) for slot in range(SLOTS)]
    assert [process.wait(60) for process in processes] == [0] * SLOTS
    board = opened(path)
    assert [board.row(slot, 1)[0][0] for slot in range(SLOTS)] == [1000] * SLOTS
    assert [file.name for file in path.parent.iterdir()] == ["board"]


def test_the_file_is_sparse_but_a_row_in_use_has_its_memory(path: Path) -> None:
    board = opened(path, slots=64, rows=1024)
    assert path.stat().st_blocks * 512 <= PAGE_BYTES
    board.row(63, 1023)
    assert PAGE_BYTES < path.stat().st_blocks * 512 <= 4 * PAGE_BYTES
    board.close()


def test_a_full_filesystem_is_an_error_and_no_bus_error(path: Path, board: Board) -> None:
    """A store into a hole that the filesystem cannot fill kills the process, so a row must be paid for when it is handed out."""
    board.close()
    board._fd = os.open("/dev/full", os.O_RDWR)
    with pytest.raises(BoardError, match=r"no room for another row .* SMARTEDGE_STATE_DIR"):
        board.row(0, 1)
    with pytest.raises(BoardError, match="no room"):
        board.zero(0, 1)


def test_zero_clears_one_row_only(board: Board) -> None:
    for index in range(3):
        board.row(2, index)[0][CELLS - 1] = 9
    board.zero(2, 1)
    assert [board.row(2, index)[0][CELLS - 1] for index in range(3)] == [9, 0, 9]


@pytest.mark.parametrize(("slot", "index"), [(SLOTS, 0), (0, ROWS), (-1, 0), (0, -1)])
def test_a_row_that_is_not_there_is_an_index_error(board: Board, slot: int, index: int) -> None:
    with pytest.raises(IndexError, match=f"no row {index} in slot {slot}"):
        board.row(slot, index)


def test_a_row_outlives_the_board_that_gave_it(path: Path) -> None:
    board = opened(path)
    ints, _ = board.row(0, 0)
    board.close()
    board.close()
    ints[0] += 1
    assert opened(path).row(0, 0)[0][0] == 1


def test_closing_gives_the_file_back(path: Path) -> None:
    before = os.listdir("/proc/self/fd")
    opened(path).close()
    assert os.listdir("/proc/self/fd") == before


def test_descriptors_are_closed_on_exec(board: Board) -> None:
    assert board._fd is not None
    assert not os.get_inheritable(board._fd)


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        ({"rows": 9}, "rows 8 instead of 9"),
        ({"slots": 5}, "slots 4 instead of 5"),
        ({"row_cells": 14}, "row_cells 13 instead of 14"),
        ({"layout": "cells v2"}, r"layout \d+ instead of \d+\)"),
    ],
)
def test_a_board_of_another_shape_is_refused(path: Path, board: Board, other: dict[str, int], difference: str) -> None:
    with pytest.raises(BoardError, match=difference):
        opened(path, **other)


def test_a_file_that_is_no_board_is_refused_and_left_alone(path: Path) -> None:
    for content in (b"", b"precious", b"x" * 10000):
        path.write_bytes(content)
        with pytest.raises(BoardError, match=f"{re.escape(str(path))} is not a board"):
            opened(path)
        assert path.read_bytes() == content


def test_a_board_that_was_cut_short_is_refused(path: Path, board: Board) -> None:
    os.truncate(path, 5000)
    with pytest.raises(BoardError, match="is 5000 bytes long instead of"):
        opened(path)


def test_a_refused_board_leaks_no_descriptor(path: Path) -> None:
    path.write_bytes(b"precious")
    before = os.listdir("/proc/self/fd")
    with pytest.raises(BoardError):
        opened(path)
    assert os.listdir("/proc/self/fd") == before


def test_a_board_is_not_reached_through_a_symbolic_link(path: Path, tmp_path: Path) -> None:
    opened(tmp_path / "elsewhere").close()
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BoardError, match="cannot make the board"):
        opened(path)


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(BoardError, match=r"cannot make the board .*/nowhere/board: No such file"):
        opened(tmp_path / "nowhere" / "board")


def test_a_private_board_has_one_workers_slot_the_shared_one_and_no_file() -> None:
    board = Board.private(ROWS, CELLS)
    board.row(0, 7)[1][CELLS - 1] = 0.5
    assert board.row(0, 7)[1].tolist() == [0.0] * (CELLS - 1) + [0.5]
    board.zero(0, 7)
    assert board.row(0, 7)[0].tolist() == [0] * CELLS
    with pytest.raises(IndexError):
        board.row(2, 0)
    board.close()
