"""Several edges in front of the same machines, which know nothing of each other."""

from __future__ import annotations

from typing import Any

import pytest

from smartedge.simulator.engine import compare
from tests.simulator.makers import outcome, outcome_figures, scenario


@pytest.mark.parametrize("nodes", [1, 8])
def test_each_node_finds_out_for_itself_that_a_backend_fails(nodes: int) -> None:
    """Five failures in a row of its own requests eject a backend: eight edges see eight times five, and what was under way."""
    world = {"nodes": nodes, "duration_s": 20, "backend": {"probes": "good"}, "backends": [{"id": "a", "fail_ratio": 1}]}
    found = outcome_figures(world, breaker={"failures": 5, "open_s": 60})

    assert found.errors == 0
    assert 5 * nodes <= found.retries <= 7 * nodes


@pytest.mark.parametrize("nodes", [4, pytest.param(1, marks=pytest.mark.long)])
def test_each_node_knows_only_what_it_has_open_itself(nodes: int) -> None:
    """A cap of two for each backend lets four edges have eight open there; four times what those can do is asked for."""
    world = {"nodes": nodes, "arrivals": {"per_s": 320}, "backend": {"service": {"mean_s": 0.1}, "slots": 100}}
    found = outcome_figures(world, count=1, limits={"in_flight_per_backend": 2, "queue": 10_000, "queue_s": 60})

    assert found.busiest_p99 == 2 * nodes
    assert found.open_mean == found.busiest_mean == pytest.approx(2 * nodes, rel=0.02), "of one backend they are the same"


def test_the_same_requests_come_to_however_many_nodes() -> None:
    alone, many = (outcome({"nodes": nodes, "backend": {"service": {"kind": "exponential"}}}) for nodes in (1, 16))

    assert sorted(alone.at) == sorted(many.at)
    assert list(many.status) == [200] * len(alone.at)


def test_several_nodes_with_the_same_seed_give_the_same_and_with_another_one_another() -> None:
    world: dict[str, Any] = {"nodes": 4, "strategies": ["ewma"], "backend": {"service": {"kind": "lognormal"}}}

    assert compare(scenario(world)) == compare(scenario(world))
    assert compare(scenario(world)) != compare(scenario(world | {"seed": 2}))
