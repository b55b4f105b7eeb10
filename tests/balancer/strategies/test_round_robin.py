"""In turn, by weight: the order, and what failures and changes do to it."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smartedge.balancer.strategies.menu import RoundRobin
from tests.balancer.strategies.picking import picks, shares
from tests.house import backend, backends, names
from tests.policies import breaker_policy


def test_weights_5_1_1_give_a_a_b_a_c_a_a() -> None:
    members = backends(5, 1, 1)
    strategy = RoundRobin()
    strategy.prepare(members)
    assert names(picks(strategy, members, 14)) == "a a b a c a a a a b a c a a"


@pytest.mark.parametrize("prepared", [True, False])
def test_equal_weights_are_plain_rotation(prepared: bool) -> None:
    members = backends(3, 3, 3)
    strategy = RoundRobin()
    if prepared:
        strategy.prepare(members)
    assert names(picks(strategy, members, 7)) == "a b c a b c a"


@given(st.lists(st.integers(1, 20), min_size=1, max_size=8), st.booleans())
def test_a_full_round_gives_each_exactly_its_weight_again_and_again(weights: list[int], prepared: bool) -> None:
    members = backends(*weights)
    strategy = RoundRobin()
    if prepared:
        strategy.prepare(members)
    for _ in range(3):
        counts = shares(strategy, members, sum(weights))
        assert [counts[one.id] for one in members] == weights


@given(st.lists(st.integers(1, 20), min_size=2, max_size=8), st.integers(1, 300))
def test_at_no_time_is_anyone_further_than_the_others_together_from_its_share(weights: list[int], count: int) -> None:
    members = backends(*weights)
    strategy = RoundRobin()
    strategy.prepare(members)
    counts = shares(strategy, members, count)
    for one in members:
        assert abs(counts[one.id] - count * one.weight / sum(weights)) < len(members)


def test_a_failure_takes_a_part_of_the_weight_which_comes_back_pick_by_pick() -> None:
    members = tuple(backend(name, 10, breaker=breaker_policy(failures=5)) for name in "ab")
    strategy = RoundRobin()
    strategy.prepare(members)
    for _ in range(5):
        strategy.failed(members[0])
    # a's effective weight is 0, 1, 2, ...; without the failures a would have had five of ten
    assert shares(strategy, members, 10) == {"b": 7, "a": 3}
    assert shares(strategy, members, 1000)["a"] == pytest.approx(500, abs=3)


def test_more_failures_than_it_has_weight_do_not_make_it_negative() -> None:
    members = backends(2, 2)
    strategy = RoundRobin()
    strategy.prepare(members)
    for _ in range(100):
        strategy.failed(members[0])
    assert shares(strategy, members, 100)["a"] == pytest.approx(50, abs=3)


def test_rotation_goes_on_once_the_weight_is_whole_again() -> None:
    members = backends(1, 1, 1, 1)
    strategy = RoundRobin()
    strategy.prepare(members)
    picks(strategy, members, 2)
    strategy.failed(members[0])
    assert names(picks(strategy, members, 9)[1:]) == "c d a b c d a b"


def test_a_failure_of_one_that_is_out_does_not_hold_the_others_up() -> None:
    """A weight that only grows back while it is picked from would keep a pool off its quick path while one is ejected."""
    members = backends(1, 1, 1)
    strategy = RoundRobin()
    strategy.prepare(members)
    strategy.failed(members[0])
    strategy.prepare(members[1:])
    assert names(picks(strategy, members[1:], 6)) == "b c b c b c"


def test_a_change_of_members_goes_on_after_the_last_pick() -> None:
    a, b, c, d = backends(1, 1, 1, 1)
    strategy = RoundRobin()
    for candidates, count, expected in [
        ((a, b, c), 2, "a b"),
        ((a, c), 1, "c"),  # b, the last pick, left
        ((a, b, c, d), 2, "d a"),
        ((b, c, d), 1, "b"),
        ((c, d), 3, "c d c"),
        ((a, b), 2, "a b"),
    ]:
        strategy.prepare(candidates)
        assert names(picks(strategy, candidates, count)) == expected


def test_retries_of_one_that_always_fails_are_spread_and_starve_nobody() -> None:
    """A cursor that retries moved too would send, of three, the second nothing but the first one's retries."""
    members = a, b, c = backends(1, 1, 1)
    strategy = RoundRobin()
    strategy.prepare(members)
    first, again = Counter[str](), Counter[str]()
    for one in picks(strategy, members, 300):
        first[one.id] += 1
        if one is a:
            again[strategy.pick([b, c], 1000.0, Random(1)).id] += 1
    assert first == {"a": 100, "b": 100, "c": 100}
    assert again == {"b": 50, "c": 50}


def test_those_who_left_the_pool_are_forgotten() -> None:
    members = backends(2, 1)
    strategy = RoundRobin()
    strategy.prepare(members)
    assert names(picks(strategy, members, 4)) == "a b a a"  # and the next is b
    strategy.keep(members)
    strategy.keep(members[1:])
    assert names(picks(strategy, members, 2)) == "a b"


@pytest.mark.parametrize("weights", [(1, 1, 1, 1), (1, 2, 3, 4)])
def test_when_all_are_replaced_it_begins_anywhere(weights: tuple[int, ...]) -> None:
    """64 edges that were told of other backends in the same moment all began with the first one."""
    before, after = backends(*weights), tuple(backend(name, weight) for name, weight in zip("wxyz", weights, strict=True))
    firsts: Counter[str] = Counter()
    for seed in range(400):
        strategy, rng = RoundRobin(), Random(seed)
        strategy.prepare(before)
        assert strategy.pick(before, 0.0, rng) is before[weights.index(max(weights))], "the first of all is no matter of chance"
        strategy.prepare(after)
        rounds = Counter(strategy.pick(after, 0.0, rng).id for _ in range(10 * sum(weights)))
        assert all(abs(rounds[one.id] - 10 * one.weight) <= len(after) for one in after)
        strategy.prepare(before)
        firsts[strategy.pick(before, 0.0, rng).id] += 1

    assert max(firsts.values()) < 200
    assert len(firsts) >= 3


def test_after_an_outage_of_all_it_begins_anywhere() -> None:
    members = backends(1, 1, 1, 1)
    firsts = set()
    for seed in range(50):
        strategy, rng = RoundRobin(), Random(seed)
        for candidates in (members, (), members):
            strategy.prepare(candidates)
        firsts.add(strategy.pick(members, 0.0, rng).id)
    assert firsts == {"a", "b", "c", "d"}


def test_who_comes_late_at_the_start_does_not_change_where_it_begins() -> None:
    """At a start no backend may be there yet."""
    members = backends(1, 1, 1)
    strategy = RoundRobin()
    for candidates in ((), members):
        strategy.prepare(candidates)
    assert names(picks(strategy, members, 4)) == "a b c a"
