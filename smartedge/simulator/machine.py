"""A modelled backend: slots, a queue, a way of working that changes with time, and perhaps a cache.

Everything happens at the edge's time. What a machine begins, it begins half a round trip after the edge sent it
and the edge hears of it half a round trip after it ended; as that is the same for all, a whole round trip at
the start comes to the same, and each request needs one event instead of three.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any, Literal, Protocol

from smartedge.balancer.health import HealthPolicy
from smartedge.simulator.draws import work_of
from smartedge.simulator.scenario import BehaviourConfig

USUAL = HealthPolicy()

Failure = Literal["refused", "cut"]
Call = Callable[[float, Any], None]
At = Callable[[float, Call, Any], None]
"""Runs `call(now, what)` at a time."""


class Asked(Protocol):
    """One try of a request, as a machine sees it."""

    work: float
    luck: float
    slowness: float
    key: int
    over: bool
    """Nobody waits for its answer any more; the machine does not know, and works on."""


class Machine:
    """One backend.

    answered, broke: what the edge is told: (now, asked, status) and (now, asked, failure).
    """

    def __init__(
        self,
        behaviour: BehaviourConfig,
        round_trip_s: float,
        at: At,
        answered: Callable[[float, Any, int], None],
        broke: Callable[[float, Any, Failure], None],
    ) -> None:
        self._round_trip_s = round_trip_s
        self._at = at
        self._answered = answered
        self._broke = broke
        self._busy: dict[Asked, int] = {}  # and the status that it will have
        self._queue: deque[tuple[float, Asked]] = deque()
        self._hanging: list[Asked] = []
        self._held: list[tuple[Asked, int]] = []  # answers that wait until it is no longer stopped
        self._cache: OrderedDict[int, None] = OrderedDict()
        self._state = behaviour.state
        self.change(0.0, behaviour)

    def change(self, now: float, behaviour: BehaviourConfig) -> None:
        """Be like this from now on; what is being worked on ends as it began, unless the machine goes down."""
        before, self._state = self._state, behaviour.state
        self.behaviour = behaviour
        self._work = work_of(behaviour.service)
        self._slots = behaviour.slots
        if behaviour.state == "down" and before != "down":
            self._go_down(now)
            return
        if before == "stopped" and behaviour.state != "stopped":
            held, self._held = self._held, []
            for asked, status in held:
                self._at(now, self._answer, (asked, status))
        self._next(now)

    def take(self, now: float, asked: Asked) -> None:
        """Take a request that the edge sends now."""
        ready = now + self._round_trip_s
        if self._state in ("leaving", "down"):
            self._at(ready, self._refuse, asked)
        elif self._state == "hang":
            self._hanging.append(asked)
        elif asked.luck < self.behaviour.fail_ratio and self.behaviour.fail_s is not None:
            self._at(ready + self.behaviour.fail_s, self._turn_away, asked)
        elif self._state != "stopped" and len(self._busy) < self._slots and not self._queue:
            self._begin(ready, asked)
        else:
            self._queue.append((ready, asked))

    def probe(self, chance: float, policy: HealthPolicy = USUAL) -> bool | None:
        """Say what a probe finds: whether it is good; None when there is no answer before its time is over."""
        behaviour = self.behaviour
        if self._state in ("leaving", "down"):
            return False
        if policy.type == "tcp":
            return True
        if self._state == "stopped":
            return None
        if behaviour.probes != "same":
            return behaviour.probes == "good"
        if self._state == "hang":
            return None
        return chance >= behaviour.fail_ratio or behaviour.fail_status in policy.statuses

    def _begin(self, ready: float, asked: Asked) -> None:
        behaviour = self.behaviour
        took_s = self._work(asked.work) * behaviour.slowness * asked.slowness
        if behaviour.cache is not None and self._cached(asked.key, behaviour.cache.entries):
            took_s *= behaviour.cache.hit_factor
        self._busy[asked] = behaviour.fail_status if asked.luck < behaviour.fail_ratio else 200
        self._at(ready + took_s, self._end, asked)

    def _end(self, now: float, asked: Asked) -> None:
        status = self._busy.pop(asked, None)
        if status is None:
            return  # it was cut
        if self._queue:
            self._next(now)
        if self._state == "hang":
            self._hanging.append(asked)
        elif self._state == "stopped":
            self._held.append((asked, status))
        elif not asked.over:
            self._answered(now, asked, status)

    def _answer(self, now: float, what: tuple[Asked, int]) -> None:
        asked, status = what
        if not asked.over:
            self._answered(now, asked, status)

    def _next(self, now: float) -> None:
        while self._queue and self._state in ("up", "leaving") and len(self._busy) < self._slots:
            ready, asked = self._queue.popleft()
            self._begin(max(now, ready), asked)

    def _go_down(self, now: float) -> None:
        held = (asked for asked, _ in self._held)
        lost = [*self._busy, *(asked for _, asked in self._queue), *self._hanging, *held]
        self._busy.clear()
        self._queue.clear()
        self._hanging.clear()
        self._held.clear()
        self._cache.clear()
        for asked in lost:
            self._at(now, self._cut, asked)

    def _turn_away(self, now: float, asked: Asked) -> None:
        if not asked.over:
            self._answered(now, asked, self.behaviour.fail_status)

    def _refuse(self, now: float, asked: Asked) -> None:
        self._broke(now, asked, "refused")

    def _cut(self, now: float, asked: Asked) -> None:
        if not asked.over:
            self._broke(now, asked, "cut")

    def _cached(self, key: int, entries: int) -> bool:
        """Look a key up; afterwards it is there, and the one that was not asked for longest may be gone."""
        cache = self._cache
        if key in cache:
            cache.move_to_end(key)
            return True
        cache[key] = None
        if len(cache) > entries:
            cache.popitem(last=False)
        return False
