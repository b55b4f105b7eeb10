"""A scenario with each of its strategies, one after another, all with the same requests."""

from __future__ import annotations

from smartedge.simulator.engine import Run
from smartedge.simulator.figures import Figures, figures
from smartedge.simulator.scenario import Scenario


def compare(scenario: Scenario) -> list[Figures]:
    """Run them all; the order is that of the scenario."""
    world = scenario.world
    return [
        figures(strategy, Run(scenario, config).run(), world.warmup_s, world.duration_s)
        for strategy, config in scenario.configs.items()
    ]
