"""A ring of records in memory: one process writes, any may read, and the oldest make room for the newest.

    record 0, record 1, ...   4 KiB each unless it says less: sequence number, length and CRC-32 of the text, the text

In a file, it is mapped: writing is no system call, but for the first time round, when each 64 KiB are reserved,
because a store into a page that a full filesystem cannot supply is not an error one can catch but a SIGBUS. A
reader believes nothing that its checksum does not fit, so that it never sees half of one record and half of another.
"""

from __future__ import annotations

import mmap
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final

RECORDS: Final = 1000
RECORD_BYTES: Final = 4096
RESERVE_RECORDS: Final = 16

_HEADER: Final = struct.Struct("<QII")
_NUMBER: Final = struct.Struct("<Q")


def room_of(record_bytes: int) -> int:
    """Return the longest text, in bytes, that a record of this size can hold."""
    return record_bytes - _HEADER.size


ROOM_BYTES: Final = room_of(RECORD_BYTES)


class Ring:
    """The ring of one writer; made by `Ring.open` (a file) or `Ring.private` (memory).

    records, record_bytes: how many there are, and how large one is. first: the number of the first text of a new ring; the
    numbers go up from there, also when another process goes on with it.
    """

    def __init__(self, memory: mmap.mmap, fd: int | None, records: int, record_bytes: int, first: int) -> None:
        self._memory = memory
        self._fd = fd
        self._records = records
        self._record_bytes = record_bytes
        self._reserved = records if fd is None else 0
        self._sequence, self._next, self._used = first - 1, 0, records if fd is not None else 0
        if fd is not None and os.fstat(fd).st_blocks:  # else it is new, and a start need not read every header
            # Not through the mapping: on tmpfs to read a page there is to take it.
            headers = [os.pread(fd, _HEADER.size, index * record_bytes) for index in range(records)]
            found = [_HEADER.unpack(header)[0] for header in headers]
            if newest := max(found):
                self._sequence, self._next = newest, found.index(newest) + 1

    @classmethod
    def open(cls, path: Path, records: int = RECORDS, record_bytes: int = RECORD_BYTES, first: int = 1) -> Ring:
        """Open the ring at `path`, made if there is none, and go on after its newest record. Raises OSError."""
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(fd, records * record_bytes)
            return cls(mmap.mmap(fd, records * record_bytes), fd, records, record_bytes, first)
        except BaseException:
            os.close(fd)
            raise

    @classmethod
    def private(cls, records: int = RECORDS, record_bytes: int = RECORD_BYTES, first: int = 1) -> Ring:
        """Return a ring that no other process sees; its memory is taken as it fills."""
        memory = mmap.mmap(-1, records * record_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        return cls(memory, None, records, record_bytes, first)

    def write(self, text: bytes) -> None:
        """Keep a text that fits (`room_of`); where memory has run out the ring goes round earlier, or keeps nothing."""
        index = self._next
        if index >= self._records or not self._reserve(index):
            index = 0
            if not self._reserve(index):
                return
        start = index * self._record_bytes
        memory = self._memory
        self._sequence += 1
        self._next = index + 1
        self._used = max(self._used, index + 1)
        memory[start + _HEADER.size : start + _HEADER.size + len(text)] = text
        _HEADER.pack_into(memory, start, self._sequence, len(text), zlib.crc32(text))

    def read(self) -> Iterator[bytes]:
        """Give every text that is whole, in no order."""
        return _texts(self.content(), self._record_bytes)

    def content(self) -> bytes:
        """Return the bytes of the ring as far as it was ever written, as `written_part` gives them of a file."""
        return self._memory[: self._used * self._record_bytes]

    def close(self) -> None:
        """Let go of the memory."""
        self._memory.close()
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _reserve(self, index: int) -> bool:
        """Make sure that there is memory for a record, and all before it; say whether there is."""
        if index < self._reserved:
            return True
        assert self._fd is not None
        wanted, size = min(index + RESERVE_RECORDS, self._records), self._record_bytes
        try:
            os.posix_fallocate(self._fd, self._reserved * size, (wanted - self._reserved) * size)
        except OSError:
            return False
        self._reserved = wanted
        return True


def written_part(path: Path, record_bytes: int) -> bytes:
    """Return the bytes of a ring's file as far as it was ever written; it fills from its beginning."""
    with path.open("rb", buffering=0) as file:
        return b"".join(iter(partial(_next_written, file.read, record_bytes), b""))


def _next_written(read: Callable[[int], bytes], record_bytes: int) -> bytes:
    """Return the next lot of records, b"" when none of it was written."""
    part = read(RESERVE_RECORDS * record_bytes)
    return part if len(part) >= record_bytes and _NUMBER.unpack_from(part)[0] else b""


def texts(content: bytes) -> Iterator[bytes]:
    """Give every text in the bytes of a ring of 4 KiB records that is whole."""
    return _texts(content, RECORD_BYTES)


def newest_texts(content: bytes, most: int) -> Iterator[bytes]:
    """Give the texts of the newest records only, so many at most, oldest first; of records of RECORD_BYTES."""
    for _, start in sorted(numbered(content, RECORD_BYTES))[-most:]:
        if (text := text_at(content, start, RECORD_BYTES)) is not None:
            yield text


def _texts(content: bytes, record_bytes: int) -> Iterator[bytes]:
    for _, start in numbered(content, record_bytes):
        if (text := text_at(content, start, record_bytes)) is not None:
            yield text


def numbered(content: bytes, record_bytes: int) -> list[tuple[int, int]]:
    """Give the number of each record that was written, and where it is in a ring's bytes; quick, for it reads no text."""
    unpack = _NUMBER.unpack_from
    found = ((unpack(content, start)[0], start) for start in range(0, len(content) - record_bytes + 1, record_bytes))
    return [(number, start) for number, start in found if number]


def text_at(content: bytes, start: int, record_bytes: int) -> bytes | None:
    """Return the text of the record that is there; None for one that is torn, or of which only the number is written.

    Nothing at all has the checksum of no text: a header may be seen half written, too.
    """
    _, length, checksum = _HEADER.unpack_from(content, start)
    text = content[start + _HEADER.size : start + _HEADER.size + length]
    return text if 0 < length <= room_of(record_bytes) and zlib.crc32(text) == checksum else None
