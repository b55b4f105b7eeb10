"""A worker's membership of its edge: its slot, its rows on the board, and everybody else's.

An edge of several processes meets in a **state directory** (`state_dir`). A worker that begins takes the first free **slot**
there, a number that it holds by a file lock until it ends. The **board** (`board`) is a table in shared memory with a part for
each slot; in its part a worker has a row for each backend, and only it writes there. One more part is shared: any worker may
write it. Which backend has which row is written in the **row book** (`row_book`), the same in every part. One of the live
workers holds the **leader** lock, and does what one does for all. When a worker dies its locks are free: the others see that
(`refresh`), set what it had open to zero and keep what it had counted, and its slot goes to the next worker.

Without a usable directory an edge of one process keeps its board in memory and says so once; one that may have several
processes refuses to start, for it could only tell half truths.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import secrets
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from smartedge.balancer.cells import BEAT_AT, GENERATION, SERIAL, BackendRows
from smartedge.workers.board import Board, BoardError, layout_crc
from smartedge.workers.identity import UNDER_GUNICORN, sockets_of
from smartedge.workers.inheritance import Inheritance, inherit, write_layout
from smartedge.workers.row_book import EDGE_ROW, RowBook
from smartedge.workers.state_dir import MAX_SLOTS, Busy, FileLock, StateDir, StateError, held, no_room, try_lock

MAX_ROWS = 16_384
"""Backends, services and the edge itself; the board is a sparse file, which costs what is used of it."""

STARTING_S = 5.0
"""Workers that are younger than that may have been started together with this one."""

NO_SERIAL = 2**62
"""Above any: what a worker confirms that has retired."""

SALT_CELLS = 4
"""A table's first cells hold its secret."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table that all workers of an edge write, as integers and as doubles; opened by `Membership.table`.

    salt: a secret that they have in common.
    """

    ints: memoryview[int]
    reals: memoryview[float]
    salt: bytes


class Membership:
    """What one worker holds of its edge, from `open_membership` to `close`; owned by the worker's `Edge`.

    slot: the number of our slot. state: the edge's directory, or None when there is only this process.
    gauges: the numbers of the cells that say how many there are now, which die with a worker; all other cells
    are counters and outlive it. has_others: there may be other workers of the same program. retired: another program has taken
    over, and this worker only ends what it has begun.
    """

    def __init__(
        self, board: Board, state: StateDir | None, lock: FileLock | None, gauges: Sequence[int], *, has_others: bool = False
    ) -> None:
        self.state = state
        self.retired = False
        self.inheritance: Inheritance | None = None
        self._has_others = has_others
        self.slot = 0 if lock is None else lock.index
        self._board = board
        self._shared_slot = board.slots - 1  # the last one is nobody's, but everybody's
        self._lock = lock
        self._since = time.monotonic()
        self._parent, self._sockets = os.getppid(), sockets_of(os.getpid()) or frozenset()
        self._leader: FileLock | None = None
        self._gauges = gauges
        self._book = RowBook(
            directory=None if state is None else state.path,
            rows=board.rows,
            slot=self.slot,
            live=self.live,
            clear=self._clear,
            lock=contextlib.nullcontext if state is None else partial(held, state.path / "rows.lock"),
        )
        self._slots = [self.slot]
        self._pruned: object = None
        self._settled: dict[int, tuple[int, float]] = {}
        self._indexes: dict[str, int] = {}
        self._held: dict[str, BackendRows] = {}
        self._tables: list[Board] = []

    def __repr__(self) -> str:
        where = "in memory" if self.state is None else f"in {self.state.path}"
        leads = ", leads" if self.state is None or self._leader is not None else ""
        return f"<Membership of slot {self.slot}, {len(self._held)} rows of {self._board.rows}{leads}, {where}>"

    def take_over_slot(self) -> None:
        """Start with what an earlier worker in our slot has counted, but with none of its open leases."""
        self._settle(self.slot, self._book.take_over_slot())
        self.refresh()

    def row_for(self, key: str) -> BackendRows:
        """Return a backend's cells, the edge's own for the key "". Raises StateError if there is no room."""
        return self._held.get(key) or self.rows_for([key])[key]

    def rows_for(self, keys: Iterable[str]) -> dict[str, BackendRows]:
        """Return the cells of several backends, with one look into the row book. Raises RowsError or StateError."""
        wanted = list(keys)
        new = [key for key in wanted if key not in self._held]
        if new:
            try:
                self._indexes |= self._book.claim(new)
                self._held |= {key: self._rows_at(self._indexes[key]) for key in new}
            except (BoardError, OSError) as error:
                raise self._no_room(error) from error
        return {key: self._held[key] for key in wanted}

    def row_index(self, key: str) -> int | None:
        """Return the number of the row that a key has, the same for all workers; None for one that has none here."""
        return self._indexes.get(key) if key in self._held else None

    def release(self, keys: Iterable[str]) -> None:
        """Use rows no more; a backend's only after its last lease, for another backend may get the row."""
        held = [key for key in keys if key and self._held.pop(key, None) is not None]
        if held:
            self._book.release(held)

    def table(self, name: str, cells: int) -> Table:
        """Return a table of this size and a secret, shared by all workers of the edge. Raises StateError if there is no room."""
        whole = SALT_CELLS + cells
        try:
            board = Board.private(1, whole) if self.state is None else Board.open(self.state.path / name, 1, 1, whole, name)
            ints, reals = board.row(0, 0)
            with contextlib.nullcontext() if self.state is None else held(self.state.path / "rows.lock"):
                if not any(ints[:SALT_CELLS]):
                    ints[:SALT_CELLS] = memoryview(secrets.token_bytes(SALT_CELLS * 8)).cast("q")
        except (BoardError, OSError) as error:
            raise self._no_room(error) from error
        self._tables.append(board)
        return Table(ints[SALT_CELLS:], reals[SALT_CELLS:], bytes(ints[:SALT_CELLS].cast("B")))

    def live(self) -> dict[int, int]:
        """Return the process number of every live worker by its slot."""
        return {self.slot: os.getpid()} if self.state is None else self.state.live_slots()

    def live_since(self) -> dict[int, tuple[int, float]]:
        """Return process number and time of the start (monotonic clock) of every live worker by its slot."""
        return {self.slot: (os.getpid(), self._since)} if self.state is None else self.state.live_since()

    @property
    def directory(self) -> Path | None:
        """Where the workers of this edge meet; None when there can be no others."""
        return self.state.path if self.state is not None and self._has_others else None

    @property
    def lost(self) -> bool:
        """Whether somebody has removed the directory that the workers of this edge meet in."""
        return self.directory is not None and self._lock is not None and not self._lock.in_place

    def confirm(self, generation: int, serial: int) -> None:
        """Say what this worker has applied: the number of the configuration, and the serial of what was published last."""
        row = self._board.row(self.slot, EDGE_ROW)[0]
        row[GENERATION], row[SERIAL] = generation, serial

    def generations(self) -> dict[int, int]:
        """Return the number of the configuration that every live worker has applied, by its slot."""
        return {slot: self._board.row(slot, EDGE_ROW)[0][GENERATION] for slot in self.live()}

    def confirmed(self) -> dict[int, int]:
        """Return the serial of what every live worker has applied, by its slot."""
        return {slot: self._board.row(slot, EDGE_ROW)[0][SERIAL] for slot in self.live()}

    def rows_of(self, slot: int) -> Iterator[memoryview[int]]:
        """Give all the rows in use of a slot, first those that are held here: to ask the board for one is a system call."""
        place = self._slots.index(slot) if slot in self._slots else -1
        held = {self._indexes[key]: rows.everyone[place] for key, rows in self._held.items()} if place >= 0 else {}
        yield from held.values()
        yield from (self._board.row(slot, index)[0] for index in self._book.indexes() if index not in held)

    def edge_reals(self, slot: int) -> memoryview[float]:
        """Return the edge's own row of a slot, as doubles."""
        return self._board.row(slot, EDGE_ROW)[1]

    def beat(self, now: float) -> None:
        """Say that this worker lives, in seconds of the monotonic clock: its heartbeat."""
        self._board.row(self.slot, EDGE_ROW)[1][BEAT_AT] = now

    def last_beats(self) -> dict[int, float]:
        """Return when each live worker last did so, by its slot; 0.0 for not yet."""
        return {slot: self._board.row(slot, EDGE_ROW)[1][BEAT_AT] for slot in self.live()}

    def leader_slot(self) -> int | None:
        """Return the leader's slot; None while there is none."""
        if self.state is None:
            return self.slot
        pid = self.state.leader_pid()
        return next((slot for slot, its in self.live().items() if its == pid), None)

    def lead(self) -> bool:
        """Say whether this worker leads, made so if nobody else does. It then leads until it ends."""
        if self.state is not None and self._leader is None and not self.retired:
            self._leader = self.state.leader_lock()
        return self.state is None or self._leader is not None

    def retire(self) -> None:
        """Leave the lead to others, and have no reload wait for this worker."""
        self.retired = True
        leader, self._leader = self._leader, None
        if leader is not None:
            leader.release()
        self._board.row(self.slot, EDGE_ROW)[0][SERIAL] = NO_SERIAL

    @contextlib.contextmanager
    def try_exclusive(self) -> Iterator[bool]:
        """Keep the other workers out for a few lines, without waiting: False when one of them is in there already."""
        if self.state is None:
            yield True
            return
        fd = try_lock(self.state.path / "exclusive.lock")
        try:
            yield fd is not None
        finally:
            if fd is not None:
                os.close(fd)

    def refresh(self) -> bool:
        """Notice who came and who died; True if there are new slots, so that `rows_for` has more in `everyone`.

        Every worker calls it now and then. The gauges of the dead become zero; nobody can take their slots meanwhile.
        """
        if self.state is None:
            return False
        if self.inheritance is not None and not self.inheritance.follow():
            self.inheritance = None
        used, live = self.state.used_slots(), self.live()
        for slot in set(used) - live.keys():
            if self._settled.get(slot) != self.state.last_in(slot) and (lock := self.state.slot_lock(slot)):
                self._settled[slot] = self.state.last_in(slot)
                self._settle(slot, self._book.indexes())
                lock.release()
        fresh = [slot for slot in used if slot not in self._slots]
        if fresh:
            self._slots += fresh
            for key, rows in self._held.items():
                others = (self._board.row(slot, self._indexes[key])[0] for slot in fresh)
                self._held[key] = replace(rows, everyone=(*rows.everyone, *others))
        return bool(fresh)

    def free_dead_rows(self) -> None:
        """Free the rows of backends that are gone, and whose last worker died before it could do so; one worker does it."""
        if self.state is None:
            return
        seen = self._book.version(), self.live()
        if seen != self._pruned:
            self._book.free_rows(self._held)
            self._pruned = self._book.version(), seen[1]

    def close(self) -> None:
        """Give up the slot; whoever leaves last removes the directory. A second time does nothing."""
        if self._leader is not None:
            self._leader.release()
        if self.state is not None and self._lock is not None and self._lock.fd is not None:
            with contextlib.suppress(StateError):  # who comes next will sweep what could not be removed now
                self.state.leave(self._lock, others_may_come=self._arbiter_listens())
            self._lock.release()
        self._held.clear()
        for board in (self._board, *self._tables):
            board.close()
        atexit.unregister(self.close)

    def _arbiter_listens(self) -> bool:
        """Say whether our arbiter goes on and may start other workers, as after a SIGHUP: not without its listeners."""
        if self.directory is None or self._parent != os.getppid():
            return False
        sockets = sockets_of(self._parent)
        return sockets is None or not self._sockets.isdisjoint(sockets)

    def _no_room(self, error: BoardError | OSError) -> StateError:
        if self.state is None or isinstance(error, BoardError):
            return StateError(str(error))
        return no_room(self.state.path, error)

    def _rows_at(self, index: int) -> BackendRows:
        own = self._board.row(self.slot, index)
        others = [self._board.row(slot, index)[0] for slot in self._slots[1:]]
        return BackendRows(own, (own[0], *others), self._board.row(self._shared_slot, index))

    def _clear(self, rows: Collection[int]) -> None:
        """Zero these rows in every slot that was ever used, and what they share; in the others they are zero."""
        used = self._slots if self.state is None or not rows else self.state.used_slots()
        for slot in (*used, self._shared_slot):
            for index in rows:
                self._board.zero(slot, index)

    def _settle(self, slot: int, rows: Collection[int]) -> None:
        for index in rows:
            ints, _ = self._board.row(slot, index)
            for cell in self._gauges:
                ints[cell] = 0


def open_membership(
    identity: str,
    row_cells: int,
    layout: str,
    env: Mapping[str, str],
    log: logging.Logger,
    gauges: Sequence[int] = (),
    follows: str | None = None,
) -> Membership:
    """Make this process a worker of the edge called `identity` (see `edge_identity`).

    row_cells, layout, gauges: how many cells a row has, the name of their layout, and which of them are
    gauges. Versions with another layout get a directory of their own, so that gunicorn can go from one to the
    next without a stop. follows: the identity of an edge with which this one goes on: in its directory if the layout is the
    same, else with what it leaves (inheritance.py). Raises StateError when there is no usable directory and the edge may have
    other processes.
    """
    try:
        return _open(identity, row_cells, layout, env, log, gauges, follows)
    except (StateError, BoardError) as error:
        if identity.startswith(UNDER_GUNICORN):
            kind = Busy if isinstance(error, Busy) else StateError
            raise kind(f"{error} (workers of one edge must share a state directory)") from error
        log.warning("no state directory, so the numbers are kept in this process alone: %s", error)
    return Membership(Board.private(MAX_ROWS, row_cells), None, None, gauges)


def running_edge(identity: str, row_cells: int, layout: str, env: Mapping[str, str]) -> Path | None:
    """Return the directory of the edge called `identity`, if a worker of it was there already. Raises StateError."""
    state = StateDir.existing(_name(identity, row_cells, layout), env)
    return None if state is None else state.path


def serves_already(identity: str, row_cells: int, layout: str, env: Mapping[str, str]) -> bool:
    """Say whether the edge called `identity` has workers that have been there for some time."""
    with contextlib.suppress(StateError, OSError):
        state = StateDir.existing(_name(identity, row_cells, layout), env)
        now = time.monotonic()
        return state is not None and any(now - since > STARTING_S for _, since in state.live_since().values())
    return False


def _name(identity: str, row_cells: int, layout: str) -> str:
    return f"{identity}-{layout_crc(f'{row_cells}:{layout}'):08x}"


def _open(
    identity: str,
    row_cells: int,
    layout: str,
    env: Mapping[str, str],
    log: logging.Logger,
    gauges: Sequence[int],
    follows: str | None,
) -> Membership:
    state = StateDir.find(_name(follows or identity, row_cells, layout), env)
    try:
        return _take_slot(state, identity, row_cells, layout, log, gauges, follows)
    except OSError as error:
        raise no_room(state.path, error) from error


def _take_slot(
    state: StateDir,
    identity: str,
    row_cells: int,
    layout: str,
    log: logging.Logger,
    gauges: Sequence[int],
    follows: str | None,
) -> Membership:
    lock = state.take_slot(MAX_SLOTS)
    try:
        if follows is not None:
            state.pass_to(identity)
        if swept := state.sweep():
            log.info("removed what earlier edges left behind: %s", ", ".join(swept))
        board = Board.open(state.path / "board", MAX_SLOTS + 1, MAX_ROWS, row_cells, layout)
        write_layout(state, layout)
        membership = Membership(board, state, lock, gauges, has_others=identity.startswith(UNDER_GUNICORN))
        if follows is not None:
            membership.inheritance = inherit(state, follows, board, layout, frozenset(gauges))
        membership.take_over_slot()
        atexit.register(membership.close)  # gunicorn tells no application that its worker ends
        return membership
    except BaseException:
        with contextlib.suppress(StateError):
            state.leave(lock)
        lock.release()
        raise
