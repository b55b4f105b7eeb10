"""Greenlets that are used again: a connection that ends leaves its greenlet to the next one.

CPython maps a fresh 16 KiB stack for every greenlet and gives it back at its end (`mmap`, page faults, `munmap`), which is a
tenth of what a connection of one request costs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gevent
from gevent import get_hub, getcurrent

MOST_IDLE = 256
"""So many greenlets wait for work at most."""


class Crew:
    """Runs functions in greenlets: `spawn` takes an idle one or makes a new one."""

    def __init__(self) -> None:
        self._idle: list[Any] = []
        self._work: dict[Any, tuple[Callable[..., None], tuple[Any, ...]]] = {}

    def spawn(self, function: Callable[..., None], *args: Any) -> None:
        """Run `function(*args)` soon; what it raises is reported as gevent reports it, and ends nothing else."""
        if self._idle:
            greenlet = self._idle.pop()
            self._work[greenlet] = function, args
            get_hub().loop.run_callback(greenlet.switch)
        else:
            gevent.spawn(self._serve, function, args)

    def _serve(self, function: Callable[..., None], args: tuple[Any, ...]) -> None:
        me = getcurrent()
        hub = get_hub()
        while True:
            function(*args)  # an exception ends this greenlet: gevent prints it, and another takes its place
            if len(self._idle) >= MOST_IDLE:
                return
            function, args = _nothing, ()
            self._idle.append(me)
            try:
                hub.switch()
            finally:
                if me in self._idle:
                    self._idle.remove(me)
            function, args = self._work.pop(me)


def _nothing() -> None:
    """Hold no reference to what has been done."""
