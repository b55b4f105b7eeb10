"""What a process and all its descendants have cost: CPU seconds and memory, read from /proc."""

from __future__ import annotations

import contextlib
import os
from collections import defaultdict
from pathlib import Path

TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def cpu_s(root: int) -> float:
    """User + system seconds of the tree under `root`, with those of children that have already ended.

    Fields 14 to 17 of proc(5)'s stat; resolution one tick (10 ms), so a round should last a second or more.
    """
    ticks = 0
    for fields in _tree(root).values():
        ticks += sum(map(int, fields[11:15]))
    return ticks / TICKS_PER_S


def pss_bytes(root: int) -> int:
    """Proportional set size of the tree: private pages, plus each shared page divided by its users."""
    total = 0
    for pid in _tree(root):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
    return total


def _tree(root: int) -> dict[int, list[str]]:
    """The fields of /proc/PID/stat after the command's name, for `root` and every descendant."""
    stats: dict[int, list[str]] = {}
    children: dict[int, list[int]] = defaultdict(list)
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                # The name is in parentheses and may hold spaces and parentheses itself.
                fields = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
                stats[int(entry)] = fields
                children[int(fields[1])].append(int(entry))
    found: dict[int, list[str]] = {}
    queue = [root]
    while queue:
        pid = queue.pop()
        if pid in stats:
            found[pid] = stats[pid]
            queue += children[pid]
    return found
