"""The fewest open leases, by weight."""

from __future__ import annotations

from random import Random

import pytest

from smartedge.balancer.backend import Backend
from smartedge.balancer.cells import IN_FLIGHT, private_row
from smartedge.balancer.strategies.menu import LeastRequests
from tests.balancer.strategies.picking import hold, picks, shares
from tests.house import backends


def prepared(members: tuple[Backend, ...]) -> LeastRequests:
    strategy = LeastRequests()
    strategy.prepare(members)
    return strategy


def test_the_one_with_the_fewest_leases_is_taken() -> None:
    members = a, b, c = backends(1, 1, 1)
    for one, leases in ((a, 2), (b, 1), (c, 3)):
        hold(one, leases)
    assert set(picks(prepared(members), members, 50)) == {b}


def test_the_leases_of_all_workers_count() -> None:
    members = a, b = backends(1, 1)
    other_worker = private_row()[0]
    other_worker[IN_FLIGHT] = 5
    a.learned.see_workers((a.learned.cells, other_worker))
    hold(b, 4)
    assert set(picks(prepared(members), members, 50)) == {b}


def test_the_lease_that_would_come_counts_by_weight() -> None:
    members = a, b = backends(1, 4)
    hold(a, 1)
    hold(b, 6)  # 2 against 7/4
    assert set(picks(prepared(members), members, 50)) == {b}
    hold(b, 7)  # 2 against 8/4
    assert set(picks(prepared(members), members, 50)) == {a, b}
    hold(b, 8)
    assert set(picks(prepared(members), members, 50)) == {a}


def test_an_idle_one_is_better_than_any_that_is_busy() -> None:
    members = a, b = backends(1, 1000)
    hold(b, 1)
    assert set(picks(prepared(members), members, 50)) == {a}


def test_equals_share_by_weight() -> None:
    members = backends(2, 4)
    hold(members[0], 1)
    hold(members[1], 3)
    assert shares(prepared(members), members, 3000)["b"] / 3000 == pytest.approx(2 / 3, abs=0.03)


def test_of_very_many_a_sample_is_looked_at() -> None:
    """More than a hundred are never all added up, yet the pick is one of the least busy."""
    members = backends(*[1] * 500)
    for number, one in enumerate(members):
        hold(one, 1 + number // 50)  # ten classes of fifty
    counts = shares(prepared(members), members, 1000)
    least = {one.id for one in members[:50]}
    assert sum(counts[one] for one in least) / 1000 == pytest.approx(1 - 0.9**17, abs=0.05)


def test_workers_with_chance_of_their_own_do_not_walk_in_step() -> None:
    members = backends(1, 1, 1, 1)
    one, other = prepared(members), prepared(members)
    assert [one.pick(members, 1.0, rng) for rng in [Random(1)] * 20] != [
        other.pick(members, 1.0, rng) for rng in [Random(2)] * 20
    ]
