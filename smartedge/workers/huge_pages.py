"""A worker's memory in pages of 2 MiB instead of 4 KiB, where the kernel lets it: Linux from 6.1 on, `madvise(2)`.

A request touches places all over the interpreter's memory. Where each page lies has to be looked up, a processor remembers some
1,500 of them, and on a virtual machine each look-up is two: 3 to 5% of a request's processor time (docs/performance.md).
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from gevent import get_hub

PAGE_BYTES: Final = 1 << 21
SMALL_BYTES: Final = 1 << 12
FIRST_S: Final = 3.0
AGAIN_S: Final = 60.0
"""When memory is put together: once a worker has what it needs for requests, and again for what has come since."""

MOSTLY_USED: Final = 384
"""Of the 512 small pages so many have to be there, for all are afterwards: a thread's stack would only grow."""

MOST_REFUSED: Final = 3
"""A kernel that has refused so many has no memory in one piece, or no wish: it is asked again at the next time."""

_ANONYMOUS: Final = re.compile(r"([0-9a-f]+)-([0-9a-f]+) rw.p \S+ \S+ 0 *(?:\[heap\]|\[anon.*)?\n")
_MADV_COLLAPSE: Final = 25


def in_a_thread(function: Callable[..., int], *args: Any) -> int:
    """Call it while requests go on: to make room for a large page a kernel may have to move others about, for milliseconds."""
    result: int = get_hub().threadpool.apply(function, args)
    return result


class HugePages:
    """Has the kernel put a worker's memory together now and then; owned by the `Upkeep`, which calls it each second.

    An administrator who has switched such pages off (`never`) is obeyed. Where a kernel has none, or no memory for one, all stays
    as it is.
    """

    def __init__(
        self,
        setting: Path = Path("/sys/kernel/mm/transparent_hugepage/enabled"),
        maps: Path = Path("/proc/self/maps"),
        call: Callable[..., int] = in_a_thread,
    ) -> None:
        self._setting, self._maps = setting, maps
        self._call = call
        self._due: float | None = None

    def look(self, now: float) -> None:
        """Put together what is there, if it is time. now: in seconds."""
        if self._due is None:
            self._due = now + FIRST_S
        elif now >= self._due:
            self._due = now + AGAIN_S
            self.put_together()

    def put_together(self) -> None:
        """Ask the kernel for a large page in place of each 512 small ones that are mostly used; it copies them."""
        try:
            if "[never]" in self._setting.read_text():
                return
            maps = self._maps.read_text()
        except OSError:  # another system
            return
        libc = ctypes.CDLL(None)
        refused = 0
        for start in whole_pages(maps):
            if _used(libc, start) >= MOSTLY_USED:
                refused += bool(self._call(libc.madvise, ctypes.c_void_p(start), ctypes.c_size_t(PAGE_BYTES), _MADV_COLLAPSE))
                if refused == MOST_REFUSED:
                    return


def whole_pages(maps: str) -> Iterator[int]:
    """Give where the large pages would begin that lie within memory of the process's own, by /proc/self/maps (proc(5))."""
    for found in _ANONYMOUS.finditer(maps):
        start, end = int(found[1], 16), int(found[2], 16)
        yield from range(-(-start // PAGE_BYTES) * PAGE_BYTES, end - PAGE_BYTES + 1, PAGE_BYTES)


def _used(libc: Any, start: int) -> int:
    """Count the small pages there that are in memory (mincore(2))."""
    there = (ctypes.c_ubyte * (PAGE_BYTES // SMALL_BYTES))()
    if libc.mincore(ctypes.c_void_p(start), ctypes.c_size_t(PAGE_BYTES), there):
        return 0  # it has been given back meanwhile
    return sum(one & 1 for one in there)
