"""What the defaults make of backends that fail: `failure`, blame by comparison, one retry of a 500, under every strategy."""

from __future__ import annotations

from typing import Any

import pytest

from smartedge.balancer.strategies.menu import STRATEGIES
from tests.simulator.makers import outcome_figures

FAILS_FAST = {"fail_ratio": 1, "fail_s": 0.0005, "probes": "good"}

TWO = ("adaptive", "ewma")
"""Strategies that stand for all with the fast tests, where a run takes long: the default, and one that goes by latency alone."""

every_strategy = pytest.mark.parametrize("strategy", sorted(STRATEGIES))


def figures(world: dict[str, Any], strategy: str, count: int = 2, **config: Any) -> Any:
    """A run on the defaults, but for what is said here."""
    return outcome_figures({"strategies": [strategy]} | world, count=count, **config)


@every_strategy
@pytest.mark.parametrize("status", [500, 501, 503])
def test_of_two_backends_one_fails_at_once_and_no_client_knows(strategy: str, status: int) -> None:
    """`ewma` sent 100% of later requests to it, `least_requests` 86 to 90%, `random` 89%; the breaker heard of nothing."""
    found = figures({"backends": [{"id": "a", "fail_status": status} | FAILS_FAST]}, strategy)
    assert found.shares["a"] < 0.1
    assert found.errors == (found.tries["a"] if status == 501 else 0)


@pytest.mark.parametrize("strategy", ["adaptive", "round_robin", "ewma"])
def test_what_may_not_be_repeated_fails_until_the_breaker_knows_better(strategy: str) -> None:
    found = figures({"backends": [{"id": "a"} | FAILS_FAST], "arrivals": {"per_s": 100, "idempotent_ratio": 0}}, strategy)
    assert found.errors == found.tries["a"] <= 40
    assert found.retries == 0


@every_strategy
@pytest.mark.parametrize("count", [1, 2, pytest.param(4, marks=pytest.mark.long)])
def test_when_all_fail_alike_nobody_is_ejected_or_favoured_and_nothing_is_asked_twice(strategy: str, count: int) -> None:
    """A bad URL of the application, a dead database behind all of them."""
    found = figures({"backend": FAILS_FAST}, strategy, count)
    assert found.statuses == {500: found.requests}
    assert found.retries <= 3
    assert min(found.shares.values()) > 0.5 / count


@every_strategy
def test_half_errors_reach_no_client(strategy: str) -> None:
    found = figures({"backends": [{"id": "a", "fail_ratio": 0.5, "probes": "good"}]}, strategy)
    assert found.errors == 0


def test_an_empty_list_holds_no_answer_against_anybody() -> None:
    found = figures({"backends": [{"id": "a"} | FAILS_FAST]}, "round_robin", failure={"statuses": []}, retry={"statuses": []})
    assert found.errors == found.tries["a"] == pytest.approx(found.requests / 2, rel=0.05)


MIXED = {
    "duration_s": 3_600,
    "arrivals": {
        "per_s": 10,
        "kinds": [
            {"path": "/poll", "ratio": 0.08, "slowness": 500},
            {"path": "/reports/7", "ratio": 0.02, "slowness": 300},
        ],
    },
    "backend": {"service": {"kind": "lognormal", "mean_s": 0.008, "sigma": 0.5}, "slots": 64},
}


@pytest.mark.long
@pytest.mark.parametrize("strategy", ["adaptive", "round_robin"])
@pytest.mark.parametrize("count", [2, 4])
def test_an_hour_of_long_polls_and_slow_reports_beside_quick_requests_moves_none_of_them(strategy: str, count: int) -> None:
    """Ten long polls had a sound backend ejected, and all its requests moved."""
    found = figures(MIXED, strategy, count)
    assert (found.errors, found.retries) == (0, 0)


@pytest.mark.parametrize(
    "strategy", [name if name in TWO else pytest.param(name, marks=pytest.mark.long) for name in sorted(STRATEGIES)]
)
@pytest.mark.parametrize("count", [2, pytest.param(4, marks=pytest.mark.long)])
def test_a_backend_that_hangs_beside_long_polls_costs_no_request_more_than_half_a_second(strategy: str, count: int) -> None:
    """On the defaults and without hedging: 1.1 s for some, 30 s for those that were sent there before anybody knew."""
    world = MIXED | {"duration_s": 30, "backends": [{"id": "a", "probes": "good", "changes": [{"at_s": 20, "state": "hang"}]}]}
    quick = world | {"arrivals": {"per_s": 250}}
    found = figures(quick, strategy, count)
    assert (found.errors, found.max_s < 0.6) == (0, True), found.max_s


def test_kinds_have_shares_and_times_of_their_own() -> None:
    kinds = [{"path": "/slow", "ratio": 0.25, "slowness": 10}]
    found = figures({"arrivals": {"per_s": 100, "kinds": kinds}, "backend": {"slots": 100}}, "round_robin")
    assert found.p50_s == pytest.approx(0.01)
    assert found.p99_s == pytest.approx(0.1)
