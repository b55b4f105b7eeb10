"""Zones in the simulator: ways between them, edges in several, clients whose number goes with the hours of their day."""

from __future__ import annotations

import json
from collections import Counter
from random import Random
from typing import Any

import pytest

from smartedge.config.model import ConfigError
from smartedge.simulator.engine import Run
from smartedge.simulator.figures import Figures, figures
from smartedge.simulator.geography import Geography
from smartedge.simulator.scenario import Scenario, load

WAYS = {"client_s": 0, "backend_s": 0.001, "ways": [{"between": ["sa", "eu"], "farther_s": 0.2}]}
BACKENDS = [
    {"url": f"http://localhost:{8081 + n}", "id": zone + str(n), "zone": zone} for n, zone in enumerate(["sa", "sa", "eu", "eu"])
]


def made(simulate: dict[str, Any], **config: Any) -> Scenario:
    usual: dict[str, Any] = {
        "duration_s": 20,
        "strategies": ["round_robin"],
        "arrivals": {"per_s": 50},
        "backend": {"service": {"kind": "fixed", "mean_s": 0.01}},
        "network": WAYS,
    }
    return load(json.dumps({"backends": BACKENDS, **config, "simulate": usual | simulate}), "scenario.json")


def run(simulate: dict[str, Any], **config: Any) -> Figures:
    scenario = made(simulate, **config)
    ((name, found),) = scenario.configs.items()
    return figures(name, Run(scenario, found).run(), scenario.world.warmup_s, scenario.world.duration_s)


def zone_shares(found: Figures) -> dict[str, float]:
    counts: Counter[str] = Counter()
    for backend, share in found.shares.items():
        counts[backend[:2]] += share  # type: ignore[assignment]
    return dict(counts)


def test_a_far_backend_takes_longer_by_the_way() -> None:
    found = run({}, zone="sa")
    assert (found.p50_s, found.p99_s) == (pytest.approx(0.011), pytest.approx(0.211))


def test_near_first_stays_in_the_zone_and_an_outage_costs_the_way() -> None:
    near = run({}, zone="sa", locality={"prefer": "edge"})
    assert (near.max_s, zone_shares(near)["sa"]) == (pytest.approx(0.011), 1.0)
    down = [{"id": name, "changes": [{"at_s": 14, "state": "down"}]} for name in ("sa0", "sa1")]
    found = run({"backends": down}, zone="sa", locality={"prefer": "edge"})
    assert found.errors == 0
    assert found.p50_s < 0.2 < found.p90_s
    assert 0.2 < zone_shares(found)["eu"] < 0.45


def test_each_edge_sends_to_its_own_zone_and_clients_come_to_theirs() -> None:
    clients = [{"zone": "sa", "ratio": 3}, {"zone": "eu"}]
    found = run({"edges": ["sa", "eu"], "clients": clients}, locality={"prefer": "edge"})
    assert found.max_s == pytest.approx(0.011)
    assert zone_shares(found)["sa"] == pytest.approx(0.75, abs=0.05)


def test_clients_that_come_to_a_far_edge_have_the_way_before_them() -> None:
    clients = [{"zone": "eu"}]
    found = run({"clients": clients}, zone="sa", locality={"prefer": "edge"})
    assert found.p50_s == pytest.approx(0.211)
    back = run({"clients": clients, "warmup_s": 2}, zone="sa", locality={"prefer": "client", "networks": {"10.0.0.0/8": "eu"}})
    assert zone_shares(back)["eu"] == 1.0  # near the client
    assert back.p50_s == pytest.approx(0.411)  # there and back


def test_who_asks_moves_over_the_day() -> None:
    clients = [{"zone": "sa", "peak_h": 18, "night_ratio": 0.1}, {"zone": "eu", "peak_h": 6, "night_ratio": 0.1}]
    scenario = made({"arrivals": {"per_s": 1, "day_s": 240}, "duration_s": 240, "edges": ["sa", "eu"], "clients": clients})
    draw = Geography(scenario.world, scenario.configs["round_robin"]).client_drawer(Random(1))
    at = {hour: sum(draw(hour * 10).node == 0 for _ in range(2000)) / 2000 for hour in (6, 12, 18)}
    assert at[6] == pytest.approx(0.1 / 1.1, abs=0.03)
    assert at[12] == pytest.approx(0.5, abs=0.04)
    assert at[18] == pytest.approx(1 / 1.1, abs=0.03)


@pytest.mark.parametrize(
    ("simulate", "message"),
    [
        ({"edges": ["sa", "sa"]}, r"simulate\.edges: must name each zone once"),
        ({"edges": ["sa"], "nodes": 2}, r"simulate\.edges: must not stand beside nodes"),
        (
            {"edges": ["sa"], "clients": [{"zone": "eu", "edge": "x"}]},
            r"simulate\.clients: must come to an edge that there is \(sa\)",
        ),
        (
            {"network": {"ways": [{"between": ["sa", "mars"], "farther_s": 1}]}},
            r"ways\[0\]\.between: \"mars\" is where nobody is",
        ),
        ({"network": {"ways": [{"between": ["sa"], "farther_s": 1}]}}, r"ways\[0\]\.between: must be two zones"),
        ({"network": {"ways": [{"between": ["sa", "eu"], "farther_s": -1}]}}, r"ways\[0\]\.farther_s: must be at least 0"),
    ],
)
def test_what_is_wrong_is_said_where_it_stands(simulate: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        made(simulate)


def test_a_zone_that_is_slow_is_left_where_measured_times_count() -> None:
    slow = [{"id": name, "changes": [{"at_s": 10, "slowness": 50}]} for name in ("sa0", "sa1")]
    machines = {"service": {"kind": "fixed", "mean_s": 0.01}, "slots": 500}
    world = {"backends": slow, "backend": machines, "arrivals": {"per_s": 300}, "duration_s": 30}
    by_distance, measured = (run(world, zone="sa", locality={"prefer": "edge", "blend_rtt": blend}) for blend in (False, True))
    assert zone_shares(by_distance)["sa"] == 1.0
    assert zone_shares(measured)["eu"] > 0.4
    assert measured.p50_s == pytest.approx(0.211)
    assert by_distance.p50_s == pytest.approx(0.501)
