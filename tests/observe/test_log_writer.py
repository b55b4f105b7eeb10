"""Whatever becomes of the place that is written to: who writes is not held up, and what is lost is counted."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from smartedge.observe import log_file
from smartedge.observe import log_writer as logwriter
from smartedge.observe.log_writer import LOST, LogWriter
from tests.live.processes import wait_until

LINE = b"x" * 99 + b"\n"


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        try:
            os.close(end)
        except OSError:
            pass


def test_lines_come_in_their_order_from_several_threads_and_none_is_torn(tmp_path: Path) -> None:
    writer = LogWriter(str(tmp_path / "log"))

    def write(name: str) -> None:
        for number in range(500):
            writer.write(f"{name} {number}\n".encode())

    threads = [threading.Thread(target=write, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert writer.flush(5)
    lines = (tmp_path / "log").read_text().splitlines()
    for name in "ab":
        assert [line for line in lines if line.startswith(name)] == [f"{name} {number}" for number in range(500)]


def test_a_pipe_that_nobody_reads_holds_nobody_up_and_what_does_not_fit_is_counted(pipe: tuple[int, int]) -> None:
    """Regression: after 64 KiB on standard output the whole edge stood still, `/health` too."""
    reads, writes = pipe
    filling = fill(writes)
    writer = LogWriter(writes, most_bytes=10_000)
    before = LOST.total
    started = time.monotonic()
    for _ in range(1000):
        writer.write(LINE)
    assert time.monotonic() - started < 2
    assert writer.lost >= 800  # a hundred fit into the buffer, and as many into the writer's hand
    assert LOST.total - before == writer.lost

    got = b""
    while not writer.flush(0.01):  # somebody reads again, and gets whole lines
        got += os.read(reads, 65536)
    os.set_blocking(reads, False)
    with contextlib.suppress(BlockingIOError):
        got += os.read(reads, 1_000_000)
    assert got[filling:] == LINE * (1000 - writer.lost)


def fill(writes: int) -> int:
    """Fill a pipe; return with how many bytes."""
    os.set_blocking(writes, False)
    filling = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            filling += os.write(writes, b"-" * 4096)
    os.set_blocking(writes, True)
    return filling


def test_a_reader_that_has_gone_and_a_full_disk_lose_lines_and_nothing_else(pipe: tuple[int, int]) -> None:
    reads, writes = pipe
    os.close(reads)
    gone, full = LogWriter(writes), LogWriter("/dev/full")
    for writer, number in ((gone, errno.EPIPE), (full, errno.ENOSPC)):
        writer.write(LINE)
        writer.write(LINE)
        assert writer.flush(5)
        assert writer.lost == 2
        assert writer.trouble is not None
        assert writer.trouble.errno == number


def test_after_a_line_that_was_cut_by_a_full_disk_the_next_begins_on_a_line_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "log"
    writer = LogWriter(str(path))
    real, room = os.write, [4]

    def write(fd: int, data: memoryview) -> int:
        if not room[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        done = real(fd, data[: room[0]])
        room[0] -= done
        return done

    os.write = write  # type: ignore[assignment]
    try:
        writer.write(b"first\n")
        assert writer.flush(5)
        assert (writer.lost, path.read_bytes()) == (1, b"firs")
        room[0] = 1000
        writer.write(b"second\n")
        assert writer.flush(5)
    finally:
        os.write = real
    assert path.read_bytes() == b"firs\nsecond\n"
    assert writer.trouble is None


def test_a_file_that_was_moved_away_is_followed_without_being_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_file, "FOLLOW_S", 0.0)
    path = tmp_path / "log"
    writer = LogWriter(str(path))
    writer.write(b"old\n")
    assert writer.flush(5)
    path.rename(tmp_path / "log.1")
    writer.write(b"new\n")
    assert writer.flush(5)
    assert ((tmp_path / "log.1").read_bytes(), path.read_bytes()) == (b"old\n", b"new\n")


def test_where_no_new_file_can_be_made_the_old_one_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Regression: a directory that was renamed ended housekeeping half-way, with a traceback each second."""
    monkeypatch.setattr(log_file, "FOLLOW_S", 0.0)
    directory = tmp_path / "logs"
    directory.mkdir()
    writer = LogWriter(str(directory / "log"))
    directory.rename(tmp_path / "moved")
    writer.write(b"one\n")
    assert writer.flush(5)
    assert (tmp_path / "moved" / "log").read_bytes() == b"one\n"
    assert writer.cannot_follow is not None
    assert writer.lost == 0
    directory.mkdir()
    writer.write(b"two\n")
    assert writer.flush(5)
    assert (directory / "log").read_bytes() == b"two\n"
    assert writer.cannot_follow is None


def test_a_named_pipe_without_a_reader_is_refused_instead_of_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(OSError, match="No such device"):
        LogWriter(str(tmp_path / "fifo"))


def test_what_cannot_be_opened_is_an_error_at_once(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        LogWriter(str(tmp_path / "missing" / "log"))


def test_the_thread_ends_when_there_is_nothing_to_do_and_begins_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logwriter, "LINGER_S", 0.01)
    writer = LogWriter(str(tmp_path / "log"))
    writer.write(b"one\n")
    wait_until(lambda: not writer._runs, 5, "the thread to end")
    writer.write(b"two\n")
    assert writer.flush(5)
    assert (tmp_path / "log").read_bytes() == b"one\ntwo\n"


def test_close_writes_what_is_there_and_closes_the_file(tmp_path: Path) -> None:
    writer = LogWriter(str(tmp_path / "log"))
    fd = writer.file.fd
    writer.write(LINE)
    writer.close()
    wait_until(lambda: writer.file.fd == -1, 5, "the file to be closed")
    assert (tmp_path / "log").read_bytes() == LINE
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(fd)
    writer.write(LINE)  # too late: lost, and counted
    assert writer.lost == 1


def test_a_forked_child_writes_its_own_lines_only(pipe: tuple[int, int]) -> None:
    """gunicorn's arbiter says that it listens, and forks: the line must not come from every worker."""
    reads, writes = pipe
    writer = LogWriter(writes)
    writer.write(b"parent\n")
    pid = os.fork()
    if pid == 0:
        writer.write(b"child\n")
        writer.flush(5)
        os._exit(0)
    os.waitpid(pid, 0)
    assert writer.flush(5)
    assert sorted(os.read(reads, 4096).splitlines()) == [b"child", b"parent"]


def test_lines_of_several_processes_on_one_pipe_stay_whole(pipe: tuple[int, int]) -> None:
    """A pipe takes no more at once than PIPE_BUF: of a longer write, the rest may come behind another process's line."""
    reads, writes = pipe
    children = []
    for letter in b"abc":
        pid = os.fork()
        if pid == 0:
            writer = LogWriter(writes, most_bytes=1 << 24)
            for _ in range(3000):
                writer.write(bytes([letter]) * 70 + b"\n")
            writer.flush(30)
            os._exit(0)
        children.append(pid)
    os.close(writes)
    got = b""
    while piece := os.read(reads, 65536):
        got += piece
    for pid in children:
        os.waitpid(pid, 0)
    lines = got.splitlines()
    assert len(lines) == 9000
    assert {bytes(set(line)) for line in lines} == {b"a", b"b", b"c"}


def test_a_thread_that_ended_before_it_began_is_followed_by_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Regression: started without memory a thread ends before its first line; nothing was ever written again."""
    start, begun = logwriter._start_thread, []

    def end_at_once(function: Callable[..., None], arguments: tuple[object, ...]) -> int:
        begun.append((function, arguments))
        return start(lambda: None, ()) if len(begun) == 1 else start(function, arguments)

    monkeypatch.setattr(logwriter, "_start_thread", end_at_once)
    writer = LogWriter(str(tmp_path / "log"))
    writer.write(b"one\n")
    writer.write(b"two\n")
    assert len(begun) == 1  # it may be about to begin
    monkeypatch.setattr(logwriter, "DEAD_S", 0.0)
    writer.write(b"three\n")
    assert writer.flush(5)
    assert (tmp_path / "log").read_bytes() == b"one\ntwo\nthree\n"
    late, arguments = begun[0]
    late(*arguments)  # and should the first one begin after all, it leaves the work to the other


def test_a_thread_that_stands_by_is_there_for_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logwriter, "LINGER_S", 0.001)
    begun: list[object] = []
    start = logwriter._start_thread
    monkeypatch.setattr(logwriter, "_start_thread", lambda *call: (begun.append(call), start(*call))[1])
    writer = LogWriter(str(tmp_path / "log"))
    writer.stand_by()
    for line in (b"one\n", b"two\n"):
        wait_until(lambda: writer._idle, 5, "it to wait")
        writer.write(line)
        assert writer.flush(5)
    assert len(begun) == 1
    writer.close()
    wait_until(lambda: not writer._runs, 5, "the thread to end")
