"""The queue: who waits because every backend that could serve is full, or because none is there and one may soon be back.

Both wait in one line, in the order of arrival, whose size is the whole edge's. A lease that ends in this worker hands its
room to the first who can use it at once. What the other workers' leases leave, and who has come back, is seen a moment later,
so the order holds within a worker only. A sticky session waits for its own backend while that is full; the others pass it by.

A backend that refuses connections is probably being restarted. Of all who wait for it one asks again, every LOOK_S, and as
soon as it is connected, or any backend answers, the rest follow: a hundred clients are no storm of connections.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any

from gevent import get_hub, getcurrent

from smartedge.balancer.backend import Backend
from smartedge.balancer.candidates import may_return
from smartedge.balancer.cells import CONNECTS, QUEUE_REFUSED, QUEUED
from smartedge.balancer.errors import AllFull, ConnectFailed, EdgeError, NoBackend, SessionFull
from smartedge.balancer.learned import Learned
from smartedge.balancer.pool import Lease

if TYPE_CHECKING:
    from smartedge.balancer.pool import Pool
    from smartedge.proxy.attempts import Attempts

LOOK_S = 0.02
"""How often the queue is looked at while there is one: for room that other workers' leases left, and for overdue places."""

NUDGE_S = 0.25
"""How often a probe is asked for of those who are waited for; the schedule has them no nearer to each other than it likes."""

RETRY_AFTER_S = 1.0
"""What a client is told that found no room."""


class Waiter:
    """One request's place in the queue; `settle` ends its wait, with a lease or an error.

    tried: the backends that are left out. failed: what became of the latest try, when none was left after it. away: it waits for
    somebody to come back, until `back_until`; else for room, until `room_until`.
    """

    __slots__ = ("_error", "_greenlet", "_lease", "away", "back_until", "failed", "request", "room_until", "settled", "tried")

    def __init__(
        self, request: Attempts, tried: Sequence[Backend], failed: EdgeError | None, room_until: float, back_until: float
    ) -> None:
        self.request = request
        self.tried = tried
        self.failed = failed
        self.room_until = room_until
        self.back_until = back_until
        self.away = False
        self.settled = False
        self._lease: Lease | None = None
        self._error: EdgeError | None = None
        self._greenlet = getcurrent()

    @property
    def until(self) -> float:
        """When it has waited long enough."""
        return self.back_until if self.away else self.room_until

    def wait(self) -> Lease:
        """Wait for the end; raises the error."""
        try:
            get_hub().switch()
        except BaseException:
            self._give_back()
            raise
        if self._error is not None:
            self._give_back()
            raise self._error
        assert self._lease is not None
        return self._lease

    def settle(self, lease: Lease | None, error: EdgeError | None = None) -> None:
        """End the wait, in the next round of the event loop; what comes first counts, but nobody who has left wants a lease."""
        if lease is not None:
            self._lease = lease
        if error is not None and self._error is None:
            self._error = error
        if not self.settled:
            self.settled = True
            get_hub().loop.run_callback(self._greenlet.switch)

    def leave(self, error: EdgeError) -> None:
        """End the wait for a client that is gone."""
        self.settle(None, error)

    def _give_back(self) -> None:
        lease, self._lease = self._lease, None
        if lease is not None:
            lease.close(monotonic(), "abandoned")


class Queue:
    """Who waits. edge: the row that counts them. size: how many in the whole edge.

    wait_s: how long for room (`limits.queue_s`). back_s: how long for somebody to come back (`retry.wait_s`), 0.0 for not at all.
    """

    def __init__(self, edge: Learned, pool: Pool) -> None:
        self.places: deque[Waiter] = deque()
        self.size = 0
        self.wait_s = 0.0
        self.back_s = 0.0
        self._edge = edge
        self._pool = pool
        self._timer: Any = None
        self._refused: float | None = None  # how much had been heard of all backends when the last connection was refused
        self._next_scout = 0.0
        self._nudged_at = 0.0

    def wait(self, request: Attempts, tried: Sequence[Backend], why: NoBackend | None, failed: EdgeError | None = None) -> Lease:
        """Wait for a lease, after all that came before; raises NoBackend when that is in vain, or there is no place.

        why: what there is none for now; None when nobody has looked, because others wait already. failed: the try before it.
        """
        now = monotonic()
        if not isinstance(failed, ConnectFailed):
            failed = None  # who accepts it and breaks it off, or is slow, is there: it would be the same again
        if why is not None and not isinstance(why, AllFull) and not self._may_wait(request, failed, now):
            raise why
        edge = self._edge
        waiting = sum(row[QUEUED] for row in edge.rows)
        if waiting >= self.size:
            return self._without_a_place(request, tried, why, waiting)
        request.queued = True
        if request.back_until is None:
            request.back_until = now + self.back_s
        until = min(now + self.wait_s, request.deadline), min(request.back_until, request.deadline)
        place = request.place = Waiter(request, tried, failed, *until)
        if not self.places:
            self._look_often()
        if failed is None:
            self.places.append(place)
        else:
            self.places.appendleft(place)  # it has waited before
        edge.add(QUEUED)
        if why is None:
            get_hub().loop.run_callback(self._serve_all)  # those who came before may wait for what this one does not need
        elif not isinstance(why, AllFull):
            self._wants_back(place, now)
        try:
            return place.wait()
        finally:
            request.place = None
            edge.add(QUEUED, -1)
            if not place.settled:
                place.settled = True  # Whoever looks takes it off.

    def serve(self) -> bool:
        """Give a lease to the first who can have one; False when nobody can. Called when a lease has ended."""
        places = self.places
        if not places:
            return False
        now = monotonic()
        scouting = self._refused is not None and self._still_refused()
        if scouting and now < self._next_scout:
            return False
        full: set[str] = set()  # backends of sessions
        index = 0
        while index < len(places):
            place = places[index]
            if place.settled:
                del places[index]
                continue
            session = place.request.preferred
            if session in full:
                index += 1
                continue
            try:
                lease = place.request.lease_now(now, place.tried)
            except SessionFull:
                assert session is not None
                full.add(session)
                index += 1
            except AllFull:
                if not place.tried:
                    return False
                index += 1  # What is free has been tried by this one; the next may have it.
            except NoBackend as error:
                if not self._may_wait(place.request, place.failed, now):
                    del places[index]
                    self._send_away(place, error, now)
                    continue
                left_out = place.tried
                self._wants_back(place, now)
                if not left_out:
                    return False  # There is nobody for anybody.
                if place.tried:
                    index += 1
            else:
                del places[index]
                place.settle(lease)
                if scouting:
                    self._next_scout = now + LOOK_S
                    return False
                return True
        return False

    def _may_wait(self, request: Attempts, failed: EdgeError | None, now: float) -> bool:
        """Whether somebody who could serve this may soon be there, and there is time left."""
        until = request.back_until if request.back_until is not None else now + self.back_s
        if until <= now or request.deadline <= now:
            return False
        return failed is not None or may_return(self._pool.backends, now, until - now)

    def _wants_back(self, place: Waiter, now: float) -> None:
        """Have all who were tried asked again, one client at a time, and probed soon."""
        place.away = True
        if place.tried and place.failed is not None:
            place.tried = ()
            self._refused = self._heard()
            self._next_scout = now + LOOK_S
        if now >= self._nudged_at + NUDGE_S:
            self._nudged_at = now
            for backend in self._pool.backends:
                if backend.learned.health.state == "unhealthy" and backend.state == "enabled":
                    place.request.nudge(backend)

    def _still_refused(self) -> bool:
        if self._heard() == self._refused:
            return True
        self._refused = None
        return False

    def _heard(self) -> float:
        """Return a number that changes with every connection that is made and every answer that begins, in all workers."""
        heard = 0.0
        for backend in self._pool.backends:
            learned = backend.learned
            heard += learned.heard_at + sum(row[CONNECTS] for row in learned.rows)
        return heard

    def _without_a_place(self, request: Attempts, tried: Sequence[Backend], why: NoBackend | None, waiting: int) -> Lease:
        """Do without: a session that cannot be waited for moves on, all others are refused."""
        if request.preferred is not None and (why is None or isinstance(why, SessionFull)):
            request.preferred = None
            try:
                return request.lease_now(monotonic(), tried)
            except AllFull as full:
                why = full
        if why is not None and not isinstance(why, AllFull):
            raise why
        self._edge.add(QUEUE_REFUSED)
        detail = f"All backends are full, and {waiting} requests wait for them." if waiting else "All backends are full."
        raise AllFull(detail, retry_after_s=RETRY_AFTER_S)

    def _look_often(self) -> None:
        if self._timer is None:
            self._timer = get_hub().loop.timer(LOOK_S, repeat=LOOK_S, ref=False)
        self._timer.again(self._look)

    def _look(self) -> None:
        """Serve whom there is a backend for, and send away who has waited long enough (called by the timer, in the hub)."""
        self._serve_all()
        now = monotonic()
        places = self.places
        for place in [place for place in places if place.settled or place.until <= now]:
            if place.settled or self._is_over(place, now):
                places.remove(place)
        if not places:
            self._refused = None
            self._timer.stop()

    def _serve_all(self) -> None:
        while self.serve():
            pass

    def _is_over(self, place: Waiter, now: float) -> bool:
        """Give one who has waited long enough a last chance, or the error; False when it is for something else that it waits."""
        request = place.request
        if not place.away:
            request.preferred = None  # Its backend was full for all that time: any other one is better than none.
        try:
            place.settle(request.lease_now(now, place.tried))
            return True
        except AllFull as full:
            place.away = False
            error: NoBackend = full
            error.detail = f"No backend had room within {self.wait_s:g} s."
        except NoBackend as none:
            place.away = True
            error = none
        if place.until > now:
            return False
        self._send_away(place, error, now)
        return True

    def _send_away(self, place: Waiter, error: NoBackend, now: float) -> None:
        self._edge.add(QUEUE_REFUSED)
        if place.away and place.until <= now:
            error.detail += f"; waited for {self.back_s:g} s"
        place.settle(None, error)
