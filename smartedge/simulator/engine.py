"""The event loop in virtual time: nothing waits, time is a number that goes from one event to the next.

The balancer's own code decides: pool, strategies, breakers, health, EWMA, `Tries`, `WaitingLine`, `PoolWatch`. The network and
the machines are modelled (machine.py), and so is the order of the steps of a request's way (forwarding.py).
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any

from smartedge.config.model import Config
from smartedge.simulator.draws import arrivals
from smartedge.simulator.figures import Figures, RunRecord, figures
from smartedge.simulator.geography import Geography
from smartedge.simulator.machine import Call, Failure, Machine
from smartedge.simulator.node import Node
from smartedge.simulator.scenario import Scenario
from smartedge.simulator.tries import Try

START_S = 1_000.0
"""The monotonic clock at a scenario's second 0: that of a real machine is not 0 either."""

COUNT_S = 0.05
"""How often it is counted what the machines have open."""


Show = Callable[[str, float], None]


def compare(scenario: Scenario, show: Show = lambda _strategy, _now_s: None) -> list[Figures]:
    """Run a scenario with each of its strategies, in their order, all with the same requests.

    show: told now and then of the strategy that runs, and the second of virtual time that it has come to.
    """
    world = scenario.world
    return [
        figures(strategy, Run(scenario, config, partial(show, strategy)).run(), world.warmup_s, world.duration_s)
        for strategy, config in scenario.configs.items()
    ]


class Run:
    """One strategy's run of a scenario: its nodes, most often one, and the machines that they share; made by `compare`.

    It owns the heap of planned events: (time, number, call, its argument).
    """

    def __init__(self, scenario: Scenario, config: Config, show: Callable[[float], None] = lambda _now_s: None) -> None:
        self._show = show
        world = self._world = scenario.world
        self._heap: list[tuple[float, int, Call, Any]] = []
        self._count = 0
        names = [spec.id for spec in config.specs()]
        self._record = record = RunRecord(names)
        self._machines = {name: self._machine(scenario, name) for name in names}
        self._geography = geography = Geography(world, config)
        self._nodes = [
            Node(number, world, config.model_copy(update={"zone": zone}), self._machines, self._at, record, START_S, farther)
            for number, zone in enumerate(geography.edges)
            for farther in [geography.farther_of(zone, config)]
        ]
        self._at(START_S + world.warmup_s, self._count_open, None)

    def run(self) -> RunRecord:
        """Let all requests come and end."""
        world, nodes = self._world, self._nodes
        heap, pop = self._heap, heapq.heappop
        client_at = self._geography.client_drawer(Random(f"{world.seed} nodes"))
        events = 0
        for arrival in arrivals(world.arrivals, world.duration_s, Random(f"{world.seed} arrivals")):
            at = START_S + arrival.at
            while heap[0][0] <= at:
                now, _, call, what = pop(heap)
                call(now, what)
                events += 1
            client = client_at(arrival.at)
            nodes[client.node].forwarding.accept_request(at, arrival, client)
            events += 1
        for node in nodes:
            while node.is_busy():  # probes alone would go on for ever
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
        machine = Machine(behaviour, self._world.network.backend_s, self._at, self._tell_answer, self._tell_failure)
        for at_s, later in changes:
            self._at(START_S + at_s, machine.change_behaviour, later)
        return machine

    def _count_open(self, now: float, _: None) -> None:
        """Write down what the machines have open, as long as requests come."""
        self._show(now - START_S)
        if now < START_S + self._world.duration_s:
            counts = [machine.open_count() for machine in self._machines.values()]
            self._record.open_sum.append(sum(counts))
            self._record.open_most.append(max(counts))
            self._at(now + COUNT_S, self._count_open, None)

    def _tell_answer(self, now: float, attempt: Try, status: int) -> None:
        self._nodes[attempt.request.client.node].forwarding.take_answer(now, attempt, status)

    def _tell_failure(self, now: float, attempt: Try, failure: Failure) -> None:
        self._nodes[attempt.request.client.node].forwarding.take_failure(now, attempt, failure)
