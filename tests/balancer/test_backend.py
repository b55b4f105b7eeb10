from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from smartedge.balancer.backend import Backend
from smartedge.balancer.cells import (
    IN_FLIGHT,
    ROW_CELLS,
    SILENT_SINCE,
    WEIGHT,
    private_row,
)
from smartedge.balancer.pool import Pool
from smartedge.balancer.spec import State
from tests.house import backend, backends, move, names, pool, set_state

NOW = 1000.0

Row = tuple["memoryview[int]", "memoryview[float]"]


def a_row(cells: int = ROW_CELLS) -> Row:
    memory = memoryview(bytearray(cells * 8))
    return memory.cast("q"), memory.cast("d")


def eject(one: Backend, now: float) -> None:
    while one.learned.breaker.failed(now, Random(1)) != "opened":
        pass


def test_a_healthy_backend_is_available() -> None:
    assert backend("a").why_not(0.0) is None
    assert backend("a").available(0.0)


def test_the_reasons_not_to_use_a_backend_are_told_the_operators_first() -> None:
    one = backend("a", probed=None, max_in_flight=1)
    set_state(one, "disabled")
    eject(one, 1000.0)
    one.learned.cells[IN_FLIGHT] = 1
    assert one.why_not(1000.0) == "disabled"
    set_state(one, "draining")
    assert one.why_not(1000.0) == "draining"
    set_state(one, "enabled")
    one.learned.shared[WEIGHT] = -1
    assert (one.why_not(1000.0), one.full_weight) == ("zero_weight", 0)
    one.learned.shared[WEIGHT] = 0
    assert one.why_not(1000.0) == "unprobed"
    one.learned.health.probed(False)
    assert one.why_not(1000.0) == "unhealthy"
    one.learned.health.probed(True)
    one.learned.health.probed(True)
    assert one.why_not(1000.0) == "breaker_open"
    assert one.why_not(1005.0) == "full"
    one.learned.cells[IN_FLIGHT] = 0
    assert one.why_not(1005.0) is None


def test_asking_changes_nothing() -> None:
    one = backend("a")
    eject(one, 1000.0)
    assert all(one.available(1005.0) for _ in range(9))
    assert one.learned.breaker.state == "open"


def test_a_limit_counts_the_leases_of_all_workers() -> None:
    one = backend("a", max_in_flight=3)
    own, other = private_row(), private_row()
    move(one.learned, own, other)
    own[0][IN_FLIGHT] = 1
    other[0][IN_FLIGHT] = 1
    assert one.in_flight() == 2
    assert not one.full()
    other[0][IN_FLIGHT] = 2
    assert one.full()


def test_without_a_limit_a_backend_is_never_full() -> None:
    one = backend("a")
    one.learned.cells[IN_FLIGHT] = 10**6
    assert not one.full()


# The operator's will, said in the file and said since: the latest word counts.


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


def test_one_look_says_that_all_is_well_only_where_no_reason_can_be_found() -> None:
    """Of ten thousand candidates most are well; the look must know every reason that `why_not` does."""
    reasons: list[Callable[[Backend], object]] = [
        lambda one: set_state(one, "draining"),
        lambda one: one.learned.shared.__setitem__(WEIGHT, -1),
        lambda one: one.learned.health.forget(),
        lambda one: [one.learned.health.probed(False) for _ in range(9)],
        lambda one: eject(one, NOW),
        lambda one: one.learned.shared_reals.__setitem__(SILENT_SINCE, NOW),
    ]
    assert backend("a").is_well()
    for spoil in reasons:
        one = backend("a")
        spoil(one)
        assert one.why_not(NOW) is not None
        assert not one.is_well()
    for spec in ({"weight": 0}, {"max_in_flight": 1}, {"max_in_flight": "adaptive"}):
        assert not backend("a", **spec).is_well()
