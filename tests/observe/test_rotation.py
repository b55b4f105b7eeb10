"""Files that are moved aside in time, by one writer of several, and what becomes of the older ones."""

from __future__ import annotations

import fcntl
import gzip
import os
import threading
import time
from pathlib import Path

import pytest

from smartedge.observe import log_file
from smartedge.observe.log_writer import LogWriter
from smartedge.observe.rotation import Rotation, locked, open_directory, rotated_files
from tests.live.processes import wait_until


def lines_of(path: Path) -> list[bytes]:
    """Every line in a log and in what was moved aside from it, the oldest first."""
    files = [*map(Path, rotated_files(str(path))), path]
    return [
        line
        for file in files
        for line in (gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()).splitlines()
    ]


def test_a_file_that_has_become_too_large_is_moved_aside(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    writer = LogWriter(str(path), rotation=Rotation(100, None, 10, compress=False))
    for number in range(6):
        writer.write(b"%048d\n" % number)
        assert writer.flush(20)
    writer.close()
    assert [int(line) for line in lines_of(path)] == list(range(6))
    assert [len(Path(name).read_bytes()) for name in rotated_files(str(path))] == [98, 98]
    assert len(path.read_bytes()) == 98


def test_a_file_holds_the_lines_of_one_span_of_time() -> None:
    day = Rotation(None, 86_400, 10, compress=False)
    midnight = 86_400 * 20_000

    def status(modified: float, size: int = 1) -> os.stat_result:
        return os.stat_result((0, 0, 0, 0, 0, 0, size, 0, modified, 0))

    assert not day.is_due(status(midnight), 10, midnight + 86_399)
    assert day.is_due(status(midnight - 1), 10, midnight)
    assert day.is_due(status(midnight - 400_000), 10, midnight + 5)
    assert not day.is_due(status(midnight - 1, size=0), 10, midnight)


def test_a_line_after_the_span_begins_a_new_file(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    path.write_bytes(b"old\n")
    os.utime(path, (0, 0))
    writer = LogWriter(str(path), rotation=Rotation(None, 86_400, 10, compress=False))
    writer.write(b"new\n")
    assert writer.flush(20)
    writer.close()
    (older,) = rotated_files(str(path))
    assert (Path(older).read_bytes(), path.read_bytes()) == (b"old\n", b"new\n")


def test_the_newest_are_kept_and_compressed_and_nothing_else_is_touched(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    for number in range(5):
        (tmp_path / f"access.log.20261127T03100{number}Z").write_text(str(number))
    (tmp_path / "access.log.20261127T031004Z-1").write_text("5")
    others = ("access.log.1", "access.log.old", "other.log.20261127T031000Z", "access.log.20261127T031000Z.bak")
    for name in others:
        (tmp_path / name).write_text(name)
    rotation = Rotation(1, None, 3, compress=True)
    rotation.tidy(str(path))
    kept = [Path(name) for name in rotated_files(str(path))]
    assert [file.name for file in kept] == [
        "access.log.20261127T031003Z.gz",
        "access.log.20261127T031004Z.gz",
        "access.log.20261127T031004Z-1.gz",
    ]
    assert [gzip.decompress(file.read_bytes()) for file in kept] == [b"3", b"4", b"5"]
    assert sorted(os.listdir(tmp_path)) == sorted([*others, *(file.name for file in kept)])


def test_what_another_worker_compresses_is_left_to_it(tmp_path: Path) -> None:
    name = tmp_path / "access.log.20261127T031000Z"
    name.write_text("x")
    with name.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        Rotation(1, None, 3, compress=True).tidy(str(tmp_path / "access.log"))
    assert os.listdir(tmp_path) == [name.name]


def test_files_that_are_moved_aside_in_one_second_have_names_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    rotation = Rotation(1, None, 10, compress=False)
    for number in range(12):
        path.write_text(str(number))
        rotation.move_aside(str(path), 0.0)
    assert [Path(name).read_text() for name in rotated_files(str(path))] == [str(number) for number in range(12)]


def test_who_waits_too_long_for_the_others_writes_and_moves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that was stopped in the middle of a write must not have the others lose their lines."""
    monkeypatch.setattr(log_file, "LOCK_S", 0.01)
    path = tmp_path / "access.log"
    path.write_bytes(b"x" * 200 + b"\n")
    held = open_directory(str(path))
    fcntl.flock(held, fcntl.LOCK_EX)
    writer = LogWriter(str(path), rotation=Rotation(100, None, 10, compress=False))
    writer.write(b"new\n")
    assert writer.flush(20)
    assert rotated_files(str(path)) == []
    os.close(held)
    writer.write(b"newer\n")
    assert writer.flush(20)
    writer.close()
    assert len(rotated_files(str(path))) == 1
    assert lines_of(path)[-2:] == [b"new", b"newer"]


def test_writers_of_several_processes_lose_tear_and_double_no_line(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    rotation = Rotation(20_000, None, 1000, compress=True)
    children = []
    for letter in b"abc":
        pid = os.fork()
        if pid == 0:
            writer = LogWriter(str(path), rotation=rotation)
            for number in range(600):
                writer.write(b"%c%069d\n" % (letter, number))
                if number % 50 == 0:
                    writer.flush(30)
            writer.flush(30)
            os._exit(0 if writer.lost == 0 else 1)
        children.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0, 0, 0]
    rotation.tidy(str(path))
    found = lines_of(path)
    assert sorted(found) == sorted(b"%c%069d" % (letter, number) for letter in b"abc" for number in range(600))
    for letter in b"abc":
        assert [line for line in found if line[0] == letter] == [b"%c%069d" % (letter, number) for number in range(600)]
    older = rotated_files(str(path))
    assert len(older) >= 3
    assert all(name.endswith(".gz") for name in older)


def test_a_rotation_of_ones_own_has_the_older_files_compressed_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    writer = LogWriter(str(path), rotation=Rotation(10, None, 1, compress=True))
    for number in range(4):
        writer.write(b"line %d....\n" % number)
        assert writer.flush(20)
    writer.close()

    def one_compressed() -> bool:
        return [Path(name).suffix for name in rotated_files(str(path))] == [".gz"]

    wait_until(one_compressed, 20, "the older file to be compressed")
    assert lines_of(path) == [b"line 2....", b"line 3...."]


def test_the_lock_is_held_by_one_at_a_time(tmp_path: Path) -> None:
    inside, most = [0], [0]

    def work() -> None:
        directory = open_directory(str(tmp_path / "x"))
        for _ in range(20):
            with locked(directory, 20.0) as held:
                assert held
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                time.sleep(0)
                inside[0] -= 1
        os.close(directory)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]
