"""What a worker does again and again beside its requests."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from time import thread_time
from typing import Any, Final, TypeVar

import gevent

from smartedge.workers.turns import Turns

PIECE_S: Final = 0.001
"""So long may work hold up requests, but for what a step of it takes."""

Item = TypeVar("Item")

log = logging.getLogger(__name__)


class PeriodicWork:
    """Calls `work` every `interval_s` seconds in a greenlet, from `start` to `stop`; made and ended by the Edge.

    What `work` raises is logged, and it is called again at its next turn.
    """

    def __init__(self, work: Callable[[], None], interval_s: float) -> None:
        self._work = work
        self._interval_s = interval_s
        self._greenlet: Any = None

    def start(self) -> None:
        """Begin, with the first call at once."""
        if self._greenlet is None:
            self._greenlet = gevent.spawn(self._run)

    def stop(self) -> None:
        """End, between two calls."""
        greenlet, self._greenlet = self._greenlet, None
        if greenlet is not None:
            greenlet.kill()

    def _run(self) -> None:
        while True:
            try:
                self._work()
            except Exception:
                log.exception("housekeeping failed and is tried again in %g s", self._interval_s)
            gevent.sleep(self._interval_s)


def give_way() -> None:
    """Let requests go on: what takes long is done in pieces, and each round of the loop does only so many of all that wait."""
    Turns.of(gevent.get_hub()).wait()


class Pauses:
    """Lets requests go on whenever work has held them up for PIECE_S; made for one long piece of work, called between its steps.

    pause: how others are let go on. clock: in seconds; of the processor's time, for on a busy machine a piece would else be over
    before it has begun, and the work takes many times as long.
    """

    def __init__(self, pause: Callable[[], None] = give_way, clock: Callable[[], float] = thread_time) -> None:
        self._pause = pause
        self._clock = clock
        self._since = clock()

    def __call__(self) -> None:
        """Give way, if it is time."""
        if self._clock() - self._since >= PIECE_S:
            self._pause()
            self._since = self._clock()


def in_pieces(items: Iterable[Item]) -> Iterator[Item]:
    """Give the items, and let requests go on between them whenever it is time."""
    pause = Pauses()
    for item in items:
        yield item
        pause()
