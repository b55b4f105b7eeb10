from __future__ import annotations

import ctypes
import mmap
import re
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent.monkey import get_original

from smartedge.workers.huge_pages import (
    AGAIN_S,
    FIRST_S,
    MOST_REFUSED,
    PAGE_BYTES,
    SMALL_BYTES,
    HugePages,
    in_a_thread,
    whole_pages,
)


class Memory:
    """Anonymous memory of this process, with two large pages within it at least; `huge_kb`: how much is in such."""

    def __init__(self, tmp_path: Path) -> None:
        self.held = mmap.mmap(-1, 3 * PAGE_BYTES, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.start = ctypes.addressof(ctypes.c_char.from_buffer(self.held))
        self.maps = tmp_path / "maps"
        self.maps.write_text(f"{self.start:x}-{self.start + 3 * PAGE_BYTES:x} rw-p 00000000 00:00 0 \n")

    def use(self, one_in: int = 1) -> None:
        for at in range(0, 3 * PAGE_BYTES, SMALL_BYTES * one_in):
            self.held[at] = 1

    def huge_kb(self) -> int:
        begin, found = -1, 0
        for line in Path("/proc/self/smaps").read_text().splitlines():
            if place := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
                begin, end = int(place[1], 16), int(place[2], 16)
            elif line.startswith("AnonHugePages:") and begin < self.start + 3 * PAGE_BYTES and end > self.start:
                found += int(line.split()[1])
        return found


class Asked:
    """Counts how often the kernel is asked, and asks it, or refuses in its place."""

    def __init__(self, *, refuses: bool = False) -> None:
        self.times = 0
        self.refuses = refuses

    def __call__(self, function: Any, *args: Any) -> int:
        self.times += 1
        return -1 if self.refuses else int(function(*args))


def kernel_can(memory: Memory) -> bool:
    """Whether this kernel puts memory together at all: asked of the first large page of it, without the class under test."""
    first = -(-memory.start // PAGE_BYTES) * PAGE_BYTES
    return bool(ctypes.CDLL(None).madvise(ctypes.c_void_p(first), ctypes.c_size_t(PAGE_BYTES), 25) == 0)


@pytest.fixture
def setting(tmp_path: Path) -> Path:
    path = tmp_path / "enabled"
    path.write_text("always [madvise] never\n")
    return path


def test_memory_in_use_is_put_together_and_holds_what_it_held(tmp_path: Path, setting: Path) -> None:
    memory = Memory(tmp_path)
    memory.use()
    memory.held[5 * SMALL_BYTES] = 42
    HugePages(setting, memory.maps).put_together()
    found = memory.huge_kb()
    other = Memory(tmp_path)
    other.use()
    assert (found >= 2 * PAGE_BYTES // 1024) == kernel_can(other)
    assert memory.held[5 * SMALL_BYTES] == 42


def test_requests_go_on_while_the_kernel_is_at_it() -> None:
    """It may have to move other pages about first."""
    went_on = get_original("threading", "Event")()
    gevent.spawn(went_on.set)
    assert in_a_thread(went_on.wait, 10) == 1


def test_a_kernel_that_refuses_is_left_alone_until_the_next_time(tmp_path: Path, setting: Path) -> None:
    memory, asked = Memory(tmp_path), Asked(refuses=True)
    memory.use()
    memory.maps.write_text(memory.maps.read_text() * 10)
    pages = HugePages(setting, memory.maps, asked)
    pages.put_together()
    assert asked.times == MOST_REFUSED
    pages.put_together()
    assert asked.times == 2 * MOST_REFUSED


def test_memory_of_which_little_is_in_use_is_left_alone(tmp_path: Path, setting: Path) -> None:
    memory, asked = Memory(tmp_path), Asked()
    memory.held.madvise(mmap.MADV_NOHUGEPAGE)  # where the kernel gives large pages to everybody, the first byte would have one
    memory.use(one_in=2)
    HugePages(setting, memory.maps, asked).put_together()
    assert asked.times == 0
    memory.use()
    HugePages(setting, memory.maps, asked).put_together()
    assert asked.times >= 2


def test_an_administrator_who_wants_none_has_none(tmp_path: Path, setting: Path) -> None:
    memory, asked = Memory(tmp_path), Asked()
    memory.use()
    setting.write_text("always madvise [never]\n")
    HugePages(setting, memory.maps, asked).put_together()
    assert asked.times == 0


def test_a_system_without_them_is_left_alone(tmp_path: Path, setting: Path) -> None:
    asked = Asked()
    HugePages(tmp_path / "missing", call=asked).put_together()
    HugePages(setting, tmp_path / "missing", call=asked).put_together()
    assert asked.times == 0


def test_it_is_done_when_a_worker_has_got_going_and_each_minute_from_then_on(tmp_path: Path, setting: Path) -> None:
    memory, asked = Memory(tmp_path), Asked()
    memory.use()
    pages = HugePages(setting, memory.maps, asked)
    done = []
    for second in range(int(FIRST_S + 2 * AGAIN_S) + 2):
        pages.look(1000.0 + second)
        if asked.times:
            done.append(second)
            asked.times = 0
    assert done == [FIRST_S, FIRST_S + AGAIN_S, FIRST_S + 2 * AGAIN_S]


MAPS = """\
560cce000000-560cce1f5000 r-xp 00000000 fe:00 260386                     /usr/bin/python3.11
560cce1f5000-560ccec16000 rw-p 00000000 00:00 0                          [heap]
7f0000000000-7f0000400000 rw-p 00000000 00:00 0
7f0001000000-7f0001400000 rw-s 00000000 00:01 4711                       /dev/shm/board
7f0002000000-7f0002400000 rw-p 00000000 fe:00 260387                     /usr/lib/libpython3.11.so.1.0
7f0003000000-7f0003400000 r--p 00000000 00:00 0
7f0004000000-7f0004200000 rw-p 00000000 00:00 0                          [anon:arena]
7f0005001000-7f0005200000 rw-p 00000000 00:00 0
7ffc00000000-7ffc00800000 rw-p 00000000 00:00 0                          [stack]
"""


def test_only_whole_pages_of_the_process_s_own_memory_are_asked_for() -> None:
    heap = range(0x560CCE200000, 0x560CCEC00000, PAGE_BYTES)
    assert list(whole_pages(MAPS)) == [*heap, 0x7F0000000000, 0x7F0000200000, 0x7F0004000000]


def test_the_kernel_lists_memory_as_it_is_read() -> None:
    memory = mmap.mmap(-1, 3 * PAGE_BYTES, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    pages = [page for page in whole_pages(Path("/proc/self/maps").read_text()) if start <= page < start + 3 * PAGE_BYTES]
    assert len(pages) >= 2
