"""Greenlets that are used again: a connection that ends leaves its greenlet to the next one.

CPython maps a fresh 16 KiB stack for every greenlet and gives it back at its end (`mmap`, page faults, `munmap`), which is a
tenth of what a connection of one request costs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from gevent import get_hub, getcurrent
from gevent.lock import Semaphore
from greenlet import GreenletExit, greenlet  # type: ignore[import-untyped]

from smartedge.http.resources import require_memory

MOST_IDLE = 256
"""So many greenlets wait for work at most."""


class GreenletPool:
    """Runs functions in greenlets that are used again; owned by an `EdgeServer`, which has each connection handled in one."""

    def __init__(self) -> None:
        self._idle: list[Any] = []
        self._work: dict[Any, tuple[Callable[..., None], tuple[Any, ...]]] = {}

    def spawn(self, function: Callable[..., None], *args: Any) -> None:
        """Run `function(*args)` soon; what it raises is reported as gevent reports it, and ends nothing else.

        Raises MemoryError where there is none for another greenlet: it begins here, up to where it waits for its work, for a
        greenlet that begins in the loop without memory ends there, and nobody hears of it.
        """
        hub = get_hub()
        one = self._take_idle(hub)
        if one is None:
            require_memory()
            one = greenlet(self._serve, hub)
            one.switch(getcurrent())
            self._forget(one)
        self._work[one] = function, args
        hub.loop.run_callback(one.switch)

    def _take_idle(self, hub: Any) -> Any:
        while self._idle:
            one = self._idle.pop()
            if one.parent is hub:  # one of another thread's loop, which may have ended, is let go
                return one
        return None

    def _serve(self, starter: Any) -> None:
        me = getcurrent()
        hub = get_hub()
        wait_for_work = starter.switch  # the first time, whoever has begun us goes on
        while len(self._idle) < MOST_IDLE:
            self._idle.append(me)
            try:
                wait_for_work()
            except BaseException:  # ended while it was idle; who gives us work has taken us from the list
                self._forget(me)
                raise
            wait_for_work = hub.switch
            function, args = self._work.pop(me)
            try:
                function(*args)
            except GreenletExit:
                raise
            except BaseException:
                hub.handle_error(me, *sys.exc_info())
            function, args = _nothing, ()

    def _forget(self, one: Any) -> None:
        if one in self._idle:
            self._idle.remove(one)


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
        try:
            super().spawn(self._counted, function, args)
        except BaseException:
            self._semaphore.release()
            raise

    def _counted(self, function: Callable[..., None], args: tuple[Any, ...]) -> None:
        try:
            function(*args)
        finally:
            self._semaphore.release()


def _nothing() -> None:
    """Stand in for the last function, so that an idle greenlet keeps nothing of it alive."""
