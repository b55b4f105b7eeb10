"""The event loop in virtual time: nothing waits, time is a number that goes from one event to the next.

The balancer's own code decides: pool, strategies, breakers, health, EWMA, `Tries`, `WaitingLine`, `PoolWatch`. The network and
the machines are modelled (machine.py), and so is the order of the steps of a request's way (forwarding.py).
"""

from __future__ import annotations

import heapq
from math import inf
from random import Random
from typing import Any

from smartedge.balancer.backend import Backend
from smartedge.balancer.learned import Learned
from smartedge.balancer.pool import Pool
from smartedge.balancer.watch import LOOK_S, TIDY_S, PoolWatch
from smartedge.config import strategy as config_strategy
from smartedge.config.model import Config
from smartedge.simulator.draws import arrivals
from smartedge.simulator.figures import Figures, RunRecord, figures
from smartedge.simulator.forwarding import Forwarding
from smartedge.simulator.machine import Call, Machine
from smartedge.simulator.probes import Prober
from smartedge.simulator.scenario import Scenario

START_S = 1_000.0
"""The monotonic clock at a scenario's second 0: that of a real machine is not 0 either."""


def compare(scenario: Scenario) -> list[Figures]:
    """Run a scenario with each of its strategies, in their order, all with the same requests."""
    world = scenario.world
    return [
        figures(strategy, Run(scenario, config).run(), world.warmup_s, world.duration_s)
        for strategy, config in scenario.configs.items()
    ]


class Run:
    """One strategy's run of a scenario: everything that one worker has, and the machines; made by `compare`.

    It owns the Pool, the Forwarding, the PoolWatch and the heap of planned events: (time, number, call, its argument).
    """

    def __init__(self, scenario: Scenario, config: Config) -> None:
        world = self._world = scenario.world
        self._heap: list[tuple[float, int, Call, Any]] = []
        self._count = 0
        rng = Random(f"{world.seed} edge")
        backends = [Backend(spec, Learned(spec)) for spec in config.specs()]
        # A user's own strategy is timed on a clock that stands still: whether it is quick must not change the result.
        strategy = config_strategy.make(config.strategy, config.hash.bounded_load_ratio or inf, lambda: START_S)
        self._pool = Pool(backends, strategy, rng, config.panic)
        self._record = RunRecord([backend.id for backend in backends])
        chance = Random(f"{world.seed} tries")
        from_s = START_S + world.warmup_s
        self._forwarding = Forwarding(world, config, self._pool, self._at, chance, self._record, from_s)
        machines = {backend.id: self._machine(scenario, backend.id) for backend in backends}
        self._forwarding.machines = machines
        self._forwarding.prober = Prober(self._pool, machines, rng, world.network.backend_s, self._at, START_S)
        self._watch = PoolWatch(self._pool)
        self._config = config
        self._at(START_S + LOOK_S, self._look, None)
        self._at(START_S + TIDY_S, self._tidy, None)

    def run(self) -> RunRecord:
        """Let all requests come and end."""
        heap, pop, accept = self._heap, heapq.heappop, self._forwarding.accept_request
        events = 0
        for arrival in arrivals(self._world.arrivals, self._world.duration_s, Random(f"{self._world.seed} arrivals")):
            at = START_S + arrival.at
            while heap[0][0] <= at:
                now, _, call, what = pop(heap)
                call(now, what)
                events += 1
            accept(at, arrival)
            events += 1
        queue = self._forwarding.queue
        while queue.waiters or any(backend.in_flight() for backend in self._pool.backends):  # probes alone would go on for ever
            now, _, call, what = pop(heap)
            call(now, what)
            events += 1
        self._record.events = events
        return self._record

    def _at(self, when: float, call: Call, what: Any) -> None:
        self._count += 1  # events of the same time happen in the order in which they were planned
        heapq.heappush(self._heap, (when, self._count, call, what))

    def _machine(self, scenario: Scenario, name: str) -> Machine:
        (_, behaviour), *changes = scenario.machines[name]
        forwarding = self._forwarding
        machine = Machine(behaviour, self._world.network.backend_s, self._at, forwarding.take_answer, forwarding.take_failure)
        for at_s, later in changes:
            self._at(START_S + at_s, machine.change_behaviour, later)
        return machine

    def _look(self, now: float, _: None) -> None:
        """Look for backends that answer nothing any more, as often as the edge does."""
        self._pool.look_for_silence(now)
        self._forwarding.leave_silent(now)
        self._at(now + LOOK_S, self._look, None)

    def _tidy(self, now: float, _: None) -> None:
        """Do once a second what the edge does then."""
        self._watch.look(now, self._config.retry_policy.hedge_percentile, self._config.outlier_policy)
        self._at(now + TIDY_S, self._tidy, None)
