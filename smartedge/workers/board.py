"""The board: one memory-mapped table of 64-bit cells that all workers of an edge share.

A row belongs to one (worker slot, row index) and is written by that worker only, so that adding to a cell
needs no lock and no system call; anyone reads every row. The last slot is no worker's: its rows hold what all
of them share, and any may write. What a cell means is the caller's affair: the board
knows how many there are in a row, and the name of their layout, so that it never gives one layout's cells to
another.

    page 0           header: magic, version, slots, rows, row_cells, CRC-32 of the layout's name
    page 1 ...       slot 0: row 0, row 1, ...; every slot starts on a page of its own
    ...              slot 1: ...

The file is sparse. A row's pages are reserved when the row is first asked for, because a store into a page
that a full filesystem cannot supply is not an error one can catch but a SIGBUS.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import struct
import tempfile
import zlib
from pathlib import Path

from smartedge.balancer.cells import Row

MAGIC = b"SMRTEDGE"
VERSION = 1
CELL_BYTES = 8
HEADER_BYTES = PAGE_BYTES = 4096
_HEADER = struct.Struct("<8s5I")
_LINE_CELLS = 8  # a row fills whole cache lines, so that two rows never share one


class BoardError(Exception):
    """The board cannot be used; the text says which one, why, and what to do."""


def layout_crc(layout: str) -> int:
    """Return the number that stands for a layout's name in a header."""
    return zlib.crc32(layout.encode())


def _round_up(number: int, step: int) -> int:
    return -(-number // step) * step


class Board:
    """Slots x rows of `row_cells` cells, mapped into this process and shared with all that opened the file.

    Made by `Board.open` (a file, for several workers) or `Board.private` (memory, for one process).
    """

    def __init__(self, memory: mmap.mmap, fd: int | None, slots: int, rows: int, row_cells: int) -> None:
        self.slots = slots
        self.rows = rows
        self.row_cells = row_cells
        self._memory = memory
        self._whole = memoryview(memory)  # of which rows are parts: a view of its own for each would be one more thing to touch
        self._fd = fd
        self._row_bytes = row_cells * CELL_BYTES
        self._row_stride, self._slot_stride = _strides(rows, row_cells)

    @classmethod
    def open(cls, path: Path, slots: int, rows: int, row_cells: int, layout: str) -> Board:
        """Open the board at `path`, making it first if there is none.

        It is made under another name and linked into place, so that nobody ever opens a half-made one, and of
        several workers that start together all get the one that was linked first. Raises BoardError.
        """
        header = _HEADER.pack(MAGIC, VERSION, slots, rows, row_cells, layout_crc(layout))
        size = _size(slots, rows, row_cells)
        try:
            if not path.exists():
                _make(path, header, size)
            fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                _check(path, fd, header, size)
                return cls(mmap.mmap(fd, size), fd, slots, rows, row_cells)
            except BaseException:
                os.close(fd)
                raise
        except OSError as error:
            raise BoardError(f"cannot make the board {path}: {error.strerror}") from error

    @classmethod
    def existing(cls, path: Path) -> Board:
        """Open a board of whatever layout, to be read (`peek`). Raises BoardError or OSError."""
        fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            head = os.pread(fd, _HEADER.size, 0)
            magic, version, slots, rows, row_cells, _ = _HEADER.unpack(head.ljust(_HEADER.size, b"\0"))
            size = _size(slots, rows, row_cells)
            if (magic, version) != (MAGIC, VERSION) or os.fstat(fd).st_size != size:
                raise BoardError(f"{path} is not a board that this version can read")
            return cls(mmap.mmap(fd, size), fd, slots, rows, row_cells)
        except BaseException:
            os.close(fd)
            raise

    @classmethod
    def private(cls, rows: int, row_cells: int) -> Board:
        """Return a board in memory that no other process sees: one worker's slot, and the shared one."""
        return cls(mmap.mmap(-1, _size(2, rows, row_cells)), None, 2, rows, row_cells)

    def row(self, slot: int, index: int) -> Row:
        """Return one row, its memory reserved; it starts as zeros. Raises BoardError if memory runs out."""
        start = self._start(slot, index)
        self._reserve(start)
        cells = self._whole[start : start + self._row_bytes]
        return cells.cast("q"), cells.cast("d")

    def peek(self, slot: int, index: int) -> Row:
        """Return one row, to be read only: a copy of how it is now."""
        start = self._start(slot, index)
        cells = memoryview(self._memory[start : start + self._row_bytes])
        return cells.cast("q"), cells.cast("d")

    def zero(self, slot: int, index: int) -> None:
        """Set every cell of one row to zero."""
        start = self._start(slot, index)
        self._reserve(start)
        self._memory[start : start + self._row_bytes] = bytes(self._row_bytes)

    def close(self) -> None:
        """Let go of the file. Rows that somebody still holds stay usable until they are let go of, too."""
        with contextlib.suppress(BufferError):  # somebody holds a row: the last one to go ends the mapping
            self._whole.release()
            self._memory.close()
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _start(self, slot: int, index: int) -> int:
        if not (0 <= slot < self.slots and 0 <= index < self.rows):
            raise IndexError(f"no row {index} in slot {slot}: there are {self.slots} slots of {self.rows} rows")
        return HEADER_BYTES + slot * self._slot_stride + index * self._row_stride

    def _reserve(self, start: int) -> None:
        if self._fd is None:
            return
        try:
            os.posix_fallocate(self._fd, start, self._row_bytes)
        except OSError as error:
            raise BoardError(
                f"no room for another row of the board ({self._row_bytes} bytes): {error.strerror}; "
                "make room in the state directory or set SMARTEDGE_STATE_DIR to another one"
            ) from error


def _strides(rows: int, row_cells: int) -> tuple[int, int]:
    """Return how many bytes lie between two rows of a slot, and between two slots."""
    row_stride = _round_up(row_cells, _LINE_CELLS) * CELL_BYTES
    return row_stride, _round_up(rows * row_stride, PAGE_BYTES)


def _size(slots: int, rows: int, row_cells: int) -> int:
    return HEADER_BYTES + slots * _strides(rows, row_cells)[1]


def _make(path: Path, header: bytes, size: int) -> None:
    """Make a whole board and give it its name, unless another worker was quicker."""
    fd, name = tempfile.mkstemp(prefix=path.name, suffix=".tmp", dir=path.parent)
    try:
        os.ftruncate(fd, size)
        os.pwrite(fd, header.ljust(HEADER_BYTES, b"\0"), 0)
        with contextlib.suppress(FileExistsError):
            os.link(name, path)
    finally:
        os.close(fd)
        os.unlink(name)


def _check(path: Path, fd: int, header: bytes, size: int) -> None:
    """Raise BoardError unless the open file is a board of exactly this version, shape and layout."""
    found = os.pread(fd, _HEADER.size, 0)
    if len(found) < _HEADER.size or not found.startswith(MAGIC):
        raise BoardError(f"{path} is not a board of SmartEdge's: move it away")
    if found != header:
        names = ("version", "slots", "rows", "row_cells", "layout")
        wanted = zip(names, _HEADER.unpack(found)[1:], _HEADER.unpack(header)[1:], strict=True)
        differences = ", ".join(f"{name} {was} instead of {need}" for name, was, need in wanted if was != need)
        raise BoardError(
            f"the board {path} belongs to another version or configuration of SmartEdge ({differences}): "
            "stop the edge that uses it, then remove the file"
        )
    if os.fstat(fd).st_size != size:
        raise BoardError(f"the board {path} is {os.fstat(fd).st_size} bytes long instead of {size}: remove the file")
