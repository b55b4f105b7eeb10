"""The better of two."""

from __future__ import annotations

import pytest

from smartedge.balancer.strategies.menu import TwoChoices
from tests.balancer.strategies.picking import hold, picks, shares
from tests.house import backends


def test_of_two_the_one_with_fewer_leases_is_taken() -> None:
    members = a, b = backends(1, 1)
    hold(a, 1)
    assert set(picks(TwoChoices(), members, 50)) == {b}


def test_leases_count_by_weight() -> None:
    members = a, b = backends(1, 4)
    hold(a, 1)
    hold(b, 3)
    assert set(picks(TwoChoices(), members, 50)) == {b}
    hold(b, 5)
    assert set(picks(TwoChoices(), members, 50)) == {a}


def test_the_busiest_is_never_taken_for_it_meets_a_better_one() -> None:
    members = backends(*[1] * 10)
    hold(members[3], 1)
    counts = shares(TwoChoices(), members, 2000)
    assert "d" not in counts
    assert len(counts) == 9


def test_the_score_is_what_two_are_compared_by() -> None:
    members = backends(1, 4)
    hold(members[1], 2)
    assert [TwoChoices().score(one, members, 1000.0) for one in members] == pytest.approx([0.0, 0.5])
