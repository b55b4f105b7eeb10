"""When which backend is probed next: a heap of due times, without a clock, a greenlet or a socket.

Times are seconds of one monotonic clock, given by the caller. A step costs O(log n), but `sync` O(n).
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from smartedge.balancer.backend import Backend

JITTER_RATIO = 0.1  # of every interval, either way: probes of many backends, or by many edges, drift apart
CHANGING_S = 1.0  # the longest interval while a backend is between states, so that a change is soon decided
MANY = 100  # so many probes at once are a burst, and are spread over the first interval
SYNCED = 100  # so many members are taken over at a stretch, some 0.5 ms
NUDGE_S = 0.5  # traffic may have a backend probed no more often than this


class ScheduledProbe:
    """One backend's place in the `Schedule`; a new one is made when what is probed has changed."""

    __slots__ = ("backend", "due", "is_first", "nudged", "started", "ticket")

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.due = 0.0
        self.ticket = 0
        """Names the one place in the heap that counts; older ones are passed over."""
        self.started = float("-inf")
        self.nudged = False
        self.is_first = True


class Schedule:
    """When which backend is probed next; owned by the `HealthLoop`, or by a simulation. Keyed by (service, id, url)."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._entries: dict[object, ScheduledProbe] = {}
        self._heap: list[tuple[float, int, ScheduledProbe]] = []
        self._tickets = itertools.count(1)

    def resume(self, backends: Sequence[Backend], now: float) -> None:
        """Begin where another worker stopped: each is due an interval after its last probe."""
        self._entries = {}
        self._heap.clear()
        for backend in _probed(backends):
            self._entries[backend.key] = entry = ScheduledProbe(backend)
            last = backend.learned.last_probe_at
            self._put(entry, max(now, last + self._interval(backend)) if last else now)

    def sync(self, backends: Sequence[Backend], now: float, pause: Callable[[], None] = lambda: None) -> None:
        """Take over the members: what is new or probed in another way is due at once, what is gone is out.

        pause: called after each so many. What is asked for meanwhile is answered from the members of before.
        """
        entries: dict[object, ScheduledProbe] = {}
        places: list[tuple[float, int, ScheduledProbe]] = []
        for backend in _probed(backends):
            entry = self._entries.get(backend.key)
            if entry is not None and (entry.backend is backend or _question(entry.backend) == _question(backend)):
                entry.backend = backend
            else:
                entry = ScheduledProbe(backend)
                places.append(self._place(entry, now))
            entries[backend.key] = entry
            if len(entries) % SYNCED == 0:
                pause()
        self._entries = entries
        self._heap += places
        heapq.heapify(self._heap)
        pause()
        if len(self._heap) > 2 * len(self._entries):  # those that are out are held until they would have been due
            self._heap = [place for place in self._heap if place[1] == place[2].ticket and self.knows(place[2])]
            heapq.heapify(self._heap)

    def backends(self) -> Sequence[Backend]:
        """The members."""
        return [entry.backend for entry in self._entries.values()]

    def knows(self, entry: ScheduledProbe) -> bool:
        """Whether a probe's result still counts: the backend is there, and would be asked the same."""
        return self._entries.get(entry.backend.key) is entry

    def next_due(self) -> float:
        """When the next probe is due; infinity when none is."""
        while self._heap:
            due, ticket, entry = self._heap[0]
            if ticket == entry.ticket and self.knows(entry):
                return due
            heapq.heappop(self._heap)
        return float("inf")

    def take_due(self, now: float) -> ScheduledProbe | None:
        """The entry that is due for longest, to be probed and given back by `done`; None when none is due."""
        if self.next_due() > now:
            return None
        entry = heapq.heappop(self._heap)[2]
        entry.started = now
        entry.nudged = False
        return entry

    def done(self, entry: ScheduledProbe, now: float) -> bool:
        """Put a probed entry back; whether it is the next one to be due.

        Intervals count from the start of one probe to the start of the next. Those that began together, with a start or a reload,
        would go on in bursts, so where there are many the first interval is any part of the whole.
        """
        interval = self._interval(entry.backend)
        if entry.is_first and len(self._entries) > MANY:
            interval *= self._rng.random()
        entry.is_first = False
        if entry.nudged:
            interval = min(interval, NUDGE_S)
        self._put(entry, max(now, entry.started + interval))
        return self._heap[0][2] is entry

    def nudge(self, backend: Backend) -> bool:
        """Have a backend probed as soon as may be; whether that moved anything forward."""
        entry = self._entries.get(backend.key)
        if entry is None or entry.nudged:
            return False
        entry.nudged = True
        soon = entry.started + NUDGE_S
        if entry.due <= soon:  # or it is being probed, and `done` will see the nudge
            return False
        self._put(entry, soon)
        return True

    def _interval(self, backend: Backend) -> float:
        interval = backend.spec.health.interval_s
        if backend.learned.health.changing:
            interval = min(interval, CHANGING_S)
        return interval * self._rng.uniform(1 - JITTER_RATIO, 1 + JITTER_RATIO)

    def _put(self, entry: ScheduledProbe, due: float) -> None:
        heapq.heappush(self._heap, self._place(entry, due))

    def _place(self, entry: ScheduledProbe, due: float) -> tuple[float, int, ScheduledProbe]:
        """Give an entry a new time, and return its place in the heap."""
        entry.due, entry.ticket = due, next(self._tickets)
        return due, entry.ticket, entry


def _probed(backends: Sequence[Backend]) -> Iterator[Backend]:
    return (backend for backend in backends if backend.spec.health.type != "none")


def _question(backend: Backend) -> object:
    """All that a probe's answer depends on, besides the backend itself."""
    return backend.spec.health, backend.spec.tls, backend.spec.addresses
