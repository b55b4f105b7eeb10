"""The quickest: what the cost is made of, and who starts how."""

from __future__ import annotations

import pytest

from smartedge.balancer.strategies.menu import PeakEwmaStrategy
from tests.balancer.strategies.picking import hold, picks, shares
from tests.house import backends, names


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


def test_above_16_weights_count_in_the_draw() -> None:
    """Drawn evenly, one of weight 100 among 17 would be seen in no more than two picks of 17."""
    members = backends(100, *[1] * 16)
    for one in members:
        one.learned.ewma.observe(1000.0, 0.010)
    strategy = PeakEwmaStrategy()
    strategy.prepare(members)
    assert shares(strategy, members, 1000)["a"] > 950


def test_a_newcomer_with_a_lease_is_not_taken_for_as_quick_as_that_lease_is_young() -> None:
    members = a, newcomer = backends(1, 1)
    newcomer.learned.waiting["lease"] = 999.999
    a.learned.ewma.observe(1000.0, 0.010)
    assert PeakEwmaStrategy().score(newcomer, members, 1000.0) == pytest.approx(0.010)
    hold(newcomer, 1)
    assert set(picks(PeakEwmaStrategy(), members, 9)) == {a}


def test_asking_for_the_score_seeds_nobody() -> None:
    members = a, newcomer = backends(1, 2)
    a.learned.ewma.observe(1000.0, 0.010)
    strategy = PeakEwmaStrategy()
    assert [strategy.score(one, members, 1000.0) for one in members] == pytest.approx([0.010, 0.005])
    assert newcomer.learned.ewma.mean_s == 0.0
