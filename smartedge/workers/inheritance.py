"""What an edge has from one of another version that it takes over from (SIGUSR2), whose rows have other cells.

Versions with the same cells go on in one directory, and nothing has to be done. Else the new one copies, once, what is known of
each backend, cell by cell as both layouts name them, and the files that say what the edge is. What the old one counts until it
ends is written into a slot of its own, which no worker has (SLOT), again and again, so that no count is lost.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
from collections.abc import Mapping
from typing import Final

from smartedge.balancer.cells import REAL_CELLS
from smartedge.workers.board import Board, BoardError
from smartedge.workers.replaced_file import replace_text
from smartedge.workers.row_book import EDGE_KEY, EDGE_ROW
from smartedge.workers.state_dir import MAX_SLOTS, StateDir, held, is_alive

log = logging.getLogger("smartedge")

SLOT: Final = MAX_SLOTS - 1
"""The slot of the old edge's counts: the last one, which the others leave free as long as there are so many."""

LAYOUT_FILE: Final = "layout"
"""Beside the board: the name of its layout, for a version that has another."""

LEFT: Final = (
    "generation.json",
    "names.json",
    "rows.json",
    "sticky.secret",
    "tickets.secret",
    "trial.json",
    "configurations.history",
    "file.seen",
)
"""The files that say what an edge is; all else in a directory is made anew, or is of now."""


class Inheritance:
    """The counts of the old edge, as long as it counts; made by `inherit`, owned by a `Membership`, which calls `follow`.

    cells: the number of a counter here, and there.
    """

    def __init__(self, board: Board, state: StateDir, old: Board, old_state: StateDir, cells: Mapping[int, int]) -> None:
        self._board, self._state = board, state
        self._old, self._old_state = old, old_state
        self._cells = cells
        self._old_rows = _rows_in(old_state)

    def follow(self) -> bool:
        """Write down what the old edge has counted by now; False when it has ended, and this was the last time."""
        goes_on = is_alive(self._old_state.path)
        slots = range(self._old.slots - 1)
        for key, row in _rows_in(self._state).items():
            if key not in self._old_rows:
                continue
            ours, our_reals = self._board.row(SLOT, row)
            rows = [self._old.peek(slot, self._old_rows[key]) for slot in slots]
            for here, there in self._cells.items():
                if here in REAL_CELLS:
                    our_reals[here] = sum(reals[there] for _, reals in rows)
                else:
                    ours[here] = sum(ints[there] for ints, _ in rows)
        if not goes_on:
            self._old.close()
        return goes_on


def write_layout(state: StateDir, layout: str) -> None:
    """Have a version with another layout know ours. Raises OSError."""
    if not (state.path / LAYOUT_FILE).exists():
        replace_text(state.path / LAYOUT_FILE, layout)


def inherit(state: StateDir, identity: str, board: Board, layout: str, gauges: frozenset[int]) -> Inheritance | None:
    """Begin with what the edge of this identity knows that has another layout, if there is one and nobody has done so.

    Every worker that takes over calls it, before it does anything else here; the others wait for the first.
    gauges: cells of now, which nobody inherits. Raises StateError.
    """
    mark = state.path / f"slot-{SLOT}.lock"
    with held(state.path / "inheritance.lock"):
        if mark.exists() or (state.path / "rows.json").exists():
            return None  # it is done, or here are others with the same cells
        for path in sorted(state.home.glob(f"{identity}-*")):
            if path == state.path or not is_alive(path):
                continue
            try:
                found = _copy(state, StateDir(path), board, layout, gauges)
                mark.touch(0o600)
                found.follow()
            except (OSError, BoardError, ValueError, KeyError) as error:
                log.warning("nothing of what the program before this one knew is used: %s: %s", path, error)
                continue
            return found
    return None


def _copy(state: StateDir, old_state: StateDir, board: Board, layout: str, gauges: frozenset[int]) -> Inheritance:
    there, here = _cells_of((old_state.path / LAYOUT_FILE).read_text()), _cells_of(layout)
    for name in LEFT:
        if (old_state.path / name).exists():
            shutil.copyfile(old_state.path / name, state.path / name)
            os.chmod(state.path / name, 0o600)
    _forget_slots(state)
    old = Board.existing(old_state.path / "board")
    counters = {
        cell: there[0][name]
        for name, cell in here[0].items()
        if name in there[0] and cell not in gauges and " window" not in name
    }
    shared = {cell: there[1][name] for name, cell in here[1].items() if name in there[1]}
    for row in _rows_in(state).values():
        ours, theirs = board.row(board.slots - 1, row)[0], old.peek(old.slots - 1, row)[0]
        for cell, theirs_cell in shared.items():
            ours[cell] = theirs[theirs_cell]  # 64 bits, whatever they are
    return Inheritance(board, state, old, old_state, counters)


def _cells_of(layout: str) -> tuple[dict[str, int], dict[str, int]]:
    """Return the number of each named cell of a worker's own row, and of the shared one, by what LAYOUT of cells.py says."""
    own: dict[str, int] = {}
    shared: dict[str, int] = {}
    for item in layout.split(","):
        word, _, rest = item.partition(" ")
        if word == "window":
            names, into = [f"{number} window of {rest}" for number in range(1 + 2 * int(rest))], own
        elif word == "detail":
            names, into = [f"detail {number}" for number in range(int(rest))], shared
        elif word == "shared":
            names, into = [rest], shared
        else:
            names, into = [item], own
        for name in names:
            into[name] = len(into)
    return own, shared


def _rows_in(state: StateDir) -> dict[str, int]:
    """Return each backend's row, the edge's own among them."""
    with contextlib.suppress(FileNotFoundError):
        book = json.loads((state.path / "rows.json").read_text())
        return {EDGE_KEY: EDGE_ROW} | {key: int(entry["row"]) for key, entry in book.items()}
    return {EDGE_KEY: EDGE_ROW}


def _forget_slots(state: StateDir) -> None:
    """Leave the rows to their backends, but to no worker: none of them works here."""
    path = state.path / "rows.json"
    with contextlib.suppress(FileNotFoundError):
        book = json.loads(path.read_text())
        replace_text(path, json.dumps({key: {**entry, "slots": []} for key, entry in book.items()}))
