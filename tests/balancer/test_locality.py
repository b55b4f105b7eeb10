"""How much each tier carries: Envoy's rule, for every mix of available and unavailable backends."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smartedge.balancer.locality import SpillPolicy, TierCount, panics, shares_of

USUAL = SpillPolicy()


def tier(available: int, backends: int) -> TierCount:
    """Backends of weight 1."""
    return TierCount(backends, available, backends, available)


tiers_in_any_state = st.lists(
    st.integers(1, 20).flatmap(lambda count: st.integers(0, count).map(lambda up: tier(up, count))), min_size=1, max_size=5
)
policies = st.builds(SpillPolicy, st.floats(1.0, 4.0), st.booleans(), st.integers(1, 5))


@pytest.mark.parametrize(
    ("ups", "shares"),
    [
        # Envoy's own tables (docs, "Priority levels"): 100 backends each, percents
        ([100, 100], [100, 0]),
        ([72, 100], [100, 0]),
        ([71, 100], [99.4, 0.6]),
        ([50, 50], [70, 30]),
        ([25, 100], [35, 65]),
        ([25, 25], [50, 50]),
        ([0, 100], [0, 100]),
        ([50, 0], [100, 0]),
        ([20, 20, 10], [40, 40, 20]),
        ([20, 0, 0], [100, 0, 0]),
        ([0, 0], [50, 50]),
        ([50, 30, 100], [70, 30, 0]),
        ([25, 25, 100], [35, 35, 30]),
    ],
)
def test_the_shares_are_those_of_envoys_tables(ups: list[int], shares: list[float]) -> None:
    found = shares_of([tier(up, 100) for up in ups], USUAL)
    assert [100 * share for share in found] == pytest.approx(shares)


@given(tiers_in_any_state)
def test_each_tier_gets_what_it_can_carry_of_what_those_before_it_left(tiers: list[TierCount]) -> None:
    shares = shares_of(tiers, USUAL)
    assert sum(shares) == pytest.approx(1.0)
    can = [min(1.0, 1.4 * one.available / one.backends) for one in tiers]
    if sum(can) >= 1.0:
        for number, (share, ability) in enumerate(zip(shares, can, strict=True)):
            assert share == pytest.approx(max(0.0, min(ability, 1.0 - sum(can[:number]))), abs=1e-9)
    elif any(can):  # all together can't: in proportion
        assert shares == pytest.approx([ability / sum(can) for ability in can])


@given(tiers_in_any_state, policies)
def test_who_has_nothing_available_gets_nothing_while_somebody_has(tiers: list[TierCount], policy: SpillPolicy) -> None:
    shares = shares_of(tiers, policy)
    assert sum(shares) == pytest.approx(1.0)
    assert all(0.0 <= share <= 1.0 for share in shares)
    if any(one.available for one in tiers):
        assert all(one.available for one, share in zip(tiers, shares, strict=True) if share)


@given(tiers_in_any_state, st.data())
def test_one_backend_more_or_less_moves_no_more_than_its_part_times_the_ratio(
    tiers: list[TierCount], data: st.DataObject
) -> None:
    place = data.draw(st.integers(0, len(tiers) - 1))
    one = tiers[place]
    if one.available == one.backends:
        return
    after = [*tiers]
    after[place] = tier(one.available + 1, one.backends)
    can, could = ([min(1.0, 1.4 * t.available / t.backends) for t in state] for state in (tiers, after))
    shares, later = shares_of(tiers, USUAL), shares_of(after, USUAL)
    moved = sum(abs(a - b) for a, b in zip(shares, later, strict=True)) / 2
    if sum(can) < 1.0:  # all are overrun, in proportion: what one more carries counts as a part of what all carry
        if any(can):
            assert moved <= (could[place] - can[place]) / min(1.0, sum(could)) + 1e-9
            assert later[place] >= shares[place] - 1e-9
        return
    assert moved <= could[place] - can[place] + 1e-9
    assert moved <= 1.4 / one.backends + 1e-9
    assert later[place] >= shares[place] - 1e-9
    assert all(b <= a + 1e-9 for a, b in zip(shares[place + 1 :], later[place + 1 :], strict=True))
    assert later[:place] == pytest.approx(shares[:place])


@given(tiers_in_any_state)
def test_failover_only_leaves_a_tier_when_nothing_of_it_is_available(tiers: list[TierCount]) -> None:
    shares = shares_of(tiers, SpillPolicy(failover_only=True))
    if any(one.available for one in tiers):
        first = next(number for number, one in enumerate(tiers) if one.available)
        assert shares == [float(number == first) for number in range(len(tiers))]


def test_below_min_available_a_tier_carries_nothing_unless_it_has_no_more_or_nobody_else_can() -> None:
    policy = SpillPolicy(min_available=3)
    assert shares_of([tier(2, 10), tier(10, 10)], policy) == [0.0, 1.0]
    assert shares_of([tier(3, 4), tier(10, 10)], policy) == [1.0, 0.0]
    assert shares_of([tier(2, 2), tier(10, 10)], policy) == [1.0, 0.0]
    assert shares_of([tier(2, 10), tier(1, 10)], policy) == pytest.approx([2 / 3, 1 / 3])


def test_weights_count_and_a_slow_start_comes_back_gradually() -> None:
    heavy_is_gone = TierCount(weight=4, available_weight=1, backends=2, available=1)
    assert shares_of([heavy_is_gone, tier(1, 1)], USUAL) == pytest.approx([0.35, 0.65])
    warm = [TierCount(1, weight, 1, 1) for weight in (0.1, 0.3, 0.6, 1.0)]
    assert [shares_of([one, tier(1, 1)], USUAL)[0] for one in warm] == pytest.approx([0.14, 0.42, 0.84, 1.0])


@given(tiers_in_any_state)
def test_ejected_ones_have_to_help_only_where_all_together_cannot_carry_everything(tiers: list[TierCount]) -> None:
    can = sum(min(1.0, 1.4 * one.available / one.backends) for one in tiers)
    for one, panic in zip(tiers, panics(tiers, USUAL), strict=True):
        assert panic == (can < 1.0 - 1e-9 and one.available < one.backends / 2)


def test_tiers_that_carry_just_everything_need_no_ejected_ones() -> None:
    assert panics([tier(1, 7), tier(4, 7)], USUAL) == [False, False]


def test_without_a_backend_anywhere_there_is_nothing_to_share() -> None:
    assert shares_of([], USUAL) == []
    assert shares_of([TierCount(0, 0, 0, 0)], USUAL) == [0.0]
    assert panics([TierCount(0, 0, 0, 0)], USUAL) == [True]
