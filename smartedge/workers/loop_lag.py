"""How late a worker's loop comes to what is due: what all its requests wait for besides."""

from __future__ import annotations

from typing import Final

WINDOW_S: Final = 15.0
"""Prometheus asks every 15 s: a stall is to be seen once at least."""


class LoopLag:
    """The longest delay of the last one to two windows; owned by the `Edge`, told of each turn of its periodic work.

    (Two windows, because one that has just begun would know nothing.) All times are seconds of one clock.
    """

    def __init__(self) -> None:
        self._window = 0.0
        self._now_s = self._before_s = 0.0

    def note(self, now: float, late_s: float) -> float:
        """Take one delay, and return the longest."""
        if (window := now // WINDOW_S) != self._window:
            self._before_s = self._now_s if window == self._window + 1 else 0.0
            self._window, self._now_s = window, 0.0
        self._now_s = max(self._now_s, late_s)
        return max(self._now_s, self._before_s)
