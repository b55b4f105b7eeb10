"""Scenarios and machines for the tests."""

from __future__ import annotations

import heapq
import json
from typing import Any

from smartedge.simulator.engine import Run
from smartedge.simulator.figures import Figures, RunRecord, figures
from smartedge.simulator.machine import Failure, Machine
from smartedge.simulator.scenario import BehaviourConfig, Scenario, load


def document(simulate: dict[str, Any] | None = None, *, count: int = 2, **config: Any) -> dict[str, Any]:
    """A scenario of some backends called a, b, ...: ten seconds of 100 requests each second, 10 ms of work."""
    usual: dict[str, Any] = {
        "duration_s": 10,
        "strategies": ["round_robin"],
        "arrivals": {"per_s": 100},
        "backend": {"service": {"kind": "fixed", "mean_s": 0.01}},
        "network": {"client_s": 0, "backend_s": 0},
    }
    backends = [{"url": f"http://localhost:{8081 + n}", "id": "abcdefgh"[n]} for n in range(count)]
    if simulate and "backend" in simulate:
        simulate = simulate | {"backend": usual["backend"] | simulate["backend"]}
    return {"backends": backends} | config | {"simulate": usual | (simulate or {})}


def scenario(simulate: dict[str, Any] | None = None, **given: Any) -> Scenario:
    return load(json.dumps(document(simulate, **given)), "scenario.json")


def outcome(simulate: dict[str, Any] | None = None, **given: Any) -> RunRecord:
    """What comes of a scenario with its only strategy."""
    made = scenario(simulate, **given)
    (config,) = made.configs.values()
    return Run(made, config).run()


def outcome_figures(simulate: dict[str, Any] | None = None, **given: Any) -> Figures:
    made = scenario(simulate, **given)
    ((name, config),) = made.configs.items()
    return figures(name, Run(made, config).run(), made.world.warmup_s, made.world.duration_s)


class Asked:
    """A try, as a machine sees it."""

    def __init__(self, name: str, luck: float = 0.5, key: int = 0) -> None:
        self.name = name
        self.work = 0.5
        self.luck = luck
        self.slowness = 1.0
        self.farther_s = 0.0
        self.key = key
        self.over = False


class Clock:
    """Runs what a machine plans, and keeps what it tells."""

    def __init__(self, **behaviour: Any) -> None:
        self.planned: list[tuple[float, int, Any, Any]] = []
        self.told: list[tuple[float, str, int | Failure]] = []
        self.count = 0
        self.machine = Machine(self.like(**behaviour), 0.0, self.at, self.answered, self.answered)

    def like(self, **behaviour: Any) -> BehaviourConfig:
        """A behaviour of one second of work, but for what is given."""
        return BehaviourConfig.model_validate({"service": {"kind": "fixed", "mean_s": 1.0}} | behaviour)

    def at(self, when: float, call: Any, what: Any) -> None:
        self.count += 1
        heapq.heappush(self.planned, (when, self.count, call, what))

    def answered(self, now: float, asked: Any, result: Any) -> None:
        self.told.append((round(now, 6), asked.name, result))

    def run(self, until: float = 1e9) -> list[tuple[float, str, int | Failure]]:
        while self.planned and self.planned[0][0] <= until:
            now, _, call, what = heapq.heappop(self.planned)
            call(now, what)
        return self.told
