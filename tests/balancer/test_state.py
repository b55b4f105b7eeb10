"""The operator's will, said in the file and said since: the latest word counts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from smartedge.balancer.backend import Backend
from smartedge.balancer.pool import Pool
from smartedge.balancer.spec import State
from tests.house import backend, backends, names, pool

NOW = 1000.0


def reloaded(members: Pool, **changes: Any) -> None:
    """A reload that changes keys of the first backend in the file."""
    first, *others = members.backends
    changed = Backend(replace(first.spec, **changes), first.learned)
    members.replace_backends([changed, *others], members.strategy)


def first(members: Pool) -> tuple[State, int]:
    return members.backends[0].state, members.backends[0].full_weight


@pytest.mark.parametrize("state", ["draining", "disabled"])
def test_the_state_of_the_file_counts_from_the_start(state: State) -> None:
    members = pool([backend("a", state=state), backend("b")])
    assert first(members) == (state, 1)
    assert names(members.candidates(NOW)) == "b"


def test_what_the_operator_has_said_since_outlives_a_reload_of_something_else() -> None:
    members = pool([backend("a", weight=2, state="disabled"), backend("b")])
    members.set_state("a", "enabled")
    members.set_weight("a", 5)
    reloaded(members, slow_start_s=1.0)
    assert first(members) == ("enabled", 5)


def test_a_reload_that_changes_the_state_is_the_latest_word() -> None:
    members = pool(backends(1, 1))
    members.set_state("a", "draining")
    reloaded(members, state="disabled")
    assert first(members)[0] == "disabled"
    reloaded(members, state="enabled")
    assert first(members)[0] == "enabled"
    assert names(members.candidates(NOW)) == "a b"


def test_a_reload_that_changes_the_weight_is_the_latest_word_on_that_alone() -> None:
    members = pool(backends(1, 1))
    members.set_weight("a", 5)
    members.set_state("a", "draining")
    reloaded(members, weight=3)
    assert first(members) == ("draining", 3)


def test_one_that_comes_by_a_reload_comes_as_the_file_says() -> None:
    members = pool(backends(1))
    members.replace_backends([*members.backends, backend("b", state="disabled")], members.strategy)
    assert [one.state for one in members.backends] == ["enabled", "disabled"]
