from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from smartedge.workers.ring import RECORD_BYTES, RESERVE_RECORDS, ROOM_BYTES, Ring, numbered, text_at, texts, written_part

BESIDE = """
import sys
from pathlib import Path
from smartedge.workers.ring import RECORD_BYTES, RESERVE_RECORDS, ROOM_BYTES, Ring, numbered, text_at, texts, written_part
ring = Ring.open(Path(sys.argv[1]), 8)
print("ready", flush=True)
number = 0
while True:
    number += 1
    ring.write((b"%d " % number) * (200 + number % 7))
"""


def kept(path: Path) -> set[bytes]:
    return set(texts(path.read_bytes()))


def test_what_is_written_is_read_and_the_oldest_goes_first() -> None:
    ring = Ring.private(3)
    assert list(ring.read()) == []
    for number in range(5):
        ring.write(b"text %d" % number)
    assert sorted(ring.read()) == [b"text 2", b"text 3", b"text 4"]


def test_the_longest_text_fits_and_a_short_one_after_it_is_whole() -> None:
    ring = Ring.private(1)
    ring.write(b"x" * ROOM_BYTES)
    assert list(ring.read()) == [b"x" * ROOM_BYTES]
    ring.write(b"short")
    assert list(ring.read()) == [b"short"]


def test_the_next_worker_of_a_slot_goes_on_after_the_newest_record(tmp_path: Path) -> None:
    path = tmp_path / "ring"
    first = Ring.open(path, 4)
    for number in range(6):
        first.write(b"%d" % number)
    first.close()
    second = Ring.open(path, 4)
    second.write(b"6")
    assert kept(path) == {b"3", b"4", b"5", b"6"}


@pytest.fixture
def shared_memory() -> Iterator[Path]:
    """A directory on tmpfs, as the state directory is."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        yield Path(name)


def test_memory_is_taken_as_the_ring_fills(shared_memory: Path) -> None:
    """A page of tmpfs is taken when it is only read through a mapping: 4 MB for each worker that has nothing to tell."""
    path = shared_memory / "ring"
    ring = Ring.open(path)
    assert path.stat().st_blocks == 0
    ring.write(b"one")
    assert 0 < path.stat().st_blocks * 512 <= RESERVE_RECORDS * RECORD_BYTES


def test_where_memory_runs_out_the_ring_goes_round_earlier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store into a page that is not there is a SIGBUS, so nothing may be written beyond what was reserved."""
    granted, real = 0, os.posix_fallocate

    def once(fd: int, offset: int, length: int) -> None:
        nonlocal granted
        granted += 1
        if granted > 1:
            raise OSError(28, "No space left on device")
        real(fd, offset, length)

    monkeypatch.setattr(os, "posix_fallocate", once)
    path = tmp_path / "ring"
    ring = Ring.open(path, 100)
    for number in range(RESERVE_RECORDS + 2):
        ring.write(b"%d" % number)
    assert kept(path) == {b"%d" % number for number in range(2, RESERVE_RECORDS + 2)}

    empty = Ring.open(tmp_path / "other", 100)
    empty.write(b"lost")
    assert kept(tmp_path / "other") == set()


@pytest.mark.parametrize("damage", [9, 13, 16, 20])
def test_a_record_that_is_torn_is_passed_over(tmp_path: Path, damage: int) -> None:
    path = tmp_path / "ring"
    ring = Ring.open(path, 2)
    ring.write(b"first")
    ring.write(b"second")
    content = bytearray(path.read_bytes())
    content[damage] ^= 1
    assert set(texts(bytes(content))) == {b"second"}


def test_a_record_of_which_only_the_number_is_written_is_none() -> None:
    """It was given as an empty text, whose checksum is 0, and the page that lists all of them failed."""
    assert list(texts(b"\1".ljust(RECORD_BYTES, b"\0"))) == []


def test_a_file_that_was_cut_short_gives_what_is_left(tmp_path: Path) -> None:
    path = tmp_path / "ring"
    ring = Ring.open(path, 2)
    ring.write(b"first")
    ring.write(b"second")
    assert set(texts(path.read_bytes()[: RECORD_BYTES + 10])) == {b"first"}


def test_a_reader_beside_a_busy_writer_sees_whole_records_only(tmp_path: Path) -> None:
    path = tmp_path / "ring"
    writer = subprocess.Popen([sys.executable, "-c", BESIDE, path], stdout=subprocess.PIPE)
    try:
        assert writer.stdout is not None
        writer.stdout.readline()
        seen = 0
        while seen < 2000:
            for text in texts(path.read_bytes()):
                assert len(set(text.split())) == 1
                seen += 1
    finally:
        writer.kill()
        writer.communicate()


def test_of_a_ring_that_is_not_full_only_the_written_part_is_read(tmp_path: Path) -> None:
    """To read megabytes of nothing leaves a worker with as much more memory, which its allocator keeps."""
    path = tmp_path / "ring"
    ring = Ring.open(path, 1000, 2048)
    assert written_part(path, 2048) == b""
    for number in range(RESERVE_RECORDS + 1):
        ring.write(b"%d" % number)
    assert len(written_part(path, 2048)) == 2 * RESERVE_RECORDS * 2048
    for number in range(RESERVE_RECORDS + 1, 1003):
        ring.write(b"%d" % number)
    content = written_part(path, 2048)
    assert len(content) == 1000 * 2048
    assert {text_at(content, start, 2048) for _, start in numbered(content, 2048)} == {
        b"%d" % number for number in range(3, 1003)
    }
    path.write_bytes(content[: 2048 * 3 + 5])
    assert [number for number, _ in numbered(written_part(path, 2048), 2048)] == [1001, 1002, 1003]


def test_a_private_ring_gives_what_was_written() -> None:
    ring = Ring.private(1000, 2048)
    assert ring.content() == b""
    ring.write(b"one")
    assert len(ring.content()) == 2048
