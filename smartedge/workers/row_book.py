"""The row book: which row of the board belongs to which backend, agreed upon by all workers of an edge.

`rows.json` is `{key: {"row": 3, "slots": [0, 2]}}`: the row of a backend, and the worker slots that use it.
It has a line for each backend, and is read and replaced whole under a lock of its own. A row is freed when no live worker uses
it any more, and zeroed before the next backend gets it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable
from contextlib import AbstractContextManager, nullcontext
from json.encoder import encode_basestring_ascii
from pathlib import Path
from typing import TypedDict

from smartedge.workers.replaced_file import replace_text, version_of
from smartedge.workers.state_dir import StateError

EDGE_KEY = ""
EDGE_ROW = 0
"""Row 0 is the edge's own: the answers that no backend gave."""


class Entry(TypedDict):
    """One backend's line in the book."""

    row: int
    slots: list[int]


Book = dict[str, Entry]

_BEGIN, _BETWEEN, _END = "{\n", ",\n", "\n}"
"""Of the text. There is no line feed in what is between them, for JSON has none in a string."""


class RowsError(StateError):
    """There are more backends than the board has rows."""


class RowBook:
    """The row book as one worker's `Membership` uses it; an edge of one process may keep it in memory, without a directory.

    slot: our own. live: asks which slots have a live worker. clear: zeroes rows in every slot. lock: a
    context manager that keeps the other workers out while the book is open.
    """

    def __init__(
        self,
        directory: Path | None,
        rows: int,
        slot: int,
        live: Callable[[], Collection[int]],
        clear: Callable[[Collection[int]], None],
        lock: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._path = None if directory is None else directory / "rows.json"
        self._rows = rows
        self._slot = slot
        self._live = live
        self._clear = clear
        self._lock = lock
        self._kept: Book = {}
        self._version: object = None
        self._text = ""
        self._lines: dict[str, str] = {}

    def take_over_slot(self) -> list[int]:
        """Begin in our slot: forget what an earlier worker in it used. Returns every row that is in use."""
        with self._lock():
            book = self._load()
            for entry in book.values():
                entry["slots"] = [slot for slot in entry["slots"] if slot != self._slot]
            self._store(book, book)
            return [EDGE_ROW, *(entry["row"] for entry in book.values())]

    def indexes(self) -> list[int]:
        """Return every row that is in use; without the lock, for the book is replaced whole, and a stopped worker may hold it."""
        return [EDGE_ROW, *(entry["row"] for entry in self._load(to_change=False).values())]

    def claim(self, keys: Iterable[str]) -> dict[str, int]:
        """Return each backend's row, a zeroed one if it had none. Raises RowsError if there are too many."""
        wanted = [key for key in dict.fromkeys(keys) if key != EDGE_KEY]
        with self._lock():
            book = self._load()
            missing, dropped = sum(key not in book for key in wanted), list[str]()
            if missing > self._rows - 1 - len(book):
                dropped = self._drop_unused(book, keep=wanted)
                missing = sum(key not in book for key in wanted)
            if missing > self._rows - 1 - len(book):
                raise RowsError(f"more backends than the {self._rows - 1} that one edge can have")
            used = {entry["row"] for entry in book.values()}
            free = (row for row in range(EDGE_ROW + 1, self._rows) if row not in used)
            fresh: list[int] = []
            for key in wanted:
                if key not in book:
                    book[key] = {"row": next(free), "slots": []}
                    fresh.append(book[key]["row"])
                if self._slot not in book[key]["slots"]:
                    book[key]["slots"].append(self._slot)
            self._clear(fresh)
            self._store(book, [*wanted, *dropped])
        return {EDGE_KEY: EDGE_ROW} | {key: book[key]["row"] for key in wanted}

    def release(self, keys: Iterable[str]) -> None:
        """Say that this worker uses these backends no more; rows that no live worker uses are free again."""
        with self._lock():
            book = self._load()
            live = set(self._live()) - {self._slot}
            released = set(keys) & book.keys()
            for key in released:
                book[key]["slots"] = [slot for slot in book[key]["slots"] if slot in live]
                if not book[key]["slots"]:
                    del book[key]
            self._store(book, released)

    def version(self) -> object:
        """Return what tells the book from the one that replaces it; None in memory."""
        return None if self._path is None else version_of(self._path)

    def free_rows(self, keep: Collection[str]) -> None:
        """Free the rows that only dead workers used, but for those of these backends: counts outlive a restart."""
        with self._lock():
            book = self._load()
            if dropped := self._drop_unused(book, keep):
                self._store(book, dropped)
            else:
                self._version = self.version()

    def _drop_unused(self, book: Book, keep: Collection[str]) -> list[str]:
        """Drop backends that only dead workers used; return them."""
        live = set(self._live())
        unused = [key for key, entry in book.items() if key not in keep and not live.intersection(entry["slots"])]
        for key in unused:
            del book[key]
        return unused

    def _load(self, *, to_change: bool = True) -> Book:
        """Return the book; read again only if another worker has replaced it. to_change: it is stored next, or read again."""
        if self._path is None:
            return self._kept
        if (version := version_of(self._path)) is None:
            self._lines = {}
            return {}
        if version != self._version:
            if self._version is None:  # what was to be changed may have been changed in part, and not stored
                self._lines = {}
            self._text = self._path.read_text()
            self._read_lines(self._text)
            self._version = version
        if to_change:
            self._version = None
        return self._kept

    def _read_lines(self, text: str) -> None:
        """Take the entries out of the book's text; what is as it was when it was last read or stored is not read again.

        While hundreds of backends come and go each worker changes the book tens of times, and all others read it.
        """
        keys, before = {line: key for key, line in self._lines.items()}, self._kept
        self._kept, self._lines = {}, {}
        if not text.startswith(_BEGIN):  # written by another version
            self._kept = json.loads(text)
            return
        lines = text.removeprefix(_BEGIN).removesuffix(_END).split(_BETWEEN)
        fresh = iter(json.loads(_BETWEEN.join(line for line in lines if line not in keys).join("{}")).items())
        for line in lines:
            key = keys.get(line)
            key, entry = next(fresh) if key is None else (key, before[key])
            self._kept[key], self._lines[key] = entry, line

    def _store(self, book: Book, changed: Iterable[str]) -> None:
        """Replace the book, if it is another one now. changed: the keys whose entries may be others than in the book before."""
        if self._path is None:
            self._kept = book
            return
        text = self._text_of(book, changed)
        if text != self._text or not self._path.exists():
            replace_text(self._path, text)
        self._text, self._kept, self._version = text, book, version_of(self._path)

    def _text_of(self, book: Book, changed: Iterable[str]) -> str:
        """Write the book as JSON, with the lines of before where nothing changed."""
        lines = self._lines
        for key in changed if lines else book:
            if (entry := book.get(key)) is None:
                lines.pop(key, None)
            else:
                lines[key] = f'{encode_basestring_ascii(key)}: {{"row": {entry["row"]}, "slots": {entry["slots"]}}}'
        return f"{_BEGIN}{_BETWEEN.join(lines.values())}{_END}" if lines else "{}"
