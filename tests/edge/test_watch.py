"""What shows of a service over time, and is said, counted or acted upon once a second."""

from __future__ import annotations

import json
import logging
from random import Random
from typing import Any

import pytest

from smartedge.balancer.cells import OBSERVED, OK, STRATEGY_FALLBACKS, latency_cell
from smartedge.balancer.pool import Pool
from smartedge.balancer.strategies.guard import Guarded
from smartedge.balancer.strategies.menu import Adaptive
from smartedge.config.model import parse
from smartedge.edge.watch import Watch
from tests.house import Told, backends


class Lost:
    """A strategy that never picks."""

    def pick(self, candidates: Any, now: float, rng: Random, key: bytes) -> Any:
        return None


def pool(strategy: Any = None) -> Pool:
    return Pool(backends(1, 1, 1), strategy or Adaptive(), Random(1))


def test_every_failed_pick_is_counted_and_each_kind_logged_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    strategy = Guarded(Lost(), "tests:Lost", lambda: 0.0)
    watched = pool(strategy)
    watch = Watch("web", watched, Told().announcer)
    with caplog.at_level(logging.WARNING, "smartedge"):
        for second in (100.0, 101.0, 159.0, 161.0):
            for _ in range(3):
                strategy.pick(backends(1, 1), second, Random(1), b"")
            watch.log_strategy_troubles(second)
    assert watched.row.cells[STRATEGY_FALLBACKS] == 12
    assert [record.message for record in caplog.records] == [
        "strategy of web failed: tests:Lost: pick returned None, which is none of the candidates (3 picks by round robin)"
    ] * 2


def test_a_strategy_of_ours_has_no_troubles() -> None:
    watched = pool()
    Watch("default", watched, Told().announcer).log_strategy_troubles(100.0)
    assert watched.row.cells[STRATEGY_FALLBACKS] == 0


@pytest.mark.parametrize("observe", [False, True])
def test_an_outlier_is_ejected_or_said_and_counted(observe: bool, caplog: pytest.LogCaptureFixture) -> None:
    outliers = {"latency_factor": 3, "min_requests": 10, "observe": observe}
    policy = parse(json.dumps({"backends": ["http://a"], "outliers": outliers})).outlier_policy
    watched = pool()
    told = Told()
    watch = Watch("default", watched, told.announcer)
    watch.look(100.0, 0.95, policy)
    for backend, latency_s in zip(watched.backends, (0.010, 0.011, 0.5), strict=True):
        backend.learned.add(latency_cell(latency_s), 20)
        backend.learned.add(OK, 20)
    with caplog.at_level(logging.WARNING, "smartedge"):
        watch.look(110.0, 0.95, policy)
    slow = watched.backends[2].learned
    assert slow.breaker.state == ("closed" if observe else "open")
    assert slow.cells[OBSERVED] == observe
    assert caplog.messages[0].startswith("backend would be ejected as an outlier: c " if observe else "backend ejected: c ")
    assert told.kinds() == ["outlier" if observe else "ejected"]
