"""Health probes in virtual time: the schedule and the state machine are the balancer's own, only the answers are modelled."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from random import Random

from smartedge.balancer.backend import Backend
from smartedge.balancer.pool import Pool
from smartedge.health.schedule import Schedule, ScheduledProbe
from smartedge.simulator.machine import At, Machine


class Prober:
    """Probes all backends, from `start_s` on, as `health/loop.py` does; owned by Forwarding, which nudges it."""

    def __init__(
        self,
        pool: Pool,
        machines: Mapping[str, Machine],
        rng: Random,
        round_trip_s: float,
        at: At,
        start_s: float,
        farther: Mapping[str, float],
    ) -> None:
        self._pool = pool
        self._machines = machines
        self._rng = rng
        self._round_trip_s = round_trip_s
        self._farther = farther
        self._at = at
        self._schedule = Schedule(rng)
        self._schedule.sync(pool.backends, start_s)
        self._planned = inf  # when the next look at the schedule comes
        self._plan(start_s)

    def nudge(self, now: float, backend: Backend) -> None:
        """Have a backend probed soon that traffic could not connect to."""
        if self._schedule.nudge(backend):
            self._plan(now)

    def _plan(self, now: float) -> None:
        due = max(now, self._schedule.next_due())
        if due < self._planned:
            self._planned = due
            self._at(due, self._probe, due)

    def _probe(self, now: float, planned: float) -> None:
        if planned != self._planned:
            return  # an earlier look came in between, and planned this one anew
        self._planned = inf
        while entry := self._schedule.take_due(now):
            backend = entry.backend
            good = self._machines[backend.id].answer_probe(self._rng.random(), backend.spec.health)
            took_s = self._round_trip_s + self._farther[backend.id]
            if good is None or took_s > backend.spec.health.timeout_s:
                good, took_s = None, backend.spec.health.timeout_s
            self._at(now + took_s, self._probed, (entry, bool(good)))
        self._plan(now)

    def _probed(self, now: float, what: tuple[ScheduledProbe, bool]) -> None:
        entry, good = what
        learned = entry.backend.learned
        if learned.probed(now, good):
            self._pool.renew_candidates()
        self._schedule.done(entry, now)
        self._plan(now)
