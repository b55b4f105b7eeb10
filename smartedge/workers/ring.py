"""A ring of records in memory: one process writes, any may read, and the oldest make room for the newest.

    record 0, record 1, ...   4 KiB each: sequence number, length and CRC-32 of the text, the text

In a file, it is mapped: writing is no system call, but for the first time round, when each 64 KiB are reserved,
because a store into a page that a full filesystem cannot supply is not an error one can catch but a SIGBUS. A
reader believes nothing that its checksum does not fit, so that it never sees half of one record and half of another.
"""

from __future__ import annotations

import mmap
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

RECORDS: Final = 1000
RECORD_BYTES: Final = 4096
RESERVE_RECORDS: Final = 16

_HEADER: Final = struct.Struct("<QII")
ROOM_BYTES: Final = RECORD_BYTES - _HEADER.size
"""The longest text that a record can hold."""


class Ring:
    """The ring of one writer; made by `Ring.open` (a file) or `Ring.private` (memory)."""

    def __init__(self, memory: mmap.mmap, fd: int | None, records: int) -> None:
        self._memory = memory
        self._fd = fd
        self._records = records
        self._reserved = records if fd is None else 0
        self._sequence = self._next = 0
        if fd is not None:
            # Not through the mapping: on tmpfs to read a page there is to take it.
            headers = [os.pread(fd, _HEADER.size, index * RECORD_BYTES) for index in range(records)]
            found = [_HEADER.unpack(header)[0] for header in headers]
            self._sequence = max(found)
            self._next = found.index(self._sequence) + 1 if self._sequence else 0

    @classmethod
    def open(cls, path: Path, records: int = RECORDS) -> Ring:
        """Open the ring at `path`, made if there is none, and go on after its newest record. Raises OSError."""
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(fd, records * RECORD_BYTES)
            return cls(mmap.mmap(fd, records * RECORD_BYTES), fd, records)
        except BaseException:
            os.close(fd)
            raise

    @classmethod
    def private(cls, records: int = RECORDS) -> Ring:
        """Return a ring that no other process sees; its memory is taken as it fills."""
        return cls(mmap.mmap(-1, records * RECORD_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS), None, records)

    def write(self, text: bytes) -> None:
        """Keep a text of at most ROOM_BYTES; where memory has run out the ring goes round earlier, or keeps nothing."""
        index = self._next
        if index >= self._records or not self._reserve(index):
            index = 0
            if not self._reserve(index):
                return
        start = index * RECORD_BYTES
        memory = self._memory
        self._sequence += 1
        self._next = index + 1
        memory[start + _HEADER.size : start + _HEADER.size + len(text)] = text
        _HEADER.pack_into(memory, start, self._sequence, len(text), zlib.crc32(text))

    def read(self) -> Iterator[bytes]:
        """Give every text that is whole, in no order."""
        return texts(self._memory[:])

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
        wanted = min(index + RESERVE_RECORDS, self._records)
        try:
            os.posix_fallocate(self._fd, self._reserved * RECORD_BYTES, (wanted - self._reserved) * RECORD_BYTES)
        except OSError:
            return False
        self._reserved = wanted
        return True


def texts(content: bytes) -> Iterator[bytes]:
    """Give every text in a ring's bytes that is whole; what is torn, or was never written, is passed over.

    Nothing at all has the checksum of no text: a header may be seen half written, too.
    """
    for start in range(0, len(content) - RECORD_BYTES + 1, RECORD_BYTES):
        _, length, checksum = _HEADER.unpack_from(content, start)
        text = content[start + _HEADER.size : start + _HEADER.size + length]
        if 0 < length <= ROOM_BYTES and zlib.crc32(text) == checksum:
            yield text
