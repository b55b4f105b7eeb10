"""The edge's queue in virtual time: who waits because every backend that could serve is full, in the order of arrival.

As `proxy/queue.py` has it, for one worker.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from smartedge.balancer.backend import Backend
from smartedge.balancer.errors import AllFull, NoBackend
from smartedge.balancer.pool import Lease, Pool
from smartedge.simulator.machine import At

LOOK_S = 0.02
"""How often overdue places are looked for."""


class Place(NamedTuple):
    """One request's place. settle: what its wait ends with, a lease or the error."""

    deadline: float
    tried: Sequence[Backend]
    key: bytes
    settle: Callable[[float, Lease | NoBackend], None]


class Queue:
    """Who waits for room. size, wait_s: how many, and for how long."""

    def __init__(self, pool: Pool, size: int, wait_s: float, at: At) -> None:
        self.places: deque[Place] = deque()
        self._pool = pool
        self._size = size
        self._wait_s = wait_s
        self._at = at

    def take(self, now: float, tried: Sequence[Backend], key: bytes, settle: Callable[[float, Lease | NoBackend], None]) -> None:
        """Have `settle` called with a lease: now, or, after all that came before, when there is room; or with what is wrong."""
        if not self.places:
            try:
                settle(now, self._pool.lease(now, tried, key))
                return
            except AllFull as full:
                if not self._size:
                    settle(now, full)
                    return
            except NoBackend as error:
                settle(now, error)
                return
        if len(self.places) >= self._size:
            settle(now, AllFull("All backends are full."))
            return
        if not self.places:
            self._at(now + LOOK_S, self._look, None)
        self.places.append(Place(now + self._wait_s, tried, key, settle))

    def serve(self, now: float) -> bool:
        """Give room to the first who can use it; False when there is none. Called when a lease has ended."""
        for index, place in enumerate(self.places):
            try:
                lease = self._pool.lease(now, place.tried, place.key)
            except AllFull:
                if not place.tried:
                    return False
                continue  # What is free has been tried by this one; the next may have it.
            except NoBackend as error:
                del self.places[index]
                place.settle(now, error)
                return True
            del self.places[index]
            place.settle(now, lease)
            return True
        return False

    def _look(self, now: float, _: None) -> None:
        while self.serve(now):
            pass
        while self.places and self.places[0].deadline <= now:
            self.places.popleft().settle(now, AllFull("No backend had room in time."))
        if self.places:
            self._at(now + LOOK_S, self._look, None)
