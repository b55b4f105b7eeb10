"""The periodic look at a pool, as the edge and the simulator have it."""

from __future__ import annotations

from random import Random
from types import SimpleNamespace

import pytest

from smartedge.balancer.cells import FAILED, OBSERVED, OK, SILENT_SINCE
from smartedge.balancer.learned import Learned
from smartedge.balancer.pool import Lease, Pool
from smartedge.balancer.retry import RetryBudget
from smartedge.balancer.strategies.menu import RoundRobin
from smartedge.balancer.watch import PoolFindings, PoolWatch, leases_to_move
from tests.house import backends
from tests.policies import outlier_policy

NOW = 1000.0


def watched() -> tuple[Pool, PoolWatch, Learned]:
    pool = Pool(backends(1, 1, 1), RoundRobin(), Random(7))
    return pool, PoolWatch(pool), pool.row


def work(pool: Pool, failed: int) -> None:
    """A hundred requests for each, of which the first backend fails so many."""
    for one in pool.backends:
        count = failed if one is pool.backends[0] else 0
        one.learned.add(OK, 100 - count)
        one.learned.add(FAILED, count)


@pytest.mark.parametrize(
    ("observe", "change", "state", "observed"),
    [(False, "opened", "open", 0), (True, None, "closed", 1)],
    ids=["acts", "observes"],
)
def test_an_outlier_is_ejected_or_counted(observe: bool, change: str | None, state: str, observed: int) -> None:
    pool, watch, _ = watched()
    policy = outlier_policy(failure_ratio=0.3, observe=observe)
    watch.look(NOW, 0.95, policy)
    work(pool, failed=80)
    found = watch.look(NOW + policy.interval_s, 0.95, policy)
    first = pool.backends[0].learned
    assert [(outlier.backend.id, made) for outlier, made in found.outliers] == [("a", change)]
    assert (first.breaker.state, first.cells[OBSERVED]) == (state, observed)


def test_a_worker_that_does_not_lead_compares_nothing_and_works_out_what_is_late_all_the_same() -> None:
    pool, watch, _ = watched()
    pool.evidence.hedging = True
    policy = outlier_policy(failure_ratio=0.3)
    watch.look(NOW, 0.95, policy)
    work(pool, failed=80)
    for _ in range(40):
        pool.lease(NOW).finish(NOW + 0.02, 200)
    assert watch.look(NOW + policy.interval_s, 0.95, None) == PoolFindings()
    assert pool.backends[0].learned.breaker.state == "closed"
    hedge = pool.evidence.kinds.find(b"", b"").hedge
    assert hedge is not None
    assert hedge.after_s < 0.1


def test_a_pool_that_drowns_is_told_once() -> None:
    pool, watch, _ = watched()

    def answers(second: int, latency_s: float) -> str | None:
        for one in pool.backends:
            for _ in range(50):
                one.learned.pace.add(latency_s)
        return watch.look(NOW + second, 0.95, outlier_policy()).drowning

    assert [answers(second, 0.01) for second in range(30)] == [None] * 30
    assert [answers(second, 5.0) for second in range(30, 60)].count("began") == 1


def silent(pool: Pool, count: int) -> list[Lease]:
    """Leases that wait on the first backend, which is silent."""
    kind = pool.evidence.kinds.find(b"GET", b"/", make=True)
    for _ in range(9):
        kind.learn(NOW, 0.01)
    first, *others = pool.backends
    leases = [pool.lease(NOW + 0.001 * number, others, prefer=first.id) for number in range(count)]
    for lease in leases:
        lease.holder = SimpleNamespace(kind=(b"GET", b"/"), is_due=True)
    first.learned.shared_reals[SILENT_SINCE] = NOW
    return leases


def test_requests_leave_a_silent_backend_the_oldest_first_while_there_is_a_budget() -> None:
    pool, _, _ = watched()
    leases = silent(pool, 5)
    budget = RetryBudget(ratio=0.0, per_second=0.3)  # three in its ten seconds
    moved = []
    for lease in leases_to_move(pool, budget, NOW + 1.0):
        assert budget.withdraw(NOW + 1.0)
        moved.append(lease)
    assert moved == leases[:3]


def test_nobody_leaves_a_backend_that_is_not_silent() -> None:
    pool, _, _ = watched()
    silent(pool, 2)
    pool.backends[0].learned.shared_reals[SILENT_SINCE] = 0.0
    assert list(leases_to_move(pool, RetryBudget(0.2, 10.0), NOW + 1.0)) == []
