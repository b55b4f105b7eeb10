"""Where a round of the event loop goes: each stretch between two switches of greenlets, with its processor time and its place.

For `bench/lumps.py --stretches`; slows everything down a little, so figures to compare come without it.
"""

from __future__ import annotations

import gc
import sys
from time import thread_time
from types import FrameType
from typing import Any

import greenlet

HERE = __file__.rpartition("/bench/")[0]


class Stretches:
    """Follows the switches of its thread, the loop's, for as long as the process runs.

    longest: of the longest round, `(seconds, where)` of its stretches that are no shorter than `at_least_s`, in their order; a
    pause of the garbage collector is one of its own, and part of the stretch that it falls into.
    """

    def __init__(self, at_least_s: float = 0.0003) -> None:
        self.longest: list[tuple[float, str]] = []
        self._longest_s = 0.0
        self._at_least_s = at_least_s
        self._round: list[tuple[float, str]] = []
        self._since = self._round_since = self._collecting = thread_time()
        self._began = ""
        gc.callbacks.append(self._collected)
        greenlet.settrace(self._switched)

    def next_round(self) -> None:
        """Begin anew: the loop has looked at its sockets."""
        self._end(sys._getframe(1), sys._getframe(1))
        if self._since - self._round_since > self._longest_s:
            self._longest_s, self.longest = self._since - self._round_since, self._round
        self._round, self._round_since = [], thread_time()

    def take(self) -> list[tuple[float, str]]:
        """Give the stretches of the longest round since the last time."""
        found, self.longest, self._longest_s = self.longest, [], 0.0
        return found

    def _switched(self, event: str, switch: tuple[Any, Any]) -> None:
        self._end(switch[0].gr_frame, sys._getframe().f_back)

    def _end(self, ended: FrameType | None, begins: FrameType | None) -> None:
        now = thread_time()
        if now - self._since >= self._at_least_s:
            self._round.append((now - self._since, f"{self._began} -> {_place(ended)}"))
        self._began = _place(begins)
        self._since = thread_time()

    def _collected(self, phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            self._collecting = thread_time()
        elif (took := thread_time() - self._collecting) >= self._at_least_s:
            self._round.append((took, f"garbage collection of generation {info['generation']}"))


def _place(frame: FrameType | None) -> str:
    """Name the innermost three of our own functions, with their lines."""
    names: list[str] = []
    while frame is not None and len(names) < 4:
        path = frame.f_code.co_filename
        if path.startswith(HERE) and "/bench/" not in path and "periodic" not in path and ".venv" not in path:
            names.append(f"{path.rpartition('/')[2]}:{frame.f_lineno} {frame.f_code.co_name}")
        frame = frame.f_back
    return " < ".join(names) or "the loop"
