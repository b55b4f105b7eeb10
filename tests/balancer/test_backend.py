from __future__ import annotations

import dataclasses

import pytest

from smartedge.balancer.backend import Backend
from smartedge.balancer.breaker import BreakerPolicy
from smartedge.balancer.cells import (
    BYTES_IN,
    BYTES_OUT,
    CODE_CELLS,
    CODE_LABELS,
    CONNECTS,
    DURATION_CELLS,
    DURATION_SUM,
    IN_FLIGHT,
    LATENCY_CELLS,
    LATENCY_SUM,
    RETRIES,
    ROW_CELLS,
    TUNNELS,
    WEIGHT,
    private_row,
)
from smartedge.balancer.health import HealthPolicy
from smartedge.balancer.learned import Learned
from smartedge.balancer.spec import BackendSpec
from tests.house import backend, move, set_state

Row = tuple["memoryview[int]", "memoryview[float]"]


def a_row(cells: int = ROW_CELLS) -> Row:
    memory = memoryview(bytearray(cells * 8))
    return memory.cast("q"), memory.cast("d")


def eject(one: Backend, now: float) -> None:
    from random import Random

    while one.learned.breaker.failed(now, Random(1)) != "opened":
        pass


def test_what_the_operator_wrote_cannot_be_changed() -> None:
    spec = BackendSpec(id="a", url="http://a")
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.weight = 3  # type: ignore[misc]


def test_a_backend_is_known_by_id_and_url_together() -> None:
    keys = {BackendSpec(id=i, url=u).key for i in ("a", "b") for u in ("http://a", "http://b")}
    assert len(keys) == 4
    assert backend("a").key == BackendSpec(id="a", url="http://a:80", weight=9).key
    assert "a http://a:80" in repr(backend("a"))


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


def test_another_configurations_policies_are_followed_and_what_was_learned_stays() -> None:
    learned = Learned()
    learned.health.probed(True)
    spec = BackendSpec("a", "http://a", health=HealthPolicy(fall=1), breaker=BreakerPolicy(failures=2))
    learned.follow(spec)
    assert learned.health.state == "healthy"
    assert learned.health.policy.fall == 1
    assert learned.breaker.policy.failures == 2


def test_counting_needs_no_board() -> None:
    learned = Learned()
    learned.count(404, 0.3, 10, 2000)
    learned.count(404, 0.2, 1, 1)
    learned.count(299, 100.0, 0, 0)
    learned.add(RETRIES)
    learned.add(CONNECTS, 5)
    totals = learned.totals()
    assert len(totals) == ROW_CELLS
    assert (totals[BYTES_IN], totals[BYTES_OUT]) == (11, 2001)
    assert (totals[RETRIES], totals[CONNECTS]) == (1, 5)
    assert totals[DURATION_SUM] == pytest.approx(100.5)
    codes = dict(zip(CODE_LABELS, totals[CODE_CELLS], strict=True))
    assert {label: count for label, count in codes.items() if count} == {"404": 2, "2xx": 1}
    assert sum(totals[DURATION_CELLS]) == 3
    assert totals[DURATION_CELLS][-1] == 1
    assert not sum(totals[LATENCY_CELLS])


def test_taking_a_place_on_the_board_moves_the_counts_there() -> None:
    learned = Learned()
    learned.count(200, 0.25, 3, 4)
    learned.add(IN_FLIGHT, 2)
    learned.reals[LATENCY_SUM] = 0.5
    ints, reals = private_row()
    move(learned, (ints, reals))
    learned.count(200, 0.25, 3, 4)
    totals = learned.totals()
    assert (totals[BYTES_IN], totals[IN_FLIGHT], totals[LATENCY_SUM]) == (6, 2, 0.5)
    assert totals[DURATION_SUM] == 0.5
    assert ints[BYTES_IN] == 6


def test_a_worker_goes_on_from_what_its_predecessor_counted_but_not_from_its_leases() -> None:
    ints, reals = private_row()
    predecessor = Learned()
    move(predecessor, (ints, reals))
    predecessor.count(200, 0.25, 3, 4)
    predecessor.add(IN_FLIGHT, 7)
    predecessor.add(TUNNELS, 7)
    successor = Learned()
    successor.add(IN_FLIGHT, 1)
    successor.count(200, 0.25, 3, 4)
    move(successor, (ints, reals))
    totals = successor.totals()
    assert (totals[BYTES_IN], totals[DURATION_SUM], totals[IN_FLIGHT]) == (6, 0.5, 1)
    assert totals[TUNNELS] == 0


def test_totals_add_up_all_workers() -> None:
    rows = [private_row() for _ in range(3)]
    workers = [Learned() for _ in rows]
    for worker, row in zip(workers, rows, strict=True):
        move(worker, row, *(other for other in rows if other is not row))
        worker.count(503, 0.5, 1, 0)
    totals = workers[0].totals()
    assert totals == workers[2].totals()
    assert totals[BYTES_IN] == 3
    assert totals[DURATION_SUM] == 1.5
