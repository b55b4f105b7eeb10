"""One suite that every strategy has to pass, then what is particular to each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smartedge.balancer.backend import Backend, Cell
from smartedge.balancer.breaker import BreakerPolicy
from smartedge.balancer.strategies import STRATEGIES, PeakEwmaStrategy, RoundRobin, Strategy
from tests.balancer.makers import backend, backends, names

every_strategy = pytest.mark.parametrize("name", STRATEGIES)


def picks(strategy: Strategy, candidates: Sequence[Backend], count: int, now: float = 1000.0) -> list[Backend]:
    rng = Random(11)
    return [strategy.pick(candidates, now, rng) for _ in range(count)]


def shares(strategy: Strategy, candidates: Sequence[Backend], count: int) -> Counter[str]:
    return Counter(one.id for one in picks(strategy, candidates, count))


def hold(one: Backend, leases: int) -> None:
    one.learned.cells[Cell.IN_FLIGHT] = leases


@every_strategy
def test_its_name_is_its_key(name: str) -> None:
    assert STRATEGIES[name].name == name


@every_strategy
@pytest.mark.parametrize("count", [1, 2, 3, 16, 17, 40])
def test_it_picks_one_of_the_candidates_and_leaves_none_out(name: str, count: int) -> None:
    members = backends(*[1] * count)
    strategy = STRATEGIES[name]()
    strategy.prepare(members)
    assert set(picks(strategy, members, 30 * count)) == set(members)


@every_strategy
def test_idle_equals_that_were_never_measured_share_evenly(name: str) -> None:
    members = backends(1, 1)
    strategy = STRATEGIES[name]()
    strategy.prepare(members)
    assert shares(strategy, members, 1000)["a"] == pytest.approx(500, abs=60)


@every_strategy
def test_idle_equals_that_were_measured_share_evenly(name: str) -> None:
    members = backends(1, 1, 1)
    for one in members:
        one.learned.ewma.observe(999.0, 0.008)
    strategy = STRATEGIES[name]()
    strategy.prepare(members)
    assert min(shares(strategy, members, 900).values()) > 240


@every_strategy
def test_what_is_left_for_a_retry_is_picked_from_without_the_others(name: str) -> None:
    members = backends(1, 1, 1)
    strategy = STRATEGIES[name]()
    strategy.prepare(members)
    picks(strategy, members, 4)
    assert set(picks(strategy, list(members[1:]), 20)) == set(members[1:])


@every_strategy
def test_every_weight_gets_its_share_while_leases_are_open(name: str) -> None:
    """Nothing is answered, so that the open leases themselves are what the weights share out."""
    members = backends(4, 2, 1)
    strategy = STRATEGIES[name]()
    strategy.prepare(members)
    rng = Random(5)
    for _ in range(700):
        one = strategy.pick(members, 1000.0, rng)
        hold(one, one.in_flight() + 1)
    assert [one.in_flight() for one in members] == pytest.approx([400, 200, 100], abs=3)


@every_strategy
def test_members_may_come_and_go(name: str) -> None:
    members = backends(1, 1, 1)
    strategy = STRATEGIES[name]()
    for candidates in (members, members[1:], (), members[:2], (*members, backend("z"))):
        strategy.keep(candidates)
        strategy.prepare(candidates)
        if candidates:
            strategy.failed(candidates[0])
            assert set(picks(strategy, candidates, 200)) == set(candidates)


@every_strategy
def test_the_same_chance_gives_the_same_picks(name: str) -> None:
    def run() -> str:
        members = backends(*[1] * 20)
        strategy = STRATEGIES[name]()
        strategy.prepare(members)
        return names(picks(strategy, members, 50))

    assert run() == run()


# round robin


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
    members = tuple(backend(name, 10, breaker=BreakerPolicy(failures=5)) for name in "ab")
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


# ewma


def test_the_quicker_one_is_preferred() -> None:
    members = backends(1, 1, 1)
    for one, latency_s in zip(members, (0.08, 0.008, 0.02), strict=True):
        one.learned.ewma.observe(1000.0, latency_s)
    assert names(picks(PeakEwmaStrategy(), members, 3)) == "b b b"


def test_the_cost_is_latency_times_leases_plus_one_by_weight() -> None:
    members = a, b = backends(1, 2)
    a.learned.ewma.observe(1000.0, 0.010)
    b.learned.ewma.observe(1000.0, 0.030)
    strategy = PeakEwmaStrategy()
    assert set(picks(strategy, members, 9)) == {a}  # 0.010 against 0.015
    hold(a, 1)
    assert set(picks(strategy, members, 9)) == {b}  # 0.020 against 0.015
    hold(b, 1)
    assert set(picks(strategy, members, 9)) == {a}  # 0.020 against 0.030


def test_the_age_of_the_oldest_lease_without_an_answer_is_a_lower_bound() -> None:
    members = a, b = backends(1, 1)
    a.learned.ewma.observe(1000.0, 0.008)
    b.learned.ewma.observe(1000.0, 0.020)
    a.learned.waiting.update({"oldest": 999.95, "newer": 1000.0})
    assert set(picks(PeakEwmaStrategy(), members, 9)) == {b}
    del a.learned.waiting["oldest"]
    assert set(picks(PeakEwmaStrategy(), members, 9)) == {a}


def test_an_age_below_the_mean_says_nothing() -> None:
    members = a, b = backends(1, 1)
    a.learned.ewma.observe(1000.0, 0.020)
    b.learned.ewma.observe(1000.0, 0.008)
    a.learned.waiting["lease"] = 999.999
    assert set(picks(PeakEwmaStrategy(), members, 9)) == {b}


def test_a_newcomer_starts_at_the_mean_of_the_others() -> None:
    members = a, b, newcomer = backends(1, 1, 1)
    a.learned.ewma.observe(1000.0, 0.010)
    b.learned.ewma.observe(1000.0, 0.030)
    assert set(picks(PeakEwmaStrategy(), members, 9)) == {a}
    assert newcomer.learned.ewma.read(1000.0) == pytest.approx(0.020)


def test_while_nothing_is_known_the_leases_decide() -> None:
    members = a, b = backends(1, 1)
    hold(a, 1)
    assert set(picks(PeakEwmaStrategy(), members, 9)) == {b}
    assert a.learned.ewma.read(1000.0) == 0.0


def test_after_a_quiet_night_all_are_alike() -> None:
    members = a, b = backends(1, 1)
    a.learned.ewma.observe(1000.0, 0.008)
    b.learned.ewma.observe(1000.0, 0.080)
    assert set(picks(PeakEwmaStrategy(), members, 99, now=1200.0)) == {a, b}


@pytest.mark.parametrize(("count", "found"), [(16, 1.0), (17, 2 / 17)])
def test_up_to_16_the_least_of_all_is_taken_and_above_the_better_of_two(count: int, found: float) -> None:
    members = backends(*[1] * count)
    for one in members:
        one.learned.ewma.observe(1000.0, 0.020)
    quick = members[-1]
    quick.learned.ewma.seed(1000.0, 0.010)
    ratio = shares(PeakEwmaStrategy(), members, 4000)[quick.id] / 4000
    assert ratio == pytest.approx(found, abs=0.02)


def test_of_many_the_worst_one_is_never_taken() -> None:
    """The two are distinct, so the worst one always meets a better one."""
    members = backends(*[1] * 17)
    for one in members:
        one.learned.ewma.observe(1000.0, 0.020)
    members[3].learned.ewma.fail(1000.0)
    counts = shares(PeakEwmaStrategy(), members, 4000)
    assert "d" not in counts
    assert len(counts) == 16
