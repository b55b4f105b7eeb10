"""The default strategy: turns while all are alike, fewer for the slow, none for a moment for who stalls or is crowded."""

from __future__ import annotations

from collections import Counter
from math import exp
from random import Random

import pytest

from smartedge.balancer.backend import Backend
from smartedge.balancer.pool import Pool
from smartedge.balancer.strategies.adaptive import LONGEST_S, Adaptive
from smartedge.balancer.trace import CANDIDATE, Trace
from tests.balancer.strategies.picking import hold, picks
from tests.house import backends, names, pool

NOW = 1000.0


def made(*weights: int) -> tuple[Pool, tuple[Backend, ...]]:
    members = backends(*weights)
    return pool(members, Adaptive()), members


def learn(one: Backend, latency_s: float, times: int = 64, now: float = NOW, sigma: float = 0.2, seed: int = 1) -> None:
    """Let a backend have answered so often, about so fast."""
    rng = Random(seed)
    for _ in range(times):
        one.learned.pace.add(latency_s * exp(rng.gauss(0.0, sigma)))
    one.learned.pace.settle(now)
    one.learned.shared_reals[29] = now  # HEARD_AT


def asked(target: Pool, count: int, now: float = NOW, every_s: float = 0.004, takes_s: float = 0.001) -> list[str]:
    """Who was picked for requests that are answered at once."""
    ids = []
    for _ in range(count):
        lease = target.lease(now)
        ids.append(lease.backend.id)
        lease.finish(now + takes_s, 200)
        now += every_s
    return ids


@pytest.mark.parametrize(("weights", "turns"), [((1, 1), "a b a b a b"), ((5, 1, 1), "a a b a c a a"), ((3, 1), "a a b a")])
def test_unmeasured_ones_take_turns_as_in_round_robin(weights: tuple[int, ...], turns: str) -> None:
    target, _ = made(*weights)
    assert " ".join(asked(target, len(turns.split()))) == turns


def test_those_that_are_alike_take_strict_turns_whatever_the_noise() -> None:
    target, members = made(1, 1, 1)
    for number, one in enumerate(members):
        learn(one, 0.008, sigma=0.5, seed=number)
    assert "".join(asked(target, 300, takes_s=0.008)) == "abc" * 100


def test_a_slow_one_gets_less_the_slower_the_less() -> None:
    shares = []
    for slow_s in (0.008, 0.016, 0.032, 0.08, 2.0):
        target, members = made(1, 1, 1, 1)
        for one in members[1:]:
            learn(one, 0.008)
        learn(members[0], slow_s)
        counts = Counter(one.id for one in picks_of(target, 4000))
        shares.append(counts["a"] / 4000)
    assert shares[0] == 0.25
    assert shares == sorted(shares, reverse=True)
    assert shares[1] == pytest.approx(0.075, abs=0.02), "twice as long: a quarter of its turns"
    assert shares[3] < 0.005, "ten times as long: too few to be seen in the 99th percentile"
    assert shares[4] > 0, "but never nothing: it is to be measured again"


def picks_of(target: Pool, count: int, now: float = NOW) -> list[Backend]:
    return picks(target.strategy, target.candidates(now), count, now)


def test_of_two_a_slow_one_gets_less_than_a_hundredth() -> None:
    target, members = made(1, 1)
    learn(members[0], 0.08)
    learn(members[1], 0.008)
    assert 0 < Counter(one.id for one in picks_of(target, 10_000))["a"] < 100


def test_a_difference_that_chance_explains_moves_nothing() -> None:
    """A tenth more is alike, however sure; twice as much after four answers each may be luck."""
    for factor, times in ((1.1, 640), (1.8, 4)):
        target, members = made(1, 1)
        learn(members[0], 0.008 * factor, times, sigma=0.5)
        learn(members[1], 0.008, times, sigma=0.5)
        assert names(picks_of(target, 6)) in ("a b a b a b", "b a b a b a")


def test_weights_and_pace_multiply() -> None:
    target, members = made(3, 1)
    for one in members:
        learn(one, 0.008)
    assert Counter(one.id for one in picks_of(target, 400)) == {"a": 300, "b": 100}


def test_where_turns_are_rare_a_slow_one_is_measured_again_within_seconds() -> None:
    target, members = made(1, 1)
    learn(members[0], 0.25)
    learn(members[1], 0.008)
    ids = asked(target, 40, every_s=0.5)
    first = ids.index("a")
    assert first * 0.5 <= LONGEST_S + 1.0


def test_what_was_slow_and_is_quick_again_has_its_share_after_some_seconds() -> None:
    target, members = made(1, 1, 1, 1)
    learn(members[0], 0.25)
    for one in members[1:]:
        learn(one, 0.008)
    ids = asked(target, 15 * 250, takes_s=0.008)
    assert ids[-500:].count("a") == 125


def test_one_with_more_open_than_its_pace_allows_is_passed_over() -> None:
    target, members = made(1, 1)
    for one in members:
        learn(one, 0.008)
    hold(members[0], 8)
    assert set(names(picks_of(target, 5)).split()) == {"b"}
    assert "a, next in turn, has more open" in target.strategy.reason
    hold(members[1], 9)
    target.strategy.prepare(target.candidates(NOW))
    assert set(names(picks_of(target, 4)).split()) == {"a", "b"}, "when all have much open, they are alike again"


def test_one_that_stalls_gets_nothing_until_it_answers() -> None:
    target, members = made(1, 1)
    for one in members:
        learn(one, 0.008)
    held = [lease for lease in (target.lease(NOW) for _ in range(4)) if lease.backend is members[0]]
    assert len(held) == 2
    later = NOW + 0.05
    members[1].learned.shared_reals[29] = later
    assert set(asked(target, 6, later, every_s=0.0)) == {"b"}
    held[0].finish(later + 0.001, 200)
    assert set(asked(target, 4, later + 0.002, every_s=0.0)) == {"a", "b"}


def test_one_slow_request_is_no_stall() -> None:
    """A report takes its time; the others are answered meanwhile, or nothing else was asked."""
    target, members = made(1, 1)
    for one in members:
        learn(one, 0.008)
    first = target.lease(NOW)
    assert target.lease(NOW).backend is not first.backend
    assert first.backend.id in asked(target, 2, NOW + 0.04, every_s=0.0)


def test_a_new_process_gets_one_request_at_a_time_until_it_has_answered_four() -> None:
    """Its caches may be cold: a restart must not cost more than a few slow answers."""
    target, members = made(1, 1, 1)
    for one in members[1:]:
        learn(one, 0.008)
    leases = [target.lease(NOW) for _ in range(9)]
    cold = [lease for lease in leases if lease.backend is members[0]]
    assert len(cold) == 1
    for lease in leases:
        lease.finish(NOW + 0.08, 200)
    assert [target.lease(NOW + 0.08).backend for _ in range(6)].count(members[0]) == 1


def test_a_retry_goes_to_who_will_answer_first() -> None:
    target, members = made(1, 1, 1)
    learn(members[0], 0.008)
    learn(members[1], 0.08)
    learn(members[2], 0.008)
    for _ in range(5):
        assert target.lease(NOW, tried=(members[0],)).backend is members[2]


def test_of_many_a_few_are_compared() -> None:
    target, members = made(*[1] * 40)
    for one in members:
        hold(one, 50)
    assert len({one.id for one in picks_of(target, 200)}) > 20


def test_who_fails_often_looks_slow() -> None:
    """One that fails a third of its requests, and fast, trips no breaker at once; it must not look attractive."""
    target, members = made(1, 1, 1)
    for one in members:
        learn(one, 0.008)
    for _ in range(10):
        members[0].learned.pace.fail()
    assert Counter(one.id for one in picks_of(target, 300, NOW + 1.0))["a"] < 30


def test_where_all_fail_alike_nobody_is_favoured() -> None:
    target, members = made(1, 1, 1)
    for one in members:
        learn(one, 0.008)
        for _ in range(20):
            one.learned.pace.fail()
    assert Counter(one.id for one in picks_of(target, 300, NOW + 1.0)) == {"a": 100, "b": 100, "c": 100}


def test_after_a_quiet_night_all_are_alike_again() -> None:
    target, members = made(1, 1)
    learn(members[0], 0.08)
    learn(members[1], 0.008)
    assert names(picks_of(target, 4, NOW + 3600.0)) in ("a b a b", "b a b a")


def test_an_explanation_shows_pace_and_turns_and_why_it_was_not_its_turn() -> None:
    target, members = made(1, 1)
    learn(members[0], 0.08)
    learn(members[1], 0.008)
    trace = Trace("asked")
    for _ in range(2):
        target.lease(NOW, trace=trace)
    rows = {row[0]: dict(zip(CANDIDATE, row, strict=True)) for row in trace.tries[-1].candidates}
    assert rows["a"]["pace_s"] == pytest.approx(0.08, rel=0.1)
    assert (rows["a"]["turns_ratio"], rows["b"]["turns_ratio"]) == (pytest.approx(0.003), 1.0)
    assert trace.tries[-1].reason == "next in turn"
    hold(members[1], 20)
    target.lease(NOW, trace=trace)
    assert "b was picked: next in turn of 2 candidates" not in trace.summary().split("; then ")[-1]
    assert "b, next in turn, has more open than its pace allows" in trace.tries[-1].reason


def test_a_restart_that_no_probe_has_seen_makes_a_new_process_too() -> None:
    """Away for a second, between two probes: only refused connections tell. A quarter of all requests went to the cold one."""
    target, members = made(1, 1, 1)
    for one in members:
        learn(one, 0.008)
    for lease in [target.lease(NOW) for _ in range(3)]:
        if lease.backend is members[0]:
            lease.close(NOW, "failed", sent=False)
        else:
            lease.finish(NOW + 0.008, 200)
    assert not members[0].learned.pace.known
    later = [target.lease(NOW + 0.1) for _ in range(5)]
    assert [lease.backend for lease in later].count(members[0]) == 1


def test_a_turn_that_went_elsewhere_makes_old_evidence_count_for_less() -> None:
    """Of two backends one turned slow: most of its turns went elsewhere, and the few that did not moved its pace too slowly."""
    target, members = made(1, 1)
    for one in members:
        learn(one, 0.008)
    hold(members[0], 8)
    picks_of(target, 6)
    assert members[0].learned.pace.passed > 0
    assert members[1].learned.pace.passed == 0


def test_of_many_those_that_stay_are_not_compared_anew_because_a_few_have_come() -> None:
    """With a thousand each comparison held requests up for milliseconds, and fifty others came each second."""
    members = backends(*[1] * 200)
    target = pool(members[:-2], Adaptive())
    target.lease(NOW).finish(NOW + 0.001, 200)
    looked_until = target.strategy._look_at  # type: ignore[attr-defined]

    target.replace_backends(members[2:], target.strategy)
    ids = asked(target, 198)

    assert looked_until > NOW
    assert target.strategy._look_at >= looked_until  # type: ignore[attr-defined]
    assert {members[-1].id, members[-2].id} <= set(ids), "those that have come take their turns"
