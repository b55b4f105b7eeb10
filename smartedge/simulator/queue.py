"""The edge's queue in virtual time: who waits because every backend that could serve is full, or may soon be back.

As `proxy/queue.py` has it, for one worker and without sessions. That a connection was made cannot be seen here, so those who
wait for a restart follow the one who asks with the first answer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from smartedge.balancer.backend import Backend
from smartedge.balancer.candidates import may_return
from smartedge.balancer.errors import AllFull, ConnectFailed, EdgeError, NoBackend
from smartedge.balancer.pool import Lease, Pool
from smartedge.simulator.machine import At

LOOK_S = 0.02
"""How often the queue is looked at while there is one."""


class Waiter:
    """One request's place. settle: what its wait ends with, a lease or the error. failed, away, ...: as in `proxy/queue.py`."""

    __slots__ = ("away", "back_until", "failed", "key", "room_until", "settle", "tried")

    def __init__(
        self,
        tried: Sequence[Backend],
        key: bytes,
        settle: Callable[[float, Lease | NoBackend], None],
        failed: EdgeError | None,
        room_until: float,
        back_until: float,
    ) -> None:
        self.tried = tried
        self.key = key
        self.settle = settle
        self.failed = failed
        self.room_until = room_until
        self.back_until = back_until
        self.away = False

    @property
    def until(self) -> float:
        """When it has waited long enough."""
        return self.back_until if self.away else self.room_until


class Queue:
    """Who waits. size, wait_s: how many, and for how long for room; back_s: for somebody to come back.

    nudge: has a backend probed soon.
    """

    def __init__(
        self, pool: Pool, size: int, wait_s: float, back_s: float, at: At, nudge: Callable[[float, Backend], None]
    ) -> None:
        self.places: deque[Waiter] = deque()
        self._pool = pool
        self._size = size
        self._wait_s = wait_s
        self._back_s = back_s
        self._at = at
        self._nudge = nudge
        self._refused: float | None = None
        self._next_scout = 0.0

    def take(
        self,
        now: float,
        tried: Sequence[Backend],
        key: bytes,
        settle: Callable[[float, Lease | NoBackend], None],
        failed: EdgeError | None = None,
        since: float | None = None,
    ) -> None:
        """Have `settle` called with a lease: now, or, after all that came before, when there is one; or with what is wrong.

        failed: the try before it. since: when it first found nobody.
        """
        failed = failed if isinstance(failed, ConnectFailed) else None
        back_until = (now if since is None else since) + self._back_s
        place = Waiter(tried, key, settle, failed, now + self._wait_s, back_until)
        why: NoBackend | None = None
        if not self.places:
            try:
                settle(now, self._pool.lease(now, tried, key))
                return
            except NoBackend as none:
                why = none
                if not isinstance(none, AllFull) and not self._may_wait(place, now):
                    settle(now, none)
                    return
        if len(self.places) >= self._size:
            settle(now, why or AllFull("All backends are full."))
            return
        if not self.places:
            self._at(now + LOOK_S, self._look, None)
        if failed is None:
            self.places.append(place)
        else:
            self.places.appendleft(place)
        if why is not None and not isinstance(why, AllFull):
            self._wants_back(place, now)

    def serve(self, now: float) -> bool:
        """Give a lease to the first who can have one; False when nobody can. Called when a lease has ended."""
        places = self.places
        scouting = self._refused is not None and self._heard() == self._refused
        if not scouting:
            self._refused = None
        elif now < self._next_scout:
            return False
        index = 0
        while index < len(places):
            place = places[index]
            try:
                lease = self._pool.lease(now, place.tried, place.key)
            except AllFull:
                if not place.tried:
                    return False
                index += 1  # What is free has been tried by this one; the next may have it.
                continue
            except NoBackend as error:
                if not self._may_wait(place, now):
                    del places[index]
                    place.settle(now, error)
                    return True
                left_out = place.tried
                self._wants_back(place, now)
                if not left_out:
                    return False
                if place.tried:
                    index += 1
                continue
            del places[index]
            if scouting:
                self._next_scout = now + LOOK_S
            place.settle(now, lease)
            return not scouting
        return False

    def _may_wait(self, place: Waiter, now: float) -> bool:
        left_s = place.back_until - now
        return left_s > 0.0 and (place.failed is not None or may_return(self._pool.backends, now, left_s))

    def _wants_back(self, place: Waiter, now: float) -> None:
        place.away = True
        if place.tried and place.failed is not None:
            place.tried = ()
            self._refused = self._heard()
            self._next_scout = now + LOOK_S
        for backend in self._pool.backends:
            if backend.learned.health.state == "unhealthy":
                self._nudge(now, backend)

    def _heard(self) -> float:
        return sum(backend.learned.heard_at for backend in self._pool.backends)

    def _look(self, now: float, _: None) -> None:
        while self.serve(now):
            pass
        for place in [place for place in self.places if place.until <= now]:
            self.places.remove(place)
            place.settle(now, NoBackend("It was waited for in vain.") if place.away else AllFull("No backend had room in time."))
        if self.places:
            self._at(now + LOOK_S, self._look, None)
        else:
            self._refused = None
