"""The queue: who waits because every backend that could serve is full, in the order of arrival.

A lease that ends in this worker hands its room to the first in the queue at once. What the other workers' leases leave is seen
a moment later, so the order holds within a worker only. The queue's size is the whole edge's.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any

from gevent import get_hub, getcurrent

from smartedge.balancer.backend import Backend, Cell, Learned
from smartedge.balancer.errors import AllFull, EdgeError, NoBackend
from smartedge.balancer.pool import Lease

if TYPE_CHECKING:
    from smartedge.proxy.attempts import Attempts

LOOK_S = 0.02
"""How often the queue is looked at while there is one: for room that other workers' leases left, and for overdue places."""

RETRY_AFTER_S = 1.0
"""What a client is told that found no room."""

_QUEUED, _QUEUE_REFUSED = int(Cell.QUEUED), int(Cell.QUEUE_REFUSED)


class Place:
    """One request's place in the queue; `settle` ends its wait, with a lease or an error."""

    __slots__ = ("_error", "_greenlet", "_lease", "deadline", "request", "settled", "tried")

    def __init__(self, request: Attempts, tried: Sequence[Backend], deadline: float) -> None:
        self.request = request
        self.tried = tried
        self.deadline = deadline
        self.settled = False
        self._lease: Lease | None = None
        self._error: EdgeError | None = None
        self._greenlet = getcurrent()

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
    """Who waits for room. edge: the row that counts them. size, wait_s: how many in the whole edge, and for how long."""

    def __init__(self, edge: Learned) -> None:
        self.places: deque[Place] = deque()
        self.size = 0
        self.wait_s = 0.0
        self._edge = edge
        self._timer: Any = None

    def wait(self, request: Attempts, tried: Sequence[Backend]) -> Lease:
        """Wait for a lease, after all that came before; raises AllFull when there is no room, for the request or in the queue."""
        edge = self._edge
        waiting = sum(row[_QUEUED] for row in edge.rows)
        if waiting >= self.size:
            edge.add(_QUEUE_REFUSED)
            detail = f"All backends are full, and {waiting} requests wait for them." if waiting else "All backends are full."
            raise AllFull(detail, retry_after_s=RETRY_AFTER_S)
        request.queued = True
        place = request.place = Place(request, tried, min(monotonic() + self.wait_s, request.deadline))
        if not self.places:
            self._look_often()
        self.places.append(place)
        edge.add(_QUEUED)
        try:
            return place.wait()
        finally:
            request.place = None
            edge.add(_QUEUED, -1)
            if not place.settled:
                place.settled = True  # Whoever looks takes it off.

    def serve(self) -> bool:
        """Give room to the first who can use it; False when there is none. Called when a lease has ended."""
        places = self.places
        now = monotonic()
        index = 0
        while index < len(places):
            place = places[index]
            if place.settled:
                del places[index]
                continue
            try:
                lease = place.request.lease_now(now, place.tried)
            except AllFull:
                if not place.tried:
                    return False
                index += 1  # What is free has been tried by this one; the next may have it.
            except NoBackend as error:
                del places[index]
                place.settle(None, error)
            else:
                del places[index]
                place.settle(lease)
                return True
        return False

    def _look_often(self) -> None:
        if self._timer is None:
            self._timer = get_hub().loop.timer(LOOK_S, repeat=LOOK_S, ref=False)
        self._timer.again(self._look)

    def _look(self) -> None:
        """Serve whom there is room for, and send those away who have waited long enough (called by the timer, in the hub)."""
        while self.serve():
            pass
        now = monotonic()
        while self.places and (self.places[0].settled or self.places[0].deadline <= now):
            place = self.places.popleft()
            if not place.settled:
                self._edge.add(_QUEUE_REFUSED)
                error = AllFull(f"No backend had room within {self.wait_s:g} s.", retry_after_s=RETRY_AFTER_S)
                place.settle(None, error)
        if not self.places:
            self._timer.stop()
