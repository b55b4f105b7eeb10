"""A worker's place in its edge: its slot, its rows on the board, and everybody else's.

The place puts the state directory, the row book and the board together. Without a usable directory an edge of
one process keeps its board in memory and says so once; one that may have several processes refuses to start,
for it could only tell half truths.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from smartedge.control.board import Board, BoardError, layout_crc
from smartedge.control.rows import Rows, RowsError
from smartedge.control.workers import MAX_SLOTS, UNDER_GUNICORN, FileLock, StateDir, StateError, held

MAX_ROWS = 1024


@dataclass(frozen=True, slots=True)
class BackendRows:
    """A backend's cells on the board.

    ints, reals: our own row, which only this worker writes, as integers and as doubles. all_rows: the row of
    every slot ever used in this edge, as integers, our own first.
    """

    index: int
    ints: memoryview[int]
    reals: memoryview[float]
    all_rows: tuple[memoryview[int], ...]


class Place:
    """What one worker holds of its edge, from `open_place` to `close`.

    slot: the number of our slot. state: the edge's directory, or None when there is only this process.
    gauges: the numbers of the cells that say how many there are now, which die with a worker; all other cells
    are counters and outlive it.
    """

    def __init__(self, board: Board, state: StateDir | None, lock: FileLock | None, gauges: Sequence[int]) -> None:
        self.state = state
        self.slot = 0 if lock is None else lock.index
        self._board = board
        self._lock = lock
        self._leader: FileLock | None = None
        self._gauges = gauges
        self._rows = Rows(
            directory=None if state is None else state.path,
            rows=board.rows,
            slot=self.slot,
            live=self.live,
            clear=self._clear,
            lock=contextlib.nullcontext if state is None else partial(held, state.path / "rows.lock"),
        )
        self._slots = [self.slot]
        self._held: dict[str, BackendRows] = {}

    def join(self) -> None:
        """Start with what an earlier worker in our slot has counted, but with none of its open leases."""
        self._settle(self.slot, self._rows.join())
        self.refresh()

    def row_for(self, key: str) -> BackendRows:
        """Return a backend's cells, the edge's own for the key "". Raises StateError if there is no room."""
        return self.rows_for([key])[key]

    def rows_for(self, keys: Iterable[str]) -> dict[str, BackendRows]:
        """Return the cells of several backends, with one look into the row book."""
        wanted = list(keys)
        new = [key for key in wanted if key not in self._held]
        if new:
            try:
                rows = self._rows.claim(new)
                self._held |= {key: self._view(rows[key]) for key in new}
            except (BoardError, RowsError, OSError) as error:
                raise StateError(str(error)) from error
        return {key: self._held[key] for key in wanted}

    def release(self, key: str) -> None:
        """Use a backend's row no more; only after its last lease, for another backend may get the row."""
        if key and self._held.pop(key, None) is not None:
            self._rows.release([key])

    def live(self) -> dict[int, int]:
        """Return the process number of every live worker by its slot."""
        return {self.slot: os.getpid()} if self.state is None else self.state.live_slots()

    def lead(self) -> bool:
        """Say whether this worker leads, made so if nobody else does. It then leads until it ends."""
        if self.state is not None and self._leader is None:
            self._leader = self.state.leader_lock()
        return self.state is None or self._leader is not None

    def refresh(self) -> bool:
        """Notice who came and who died; True if there are new slots, so that `rows_for` has more `all_rows`.

        Every worker calls it now and then, with its health loop. The gauges of the dead become zero; nobody
        can take a slot meanwhile.
        """
        if self.state is None:
            return False
        with self.state.guarded():
            used, live = self.state.used_slots(), self.live()
            rows = self._rows.all()
            for slot in set(used) - live.keys():
                self._settle(slot, rows)
        fresh = [slot for slot in used if slot not in self._slots]
        if fresh:
            self._slots += fresh
            self._held = {key: self._view(rows.index) for key, rows in self._held.items()}
        return bool(fresh)

    def close(self) -> None:
        """Give up the place; whoever leaves last removes the directory. A second time does nothing."""
        if self._leader is not None:
            self._leader.release()
        if self.state is not None and self._lock is not None and self._lock.fd is not None:
            with contextlib.suppress(StateError):  # who comes next will sweep what could not be removed now
                self.state.leave(self._lock)
            self._lock.release()
        self._held.clear()
        self._board.close()
        atexit.unregister(self.close)

    def _view(self, index: int) -> BackendRows:
        ints, reals = self._board.row(self.slot, index)
        others = [self._board.row(slot, index)[0] for slot in self._slots[1:]]
        return BackendRows(index, ints, reals, (ints, *others))

    def _clear(self, index: int) -> None:
        """Zero a row in every slot that was ever used; in the others it is zero."""
        for slot in self._slots if self.state is None else self.state.used_slots():
            self._board.zero(slot, index)

    def _settle(self, slot: int, rows: Collection[int]) -> None:
        for index in rows:
            ints, _ = self._board.row(slot, index)
            for cell in self._gauges:
                ints[cell] = 0


def open_place(
    identity: str,
    row_cells: int,
    layout: str,
    env: Mapping[str, str],
    log: logging.Logger,
    gauges: Sequence[int] = (),
) -> Place:
    """Take this process's place in the edge called `identity` (see `edge_identity`).

    row_cells, layout, gauges: how many cells a row has, the name of their layout, and which of them are
    gauges. Versions with another layout get a directory of their own, so that gunicorn can go from one to the
    next without a stop. Raises StateError when there is no usable directory and the edge may have other
    processes.
    """
    try:
        return _join(f"{identity}-{layout_crc(f'{row_cells}:{layout}'):08x}", row_cells, layout, env, log, gauges)
    except (StateError, BoardError, OSError) as error:
        if identity.startswith(UNDER_GUNICORN):
            raise StateError(f"{error} (workers of one edge must share a state directory)") from error
        log.warning("no state directory, so the numbers are kept in this process alone: %s", error)
    return Place(Board.private(MAX_ROWS, row_cells), None, None, gauges)


def _join(name: str, row_cells: int, layout: str, env: Mapping[str, str], log: logging.Logger, gauges: Sequence[int]) -> Place:
    state = StateDir.find(name, env)
    lock = state.take_slot(MAX_SLOTS)
    try:
        if swept := state.sweep():
            log.info("removed what earlier edges left behind: %s", ", ".join(swept))
        board = Board.open(state.path / "board", MAX_SLOTS, MAX_ROWS, row_cells, layout)
        place = Place(board, state, lock, gauges)
        place.join()
        atexit.register(place.close)  # gunicorn tells no application that its worker ends
        return place
    except BaseException:
        with contextlib.suppress(StateError):
            state.leave(lock)
        lock.release()
        raise
