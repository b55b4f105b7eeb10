"""Time that a test moves forward: breakers, probes, slow start and limits believe that it has passed, and nobody sleeps.

The edge reads the time from one function everywhere, `time.monotonic`, so that requests pay for nothing more. Here that name is
replaced, in the modules that reckon with it, by one that adds what a test has said. Sockets keep the real time: a time-out of
5 s that began before a jump of 5 s has 5 s left where it waits for bytes.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

_RECKON = ("smartedge.edge.", "smartedge.health.", "smartedge.observe.", "smartedge.proxy.")


class VirtualClock:
    """The time of one or several edges under test, in seconds; owned by what makes them.

    It is the machine's, and what `advance` has added. `install` before an edge is made, `remove` when it is gone.
    """

    def __init__(self) -> None:
        self._added_s = 0.0
        self._replaced: list[Any] = []

    def now(self) -> float:
        """Return the time."""
        return time.monotonic() + self._added_s

    def advance(self, seconds: float) -> None:
        """Let so many seconds pass at once. Raises ValueError for less than none: time does not go back."""
        if not seconds >= 0:
            raise ValueError(f"time goes forward only, not by {seconds} s")
        self._added_s += seconds

    def install(self) -> None:
        """Have the edge's modules read the time here."""
        for name, module in list(sys.modules.items()):
            if name.startswith(_RECKON) and getattr(module, "monotonic", None) is time.monotonic:
                self._set(module, self.now)
                self._replaced.append(module)

    def remove(self) -> None:
        """Have them read the machine's time again."""
        while self._replaced:
            self._set(self._replaced.pop(), time.monotonic)

    @staticmethod
    def _set(module: Any, function: Callable[[], float]) -> None:
        module.monotonic = function

    def __repr__(self) -> str:
        return f"<VirtualClock {self._added_s:g} s ahead>"
