"""The strategy over reloads, and what is said of a user's own that fails."""

from __future__ import annotations

import json
import logging
from math import inf
from random import Random
from typing import Any

import pytest

from smartedge.balancer.cells import STRATEGY_FALLBACKS
from smartedge.balancer.learned import Learned
from smartedge.balancer.strategies.guard import Guarded
from smartedge.balancer.strategies.menu import Adaptive, ConsistentHash, LeastRequests
from smartedge.config.model import Config, ConfigError, parse
from smartedge.edge.parts import Strategist
from tests.house import backends


class Broken:
    """A strategy that is made only so often, and never picks."""

    left = 0

    def __init__(self) -> None:
        if Broken.left == 0:
            raise RuntimeError("no more")
        Broken.left -= 1

    def pick(self, candidates: Any, now: float, rng: Random, key: bytes) -> Any:
        return None


def config(**keys: Any) -> Config:
    return parse(json.dumps({"backends": ["http://localhost:8081"], **keys}))


def test_a_strategy_goes_on_until_the_configuration_names_another() -> None:
    strategist = Strategist(Learned(), float)
    first = strategist.make(config())
    assert isinstance(first, Adaptive)
    assert strategist.make(config(), first) is first
    assert isinstance(strategist.make(config(strategy="least_requests"), first), LeastRequests)


def test_a_changed_bound_is_followed_by_the_one_in_use() -> None:
    strategist = Strategist(Learned(), float)
    used = strategist.make(config(strategy="consistent_hash"))
    again = config(strategy="consistent_hash", hash={"bounded_load_ratio": None})
    assert strategist.make(again, used) is used
    strategist.retune(used, again)
    assert isinstance(used, ConsistentHash)
    assert used.bounded_load_ratio == inf


def test_a_class_that_can_be_made_no_more_refuses_the_configuration() -> None:
    Broken.left = 1
    loaded = config(strategy="tests.edge.test_parts:Broken")
    with pytest.raises(ConfigError) as caught:
        Strategist(Learned(), float).make(loaded)
    assert caught.value.problems[0].path == "strategy"
    assert "RuntimeError: no more" in caught.value.problems[0].message


def test_every_failed_pick_is_counted_and_each_kind_logged_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    Broken.left = 10
    own = Learned()
    strategist = Strategist(own, lambda: 0.0)
    strategy = strategist.make(config(strategy="tests.edge.test_parts:Broken"))
    assert isinstance(strategy, Guarded)
    members = backends(1, 1)
    with caplog.at_level(logging.WARNING, "smartedge"):
        for second in (100.0, 101.0, 159.0, 161.0):
            for _ in range(3):
                strategy.pick(members, second, Random(1), b"")
            strategist.tell(strategy, second)
    assert own.cells[STRATEGY_FALLBACKS] == 12
    assert [record.message for record in caplog.records] == [
        "strategy failed: tests.edge.test_parts:Broken: pick returned None, which is none of the candidates"
        " (3 picks by round robin)"
    ] * 2
    strategist.tell(Adaptive(), 300.0)
    assert own.cells[STRATEGY_FALLBACKS] == 12
