"""A modelled backend: slots, a queue, a way of working that changes with time, and perhaps a cache.

Everything happens at the edge's time. What a machine begins, it begins half a round trip after the edge sent it
and the edge hears of it half a round trip after it ended; as that is the same for all, a whole round trip at
the start comes to the same, and each request needs one event instead of three.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any, Literal

from smartedge.balancer.health import HealthPolicy
from smartedge.simulator.draws import work_of
from smartedge.simulator.scenario import BehaviourConfig
from smartedge.simulator.tries import Try

Failure = Literal["refused", "cut"]
Call = Callable[[float, Any], None]
At = Callable[[float, Call, Any], None]
"""Runs `call(now, what)` at a time."""


class Machine:
    """One modelled backend; made by Run, which has what changes planned. Forwarding sends it tries, Prober probes.

    at: plans an event. answered, broke: hear what became of a try, at the time when the edge does.
    """

    def __init__(
        self,
        behaviour: BehaviourConfig,
        round_trip_s: float,
        at: At,
        answered: Callable[[float, Try, int], None],
        broke: Callable[[float, Try, Failure], None],
    ) -> None:
        self._round_trip_s = round_trip_s
        self._at = at
        self._answered = answered
        self._broke = broke
        self._busy: dict[Try, int] = {}  # and the status that it will have
        self._queue: deque[tuple[float, Try]] = deque()
        self._hanging: list[Try] = []
        self._held: list[tuple[Try, int]] = []  # answers that wait until it is no longer stopped
        self._cache: OrderedDict[int, None] = OrderedDict()
        self._state = behaviour.state
        self.change_behaviour(0.0, behaviour)

    def change_behaviour(self, now: float, behaviour: BehaviourConfig) -> None:
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
            for attempt, status in held:
                self._at(now, self._answer_held, (attempt, status))
        self._begin_waiting(now)

    def accept_try(self, now: float, attempt: Try) -> None:
        """Take a request that the edge sends now."""
        ready = now + self._round_trip_s + attempt.farther_s
        if self._state in ("leaving", "down"):
            self._at(ready, self._refuse, attempt)
        elif self._state == "hang":
            self._hanging.append(attempt)
        elif attempt.luck < self.behaviour.fail_ratio and self.behaviour.fail_s is not None:
            self._at(ready + self.behaviour.fail_s, self._fail_fast, attempt)
        elif self._state != "stopped" and len(self._busy) < self._slots and not self._queue:
            self._begin_work(ready, attempt)
        else:
            self._queue.append((ready, attempt))

    def open_count(self) -> int:
        """Return how many tries it has: those that it works on, those that wait, and those that it will not answer."""
        return len(self._busy) + len(self._queue) + len(self._hanging) + len(self._held)

    def answer_probe(self, chance: float, policy: HealthPolicy) -> bool | None:
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

    def _begin_work(self, ready: float, attempt: Try) -> None:
        behaviour = self.behaviour
        took_s = self._work(attempt.work) * behaviour.slowness * attempt.slowness
        if behaviour.cache is not None and self._look_up(attempt.key, behaviour.cache.entries):
            took_s *= behaviour.cache.hit_factor
        self._busy[attempt] = behaviour.fail_status if attempt.luck < behaviour.fail_ratio else 200
        self._at(ready + took_s, self._end_work, attempt)

    def _end_work(self, now: float, attempt: Try) -> None:
        status = self._busy.pop(attempt, None)
        if status is None:
            return  # it was cut
        if self._queue:
            self._begin_waiting(now)
        if self._state == "hang":
            self._hanging.append(attempt)
        elif self._state == "stopped":
            self._held.append((attempt, status))
        elif not attempt.over:
            self._answered(now, attempt, status)

    def _answer_held(self, now: float, what: tuple[Try, int]) -> None:
        attempt, status = what
        if not attempt.over:
            self._answered(now, attempt, status)

    def _begin_waiting(self, now: float) -> None:
        while self._queue and self._state in ("up", "leaving") and len(self._busy) < self._slots:
            ready, attempt = self._queue.popleft()
            self._begin_work(max(now, ready), attempt)

    def _go_down(self, now: float) -> None:
        held = (attempt for attempt, _ in self._held)
        lost = [*self._busy, *(attempt for _, attempt in self._queue), *self._hanging, *held]
        self._busy.clear()
        self._queue.clear()
        self._hanging.clear()
        self._held.clear()
        self._cache.clear()
        for attempt in lost:
            self._at(now, self._cut, attempt)

    def _fail_fast(self, now: float, attempt: Try) -> None:
        if not attempt.over:
            self._answered(now, attempt, self.behaviour.fail_status)

    def _refuse(self, now: float, attempt: Try) -> None:
        self._broke(now, attempt, "refused")

    def _cut(self, now: float, attempt: Try) -> None:
        if not attempt.over:
            self._broke(now, attempt, "cut")

    def _look_up(self, key: int, entries: int) -> bool:
        """Look a key up; afterwards it is there, and the one that was not attempt for longest may be gone."""
        cache = self._cache
        if key in cache:
            cache.move_to_end(key)
            return True
        cache[key] = None
        if len(cache) > entries:
            cache.popitem(last=False)
        return False
