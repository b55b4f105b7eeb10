"""Greenlets that are used again: a connection that ends leaves its greenlet to the next one.

CPython maps a fresh 16 KiB stack for every greenlet and gives it back at its end (`mmap`, page faults, `munmap`), which is a
tenth of what a connection of one request costs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gevent
from gevent import get_hub, getcurrent
from gevent.lock import Semaphore

MOST_IDLE = 256
"""So many greenlets wait for work at most."""


class GreenletPool:
    """Runs functions in greenlets that are used again; owned by an `EdgeServer`, which has each connection handled in one."""

    def __init__(self) -> None:
        self._idle: list[Any] = []
        self._work: dict[Any, tuple[Callable[..., None], tuple[Any, ...]]] = {}

    def spawn(self, function: Callable[..., None], *args: Any) -> None:
        """Run `function(*args)` soon; what it raises is reported as gevent reports it, and ends nothing else."""
        hub = get_hub()
        while self._idle:
            greenlet = self._idle.pop()
            if greenlet.parent is hub:  # one of another thread's loop, which may have ended, is let go
                self._work[greenlet] = function, args
                hub.loop.run_callback(greenlet.switch)
                return
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


class LimitedGreenletPool(GreenletPool):
    """A GreenletPool in place of gevent's `Pool`, where an `EdgeServer` is to serve `size` connections at a time.

    While all are taken its server accepts nothing.

    It has what gevent's servers and gunicorn's worker ask of a pool, and no more.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self._semaphore = Semaphore(size)  # gevent's server waits on this one to accept again

    def full(self) -> bool:
        """Whether another function would have to wait."""
        return self._semaphore.counter <= 0  # type: ignore[no-any-return]

    def free_count(self) -> int:
        """How many more can run."""
        return self._semaphore.counter  # type: ignore[no-any-return]

    def spawn(self, function: Callable[..., None], *args: Any) -> None:
        """Run `function(*args)` soon, or when another one has ended."""
        self._semaphore.acquire()
        super().spawn(self._counted, function, args)

    def _counted(self, function: Callable[..., None], args: tuple[Any, ...]) -> None:
        try:
            function(*args)
        finally:
            self._semaphore.release()


def _nothing() -> None:
    """Stand in for the last function, so that an idle greenlet keeps nothing of it alive."""
