from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smartedge.balancer.cells import private_row
from smartedge.balancer.health import Health, HealthPolicy
from tests.policies import health_policy


def probed(results: str, policy: HealthPolicy | None = None) -> tuple[Health, list[str | None]]:
    health = Health(policy or health_policy(), private_row())
    return health, [health.probed(result == "+") for result in results]


def test_nothing_is_known_before_the_first_probe_and_it_is_in_doubt() -> None:
    health, _ = probed("")
    assert health.state == "unknown"
    assert health.changing


@pytest.mark.parametrize(("result", "change", "state"), [("+", "up", "healthy"), ("-", "down", "unhealthy")])
def test_the_first_probe_decides_at_once(result: str, change: str, state: str) -> None:
    health, changes = probed(result)
    assert changes == [change]
    assert health.state == state
    assert not health.changing


def test_three_bad_probes_in_a_row_take_it_down_and_the_change_is_told_once() -> None:
    health, changes = probed("+----")
    assert changes == ["up", None, None, "down", None]
    assert health.state == "unhealthy"


def test_two_good_probes_in_a_row_bring_it_up_and_the_change_is_told_once() -> None:
    health, changes = probed("-+++")
    assert changes == ["down", None, "up", None]
    assert health.state == "healthy"


def test_a_good_probe_between_bad_ones_starts_the_count_again() -> None:
    health, changes = probed("+--+--")
    assert changes == ["up", None, None, None, None, None]
    assert health.state == "healthy"


def test_it_is_in_doubt_between_states_only() -> None:
    health, _ = probed("+")
    doubts = []
    for result in "-+---+-++":
        health.probed(result == "+")
        doubts.append(health.changing)
    assert doubts == [True, False, True, True, False, True, False, True, False]


def test_another_policy_is_followed_from_the_next_probe_on() -> None:
    health, _ = probed("+--")
    health.policy = health_policy(fall=5)
    assert [health.probed(False) for _ in range(3)] == [None, None, "down"]


def test_by_default_every_answer_below_500_is_healthy() -> None:
    statuses = health_policy().statuses
    assert {200, 204, 302, 404, 499} <= statuses
    assert not statuses & {500, 503}


@pytest.mark.parametrize("written", ["", "+", "----"])
def test_whom_nobody_asks_is_taken_for_healthy(written: str) -> None:
    health, _ = probed(written)
    health.policy = health_policy(type="none")
    assert health.state == "healthy"


@given(st.lists(st.booleans(), max_size=60), st.integers(1, 5), st.integers(1, 5))
def test_changes_alternate_and_tell_the_whole_story(results: list[bool], fall: int, rise: int) -> None:
    health = Health(health_policy(fall=fall, rise=rise), private_row())
    state = "unknown"
    for at, result in enumerate(results):
        change = health.probed(result)
        if change:
            needed = 1 if state == "unknown" else rise if change == "up" else fall
            assert set(results[at + 1 - needed : at + 1]) == {change == "up"}
            assert change != state
            state = change
        assert health.state == {"unknown": "unknown", "up": "healthy", "down": "unhealthy"}[state]
