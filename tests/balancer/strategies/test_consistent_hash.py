"""The same key, the same backend: shares, what a change moves, and the bound on loads."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from hashlib import blake2b
from math import ceil, inf
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smartedge.balancer.backend import Backend
from smartedge.balancer.strategies.menu import ConsistentHash
from tests.balancer.strategies.picking import hold
from tests.examples import examples
from tests.house import backends

KEYS = [b"key %d" % number for number in range(500)]


def prepared(members: tuple[Backend, ...], bounded_load_ratio: float = 1.25) -> ConsistentHash:
    strategy = ConsistentHash(bounded_load_ratio)
    strategy.prepare(members)
    return strategy


def owners(strategy: ConsistentHash, candidates: tuple[Backend, ...] | list[Backend]) -> dict[bytes, str]:
    return {key: strategy.pick(candidates, 1000.0, Random(1), key).id for key in KEYS}


def test_a_key_stays_where_it_is() -> None:
    members = backends(1, 1, 1, 1)
    strategy = prepared(members)
    assert owners(strategy, members) == owners(strategy, members)


def test_every_worker_and_every_start_agrees() -> None:
    """Python's own hash() of bytes is another in every process, so that it would not be what it is here."""
    code = (
        "from random import Random\n"
        "import json\n"
        "from smartedge.balancer.backend import Backend\n"
        "from smartedge.balancer.learned import Learned\n"
        "from smartedge.balancer.strategies.menu import ConsistentHash\n"
        "from smartedge.config.model import parse\n"
        "written = [{'url': f'http://{id}', 'id': id, 'weight': weight} for id, weight in (('a', 1), ('b', 2), ('c', 3))]\n"
        "members = tuple(Backend(spec, Learned(spec), None) for spec in parse(json.dumps({'backends': written})).specs())\n"
        "strategy = ConsistentHash()\n"
        "strategy.prepare(members)\n"
        "print(*[strategy.pick(members, 1.0, Random(), b'%d' % n).id for n in range(40)])\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert run == "c a b c b c c c b a c c b c a b c b b a c b c c c c b b b b a b b c c a b a b b\n"


def test_the_order_in_the_file_does_not_matter() -> None:
    members = backends(1, 2, 3, 4)
    assert owners(prepared(members), members) == owners(prepared(members[::-1]), members[::-1])


@settings(max_examples=examples(30))
@given(st.lists(st.sampled_from([1, 1, 1, 2, 5]), min_size=2, max_size=12), st.data())
def test_one_that_leaves_moves_only_its_own_keys(weights: list[int], data: st.DataObject) -> None:
    members = backends(*weights)
    before = owners(prepared(members), members)
    gone = data.draw(st.sampled_from(members))
    rest = tuple(one for one in members if one is not gone)
    after = owners(prepared(rest), rest)
    assert all(after[key] == owner for key, owner in before.items() if owner != gone.id)


@settings(max_examples=examples(30))
@given(st.lists(st.sampled_from([1, 1, 1, 2, 5]), min_size=2, max_size=12), st.data())
def test_one_whose_weight_grows_takes_keys_and_gives_none(weights: list[int], data: st.DataObject) -> None:
    members = backends(*weights)
    before = owners(prepared(members), members)
    grown = data.draw(st.sampled_from(members))
    grown.weight += 1
    after = owners(prepared(members), members)
    assert {after[key] for key in KEYS if after[key] != before[key]} <= {grown.id}


@settings(max_examples=examples(20))
@given(st.lists(st.integers(1, 10), min_size=1, max_size=8))
def test_weights_give_shares_in_proportion(weights: list[int]) -> None:
    members = backends(*weights)
    strategy = prepared(members)
    count = 4000
    counts = Counter(strategy.pick(members, 1000.0, Random(1), b"%d" % number).id for number in range(count))
    for one in members:
        share = one.weight / sum(weights)
        noise = 4.5 * (share * (1 - share) * (1 / count + 1 / 65536)) ** 0.5
        assert counts[one.id] / count == pytest.approx(share, abs=noise)


@pytest.mark.parametrize("weights", [[1] * 3, [3, 2, 1] * 2])
def test_the_slots_themselves_are_shared_out_fairly(weights: list[int]) -> None:
    """Chi-squared over all 65,536 slots; the products must be as good as chance."""
    members = backends(*weights)
    strategy = prepared(members)
    counts = Counter(strategy._owner(slot, members) for slot in range(1 << 16))
    expected = {one: one.weight / sum(weights) * (1 << 16) for one in members}
    chi_squared = sum((counts[one] - expected[one]) ** 2 / expected[one] for one in members)
    freedom = len(members) - 1
    assert chi_squared < freedom + 4 * (2 * freedom) ** 0.5


@settings(max_examples=examples(40))
@given(
    st.lists(st.integers(1, 5), min_size=1, max_size=8),
    st.sampled_from([1.05, 1.25, 2.0]),
    st.lists(st.integers(0, 3), min_size=1, max_size=120),
)
def test_none_gets_more_than_its_bounded_share_however_hot_its_keys_are(
    weights: list[int], ratio: float, keys: list[int]
) -> None:
    members = backends(*weights)
    strategy = prepared(members, ratio)
    for number, key in enumerate(keys, start=1):
        picked = strategy.pick(members, 1000.0, Random(number), b"hot %d" % key)
        hold(picked, picked.in_flight() + 1)
        assert picked.in_flight() <= ceil(ratio * number * picked.weight / sum(weights) + 1e-9)  # 7.0000000001 leases are 7


def test_without_a_bound_a_hot_key_stays_with_its_owner() -> None:
    members = backends(1, 1, 1)
    strategy = prepared(members, inf)
    for _ in range(100):
        picked = strategy.pick(members, 1000.0, Random(1), b"hot")
        hold(picked, picked.in_flight() + 1)
    assert sorted(one.in_flight() for one in members) == [0, 0, 100]
    assert strategy.reason == "owner of the key"


def test_beyond_the_bound_a_key_goes_on_to_the_same_second_owner_each_time() -> None:
    members = backends(1, 1, 1, 1)
    strategy = prepared(members)
    first = strategy.pick(members, 1000.0, Random(1), b"hot")
    hold(first, 10)
    seconds = {strategy.pick(members, 1000.0, Random(chance), b"hot") for chance in range(20)}
    assert len(seconds) == 1
    assert first not in seconds
    assert strategy.reason.startswith("next owner")


@pytest.mark.parametrize("weights", [(1, 1, 1, 1), (1, 2, 3, 4)])
def test_a_key_whose_owner_was_tried_goes_where_it_goes_if_that_one_leaves(weights: tuple[int, ...]) -> None:
    """A retry warms the cache that the key will find when its backend is ejected."""
    members = backends(*weights)
    strategy = prepared(members)
    for key in KEYS[:100]:
        first = strategy.pick(members, 1000.0, Random(1), key)
        left = [one for one in members if one is not first]
        second = strategy.pick(left, 1000.0, Random(1), key)
        assert strategy.reason.startswith("next owner")
        assert prepared(tuple(left)).pick(tuple(left), 1000.0, Random(1), key) is second


def test_a_request_without_a_key_goes_to_the_least_busy() -> None:
    members = a, b = backends(1, 1)
    hold(a, 1)
    strategy = prepared(members)
    assert {strategy.pick(members, 1000.0, Random(chance), b"") for chance in range(20)} == {b}
    assert "no key" in strategy.reason


def test_when_all_owners_of_a_key_have_more_than_their_share_the_least_busy_takes_it() -> None:
    members = backends(*[1] * 200)
    strategy = prepared(members)
    for one in members:
        hold(one, 3)
    owners_of_key = set()
    for _ in range(ConsistentHash.STEPS):
        picked = strategy.pick(members, 1000.0, Random(1), b"hot")
        hold(picked, 10)
        owners_of_key.add(picked)
    hold(members[7], 1)
    assert members[7] not in owners_of_key
    assert strategy.pick(members, 1000.0, Random(1), b"hot").in_flight() <= 3
    assert strategy.reason.startswith("fewest open leases")


def test_above_16_candidates_the_total_is_added_up_every_10_ms() -> None:
    members = backends(*[1] * 17)
    strategy = prepared(members)
    first = strategy.pick(members, 1000.0, Random(1), b"hot")
    hold(first, 1)
    assert strategy.pick(members, 1000.0, Random(1), b"hot") is not first  # one of one lease is more than its share
    for one in members:
        hold(one, 10)
    hold(first, 11)
    assert strategy.pick(members, 1000.001, Random(1), b"hot") is not first
    assert strategy.pick(members, 1000.011, Random(1), b"hot") is first  # 11 of 171 are within 1.25 of the mean


def test_above_16_candidates_what_was_picked_since_counts_at_once() -> None:
    """Else a burst would find every owner at its bound, as that was before the burst."""
    members = backends(*[1] * 17)
    strategy = prepared(members)
    for number in range(170):
        picked = strategy.pick(members, 1000.0, Random(1), b"%d" % number)
        hold(picked, picked.in_flight() + 1)
    assert sorted(one.in_flight() for one in members)[-1] in (12, 13)  # 1.25 times the mean of ten
    least = min(members, key=lambda one: one.in_flight())
    for _ in range(3):
        hold(least, least.in_flight() - 1)
    key = next(b"%d" % n for n in range(1000) if strategy._owner(_slot(b"%d" % n), members) is least)
    assert strategy.pick(members, 1000.0, Random(1), key) is least


def _slot(key: bytes) -> int:
    return int.from_bytes(blake2b(key, digest_size=32).digest(), "little") & 0xFFFF


def test_a_changed_bound_counts_from_the_next_pick() -> None:
    members = backends(1, 1, 1)
    strategy = prepared(members)
    first = strategy.pick(members, 1000.0, Random(1), b"hot")
    hold(first, 5)
    assert strategy.pick(members, 1000.0, Random(1), b"hot") is not first
    strategy.bounded_load_ratio = inf
    assert strategy.pick(members, 1000.0, Random(1), b"hot") is first
