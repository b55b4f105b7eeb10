from __future__ import annotations

from smartedge.balancer.backend import Backend
from smartedge.balancer.cells import (
    IN_FLIGHT,
    ROW_CELLS,
    WEIGHT,
    private_row,
)
from tests.house import backend, move, set_state

Row = tuple["memoryview[int]", "memoryview[float]"]


def a_row(cells: int = ROW_CELLS) -> Row:
    memory = memoryview(bytearray(cells * 8))
    return memory.cast("q"), memory.cast("d")


def eject(one: Backend, now: float) -> None:
    from random import Random

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
