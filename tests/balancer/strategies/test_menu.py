"""One suite that every strategy has to pass, whatever else it does."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smartedge.balancer.backend import Backend
from smartedge.balancer.strategies.guard import Guarded
from smartedge.balancer.strategies.menu import STRATEGIES, ConsistentHash, LeastRequests, Strategy
from tests.balancer.strategies.picking import hold, picks, shares
from tests.house import backend, backends, names, pool


class Own:
    """A user's strategy without any hook."""

    def pick(self, candidates: Any, now: float, rng: Random, key: bytes) -> Backend:
        return LeastRequests().pick(candidates, now, rng, key)


class Broken:
    """One that raises whatever it is asked."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)


MAKERS: dict[str, Callable[[], Strategy]] = {
    **STRATEGIES,
    "consistent_hash without a bound": lambda: ConsistentHash(inf),
    "a user's": lambda: Guarded(Own(), "a user's", lambda: 0.0),
    "a user's that fails": lambda: Guarded(Broken(), "a user's that fails", lambda: 0.0),
}

every_strategy = pytest.mark.parametrize("name", MAKERS)


def prepared(name: str, members: tuple[Backend, ...]) -> Strategy:
    strategy = MAKERS[name]()
    strategy.keep(members)
    strategy.prepare(members)
    return strategy


@pytest.mark.parametrize("name", STRATEGIES)
def test_its_name_is_its_key(name: str) -> None:
    assert STRATEGIES[name].name == name


@every_strategy
@pytest.mark.parametrize("count", [2, 20])
def test_whoever_has_weight_0_is_never_asked_but_by_his_sessions(name: str, count: int) -> None:
    members = (backend("nil", 0), *backends(*[1] * count))
    one = pool(members, MAKERS[name]())
    for number in range(4 * count):
        lease = one.lease(float(number), key=b"%d" % number)
        assert lease.backend is not members[0]
        lease.close(float(number), "ok")
    assert one.lease(0.0, prefer="nil").backend is members[0]


@every_strategy
@pytest.mark.parametrize("count", [1, 2, 3, 16, 17, 40, 70])
def test_it_picks_one_of_the_candidates_and_leaves_none_out(name: str, count: int) -> None:
    members = backends(*[1] * count)
    assert set(picks(prepared(name, members), members, 30 * count)) == set(members)


@every_strategy
def test_idle_equals_that_were_never_measured_share_evenly(name: str) -> None:
    members = backends(1, 1)
    assert shares(prepared(name, members), members, 1000)["a"] == pytest.approx(500, abs=60)


@every_strategy
def test_idle_equals_that_were_measured_share_evenly(name: str) -> None:
    members = backends(1, 1, 1)
    for one in members:
        one.learned.ewma.observe(999.0, 0.008)
    assert min(shares(prepared(name, members), members, 900).values()) > 240


@pytest.mark.parametrize("name", [name for name in MAKERS if name not in ("ewma", "a user's that fails")])
@pytest.mark.parametrize("others", [0, 70])
def test_idle_ones_share_by_weight(name: str, others: int) -> None:
    """All but ewma, which sends everything to the one with the least cost until it is busy."""
    members = backends(4, 2, 1, *[1] * others)
    counts = shares(prepared(name, members), members, 700 + 100 * others)
    assert [counts[one.id] for one in members[:3]] == pytest.approx([400, 200, 100], rel=0.3)


@every_strategy
def test_what_is_left_for_a_retry_is_picked_from_without_the_others(name: str) -> None:
    members = backends(1, 1, 1)
    strategy = prepared(name, members)
    picks(strategy, members, 4)
    assert set(picks(strategy, list(members[1:]), 20)) == set(members[1:])


@every_strategy
def test_one_that_is_left_of_many_is_picked(name: str) -> None:
    members = backends(*[1] * 100)
    strategy = prepared(name, members)
    assert set(picks(strategy, [members[99]], 20)) == {members[99]}


@every_strategy
def test_every_weight_gets_its_share_while_leases_are_open(name: str) -> None:
    """Nothing is answered, so that the open leases themselves are what the weights share out."""
    members = backends(4, 2, 1)
    strategy = prepared(name, members)
    rng = Random(5)
    for number in range(700):
        one = strategy.pick(members, 1000.0, rng, b"%d" % number)
        hold(one, one.in_flight() + 1)
    wanted = [400, 200, 100]
    assert [one.in_flight() for one in members] == pytest.approx(wanted, rel=0.25 if "hash" in name else 0.02, abs=3)


@every_strategy
def test_one_that_starts_slowly_gets_less_and_then_its_share(name: str) -> None:
    """Slow start is a weight that grows; each time the pool prepares the strategy again."""
    members = backends(1, 1)
    strategy = prepared(name, members)
    rng = Random(5)
    for warmth, expected in ((0.1, 0.09), (0.5, 0.33), (1.0, 0.5)):
        members[1].weight = warmth
        strategy.prepare(members)
        for one in members:
            hold(one, 0)
        for number in range(500):
            one = strategy.pick(members, 1000.0, rng, b"%d" % number)
            hold(one, one.in_flight() + 1)
        assert members[1].in_flight() / 500 == pytest.approx(expected, abs=0.07)


@every_strategy
def test_members_may_come_and_go(name: str) -> None:
    members = backends(1, 1, 1)
    strategy = MAKERS[name]()
    for candidates in (members, members[1:], (), members[:2], (*members, backend("z"))):
        strategy.keep(candidates)
        strategy.prepare(candidates)
        if candidates:
            strategy.failed(candidates[0])
            assert set(picks(strategy, candidates, 200)) == set(candidates)


@every_strategy
def test_after_a_reload_the_new_objects_are_picked(name: str) -> None:
    """A reload makes other objects of the same backends; what was learned is theirs too."""
    members = backends(1, 1, 1)
    strategy = prepared(name, members)
    picks(strategy, members, 10)
    reloaded = tuple(Backend(one.spec, one.learned) for one in members)
    strategy.keep(reloaded)
    strategy.prepare(reloaded)
    assert set(picks(strategy, reloaded, 100)) == set(reloaded)


@every_strategy
def test_the_same_chance_gives_the_same_picks(name: str) -> None:
    def run() -> str:
        members = backends(*[1] * 20)
        return names(picks(prepared(name, members), members, 50))

    assert run() == run()


@every_strategy
def test_the_score_is_a_number_or_none_and_asking_changes_nothing(name: str) -> None:
    members = backends(1, 2, 3)
    for number, one in enumerate(members):
        hold(one, number)
    asked, unasked = prepared(name, members), prepared(name, members)
    for _ in range(5):
        scores = [asked.score(one, members, 1000.0) for one in members]
        assert all(score is None or score >= 0.0 for score in scores)
        assert names(picks(asked, members, 3)) == names(picks(unasked, members, 3))
    assert asked.reason


@given(
    st.sampled_from(sorted(MAKERS)),
    st.lists(st.floats(0.1, 1000.0), min_size=1, max_size=20),
    st.data(),
)
def test_whatever_the_weights_and_the_load_one_of_the_candidates_is_picked(name: str, weights: list[float], data: Any) -> None:
    members = backends(*[1] * len(weights))
    for one, weight in zip(members, weights, strict=True):
        one.weight = weight
        hold(one, data.draw(st.integers(0, 5)))
    strategy = prepared(name, members)
    part = data.draw(st.lists(st.sampled_from(members), min_size=1, unique=True))
    for candidates in (members, part):
        for key in (b"", b"a", data.draw(st.binary(max_size=40))):
            assert strategy.pick(candidates, 1000.0, Random(data.draw(st.integers(0, 9))), key) in candidates


class First(Strategy):
    """No more than a strategy has to have."""

    name = "first"

    def pick(self, candidates: Any, now: float, rng: Random, key: bytes = b"") -> Backend:
        first: Backend = candidates[0]
        return first


def test_a_strategy_needs_no_hooks() -> None:
    members = backends(1, 1)
    strategy = First()
    target = pool(members, strategy)
    target.lease(1000.0).close(1000.1, "failed")
    target.replace_backends(members[1:], strategy)
    assert target.lease(1000.2).backend is members[1]
    assert strategy.score(members[0], members, 1000.0) is None
