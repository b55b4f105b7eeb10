"""What was learned of a backend, and the rows that it lies in."""

from __future__ import annotations

import pytest

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
    private_row,
)
from smartedge.balancer.learned import Learned
from tests.house import move
from tests.policies import backend_spec, breaker_policy, health_policy


def test_another_configurations_policies_are_followed_and_what_was_learned_stays() -> None:
    learned = Learned(backend_spec())
    learned.health.probed(True)
    spec = backend_spec(id="a", url="http://a", health=health_policy(fall=1), breaker=breaker_policy(failures=2))
    learned.follow_spec(spec)
    assert learned.health.state == "healthy"
    assert learned.health.policy.fall == 1
    assert learned.breaker.policy.failures == 2


def test_counting_needs_no_board() -> None:
    learned = Learned(backend_spec())
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
    learned = Learned(backend_spec())
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
    predecessor = Learned(backend_spec())
    move(predecessor, (ints, reals))
    predecessor.count(200, 0.25, 3, 4)
    predecessor.add(IN_FLIGHT, 7)
    predecessor.add(TUNNELS, 7)
    successor = Learned(backend_spec())
    successor.add(IN_FLIGHT, 1)
    successor.count(200, 0.25, 3, 4)
    move(successor, (ints, reals))
    totals = successor.totals()
    assert (totals[BYTES_IN], totals[DURATION_SUM], totals[IN_FLIGHT]) == (6, 0.5, 1)
    assert totals[TUNNELS] == 0


def test_totals_add_up_all_workers() -> None:
    rows = [private_row() for _ in range(3)]
    workers = [Learned(backend_spec()) for _ in rows]
    for worker, row in zip(workers, rows, strict=True):
        move(worker, row, *(other for other in rows if other is not row))
        worker.count(503, 0.5, 1, 0)
    totals = workers[0].totals()
    assert totals == workers[2].totals()
    assert totals[BYTES_IN] == 3
    assert totals[DURATION_SUM] == 1.5
