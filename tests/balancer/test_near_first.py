"""Near first over any strategy: which tier a request goes to, whatever happens to the backends."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Sequence
from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from smartedge.balancer.backend import Backend
from smartedge.balancer.blend import TRIAL_RATIO
from smartedge.balancer.cells import TIER_0, TIER_1
from smartedge.balancer.errors import AllFull, NoBackend
from smartedge.balancer.learned import Learned
from smartedge.balancer.locality import SpillPolicy, TierCount, shares_of
from smartedge.balancer.near_first import Locality, NearFirst
from smartedge.balancer.places import NOWHERE, Place
from smartedge.balancer.pool import Pool
from smartedge.balancer.strategies.menu import STRATEGIES, ConsistentHash, RoundRobin, Strategy
from smartedge.balancer.tier_views import ENOUGH_SEEN
from smartedge.balancer.trace import Trace
from tests.examples import examples
from tests.house import backend, set_state
from tests.policies import backend_spec

ZONES = {
    "here": Place("here", "south", (-23.5, -46.6)),
    "beside": Place("beside", "south", (-23.4, -46.5)),
    "far": Place("far", "north", (50.1, 8.7)),
}
LISBON = Place(location=(38.7, -9.1))


def at(zone: str | None, *numbers: int, **spec: object) -> list[Backend]:
    """Healthy backends here1, here2, ..."""
    return [backend(f"{zone}{number}", zone=zone, **spec) for number in numbers]


def near(
    members: Sequence[Backend],
    make: Callable[[], Strategy] = RoundRobin,
    origin: Place = ZONES["here"],
    panic: str = "all",
    **keys: object,
) -> Pool:
    locality = Locality(origin, ZONES, **keys)  # type: ignore[arg-type]
    return Pool(members, make(), Random(7), panic, near=NearFirst(locality, make))  # type: ignore[arg-type]


def picked(pool: Pool, count: int = 200, now: float = 1.0, **keys: object) -> Counter[str | None]:
    """How often each zone is picked, leases closed at once."""
    found: Counter[str | None] = Counter()
    for _ in range(count):
        lease = pool.lease(now, **keys)  # type: ignore[arg-type]
        found[lease.backend.spec.zone] += 1
        lease.close(now, "ok")
    return found


def lose(pool: Pool, *members: Backend) -> None:
    for member in members:
        for _ in range(5):
            member.learned.health.probed(False)
    pool.renew_candidates()


def regain(pool: Pool, *members: Backend) -> None:
    for member in members:
        for _ in range(5):
            member.learned.health.probed(True)
    pool.renew_candidates()


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_stays_in_the_nearest_tier_and_shares_there(name: str) -> None:
    pool = near([*at("far", 1, 2), *at("here", 1, 2), *at("beside", 1)], STRATEGIES[name])
    found: Counter[str] = Counter()
    for number in range(300):
        lease = pool.lease(1.0 + number / 100, key=b"%d" % number)
        found[lease.backend.id] += 1
        lease.close(1.0 + number / 100, "ok")
    assert found.keys() == {"here1", "here2"}
    assert min(found.values()) > 100


@pytest.mark.parametrize("name", STRATEGIES)
def test_half_a_tier_spills_by_the_rule_to_the_next_one_and_comes_back(name: str) -> None:
    here = at("here", 1, 2)
    pool = near([*here, *at("beside", 1), *at("far", 1)], STRATEGIES[name])
    lose(pool, here[0])
    found = picked(pool, 2000)
    assert found["here"] / 2000 == pytest.approx(0.7, abs=0.04)
    assert found["beside"] == 2000 - found["here"]
    lose(pool, here[1])
    assert picked(pool).keys() == {"beside"}
    regain(pool, *here)
    assert picked(pool).keys() == {"here"}


states = st.sampled_from(["up", "down", "full", "open", "draining", "unprobed"])


MIXES = st.lists(st.tuples(st.sampled_from(["here", "beside", "far", None]), states), min_size=1, max_size=9)
SPILLS = st.builds(SpillPolicy, st.floats(1.0, 3.0), st.booleans(), st.integers(1, 3))
ORIGINS = st.sampled_from([None, LISBON, NOWHERE])


def mixed(made: list[tuple[str | None, str]], name: str, spill: SpillPolicy, panic: str = "all") -> Pool:
    """A pool of backends in these zones and states."""
    members = []
    for number, (zone, state) in enumerate(made):
        member = backend(f"b{number}", zone=zone, max_in_flight=1, probed=None if state == "unprobed" else state != "down")
        if state == "open":
            member.learned.breaker.eject(0.0, Random(1), "")
        if state == "draining":
            set_state(member, "draining")
        members.append(member)
    pool = near(members, STRATEGIES[name], spill=spill, by_client=True, panic=panic)
    for member, (_, state) in zip(members, made, strict=True):
        if state == "full":
            member.learned.cells[0] += 1
    return pool


@settings(max_examples=examples(150))
@given(MIXES, st.sampled_from(list(STRATEGIES)), SPILLS, ORIGINS, st.booleans())
def test_no_request_fails_while_any_backend_in_any_tier_can_serve(
    made: list[tuple[str | None, str]], name: str, spill: SpillPolicy, origin: Place | None, hedge: bool
) -> None:
    pool = mixed(made, name, spill)
    members = dict(zip(pool.backends, (state for _, state in made), strict=True))
    left = {member for member, state in members.items() if state == "up"}
    tried: list[Backend] = []
    while left:  # as a request does that every backend fails
        lease = pool.lease(1.0, tried, b"key", None, None, not (hedge and tried), origin)
        assert lease.backend not in tried
        assert members[lease.backend] in ("up", "open")
        left.discard(lease.backend)
        tried.append(lease.backend)


@settings(max_examples=examples(150))
@given(MIXES, st.sampled_from(list(STRATEGIES)), SPILLS, ORIGINS, st.sampled_from(["all", "fail"]))
@example(
    [("here", "down"), ("here", "full"), ("here", "full"), ("beside", "open")],
    "adaptive",
    SpillPolicy(1.0, False, 1),
    None,
    "all",
)
def test_who_would_do_without_places_does_with_them(
    made: list[tuple[str | None, str]], name: str, spill: SpillPolicy, origin: Place | None, panic: str
) -> None:
    """With nobody available and tiers of which only some had ejected backends to help out, an empty tier was drawn.

    But for this: where a tier of full ones can carry everything the ejected ones need not help, and the request waits; and where
    all tiers together cannot, those of a tier help that would not have to among all (2 of 4 are enough, 0 of 1 is not).
    """
    anywhere = Pool(mixed(made, name, spill).backends, STRATEGIES[name](), Random(7), panic)  # type: ignore[arg-type]
    try:
        anywhere.lease(1.0)
    except NoBackend:
        pool = mixed(made, name, spill, panic)
        with contextlib.suppress(NoBackend):
            lent = pool.lease(1.0, origin=origin).backend
            assert (panic, made[pool.backends.index(lent)][1]) == ("all", "open")
        return
    for seed in range(5):
        pool = mixed(made, name, spill, panic)
        try:
            assert pool.lease(1.0, key=b"%d" % seed, origin=origin).backend in pool.backends
        except AllFull:
            assert "up" not in [state for _, state in made]


@given(st.lists(st.lists(st.booleans(), min_size=1, max_size=6), min_size=1, max_size=3), st.floats(1.0, 3.0))
def test_the_shares_are_those_of_the_rule_for_every_mix(made: list[list[bool]], ratio: float) -> None:
    zones = list(ZONES)[: len(made)]
    members = [
        backend(f"{zone}{number}", zone=zone, probed=up)
        for zone, ups in zip(zones, made, strict=True)
        for number, up in enumerate(ups)
    ]
    pool = near(members, spill=SpillPolicy(ratio))
    if not pool.candidates(1.0):
        with pytest.raises(NoBackend):
            pool.lease(1.0)
        return
    counts = [TierCount(len(ups), sum(ups), len(ups), sum(ups)) for ups in made]
    assert pool.near is not None
    assert pool.near.refreshed_view().shares == pytest.approx(shares_of(counts, SpillPolicy(ratio)))


def test_a_full_near_tier_spills_before_anybody_waits() -> None:
    pool = near([*at("here", 1, 2, max_in_flight=1), *at("far", 1, max_in_flight=1)])
    zones = [pool.lease(1.0).backend.spec.zone for _ in range(3)]
    assert zones == ["here", "here", "far"]
    with pytest.raises(AllFull):
        pool.lease(1.0)


def test_with_an_adaptive_cap_it_does_so_too() -> None:
    pool = near([*at("here", 1, max_in_flight="adaptive"), *at("far", 1)])
    cap = pool.backends[0].cap()
    assert cap is not None
    zones = [pool.lease(1.0).backend.spec.zone for _ in range(cap + 2)]
    assert zones == ["here"] * cap + ["far"] * 2


def test_the_first_retry_stays_near_and_the_second_leaves() -> None:
    pool = near([*at("here", 1, 2, 3), *at("beside", 1), *at("far", 1)])
    tried: list[Backend] = []
    for _ in range(4):
        tried.append(pool.lease(1.0, tried).backend)
    assert [one.spec.zone for one in tried] == ["here", "here", "beside", "far"]


def test_what_was_tried_is_known_over_a_reload() -> None:
    pool = near([*at("here", 1, 2, 3), *at("far", 1)])
    tried = [pool.lease(1.0).backend, pool.lease(1.0).backend]
    pool.replace_backends([*at("here", 1, 2, 3), *at("far", 1)], RoundRobin(), near=pool.near)
    assert pool.lease(1.0, tried).backend.spec.zone == "far"


def test_a_hedge_goes_to_another_zone_if_there_is_one() -> None:
    here, beside = at("here", 1, 2), at("beside", 1)
    pool = near([*here, *beside, *at("far", 1)])
    first = pool.lease(1.0).backend
    assert pool.lease(1.0, [first], must=False).backend.spec.zone == "beside"
    lose(pool, *beside)
    assert pool.lease(1.0, [first], must=False).backend.spec.zone == "far"
    alone = near(at("here", 1, 2))
    first = alone.lease(1.0).backend
    assert alone.lease(1.0, [first], must=False).backend.spec.zone == "here"


def test_a_session_stays_where_it_is_while_that_is_available() -> None:
    here = at("here", 1, 2)
    pool = near([*here, *at("far", 1)])
    assert {pool.lease(1.0, prefer="far1").backend.id for _ in range(20)} == {"far1"}
    far = pool.backends[-1]
    assert [far.learned.cells[TIER_0], far.learned.cells[TIER_1]] == [0, 20]
    lose(pool, far)
    assert pool.lease(1.0, prefer="far1").backend.spec.zone == "here"


def test_a_key_finds_the_same_backend_in_the_near_tier_and_the_same_in_the_far_one() -> None:
    here = at("here", *range(5))
    pool = near([*here, *at("far", *range(5))], lambda: ConsistentHash(1000.0))
    keys = [b"client-%d" % number for number in range(300)]

    def owners() -> dict[bytes, str]:
        found = {}
        for key in keys:
            lease = pool.lease(1.0, key=key)
            found[key] = lease.backend.id
            lease.close(1.0, "ok")
        return found

    assert {owner[:4] for owner in owners().values()} == {"here"}
    assert owners() == owners()
    lose(pool, *here)
    away = owners()
    assert {owner[:3] for owner in away.values()} == {"far"}
    regain(pool, here[0], here[1])
    half = owners()
    assert half == owners()
    spilled = {key: owner for key, owner in half.items() if owner.startswith("far")}
    assert len(spilled) / len(keys) == pytest.approx(1 - 1.4 * 2 / 5, abs=0.08)
    assert all(away[key] == owner for key, owner in spilled.items())


def test_priorities_go_before_nearness() -> None:
    main, backup = at("far", 1), at("here", 1, priority=1)
    pool = near([*main, *backup])
    assert picked(pool, 20).keys() == {"far"}
    lose(pool, *main)
    assert picked(pool, 20).keys() == {"here"}


def test_what_the_operator_drains_is_missing_like_what_is_down() -> None:
    here = at("here", 1, 2)
    pool = near([*here, *at("far", 1)])
    pool.set_state("here1", "draining")
    assert picked(pool, 2000)["far"] / 2000 == pytest.approx(0.3, abs=0.04)
    pool.set_state("here1", "enabled")
    assert picked(pool).keys() == {"here"}


def test_a_tier_that_comes_back_slowly_takes_over_slowly() -> None:
    here = at("here", 1, slow_start_s=10.0)
    pool = near([*here, *at("far", 1)])
    here[0].learned.returned(100.0)
    pool.renew_candidates()
    assert pool.near is not None
    shares = []
    for now in (100.0, 103.0, 106.0, 120.0):
        picked(pool, 1, now)
        shares.append(pool.near.refreshed_view().shares[0])
    assert shares == pytest.approx([0.14, 0.42, 0.84, 1.0])


def test_of_ejected_ones_nobody_has_to_help_while_other_tiers_carry_everything() -> None:
    here, far = at("here", 1, 2, 3), at("far", 1)
    pool = near([*here, *far])
    for one in here:
        one.learned.breaker.eject(1.0, Random(1), "")
    pool.renew_candidates()
    assert picked(pool, 50, 1.1).keys() == {"far"}
    far[0].learned.breaker.eject(1.0, Random(1), "")
    pool.renew_candidates()
    assert len(pool.candidates(1.1)) == 4  # panic: nobody is available anywhere
    assert pool.near is not None
    assert pool.near.refreshed_view().shares == [0.75, 0.25]  # by their numbers


def test_before_anybody_was_probed_the_near_ones_are_asked() -> None:
    pool = near([backend("a", zone="far", probed=None), backend("b", zone="here", probed=None)])
    assert picked(pool, 20).keys() == {"here"}


def test_requests_of_different_places_see_different_tiers() -> None:
    pool = near([*at("here", 1), *at("far", 1)], by_client=True)
    assert picked(pool, 20).keys() == {"here"}
    assert picked(pool, 20, origin=LISBON).keys() == {"far"}
    assert picked(pool, 20, origin=Place(location=(-20.0, -45.0))).keys() == {"here"}
    assert picked(pool, 20, origin=ZONES["far"]).keys() == {"far"}
    assert picked(pool, 400, origin=NOWHERE).keys() == {"here", "far"}


def test_however_many_places_there_are_what_is_kept_stays_small() -> None:
    made: list[Strategy] = []

    def make() -> Strategy:
        made.append(RoundRobin())
        return made[-1]

    pool = near([*at("here", 1), *at("beside", 1), *at("far", 1)], make, by_client=True)
    rng = Random(3)
    for _ in range(6000):
        pool.lease(1.0, origin=Place(location=(rng.uniform(-90, 90), rng.uniform(-180, 180))))
    assert len(made) < 12


def test_strategies_of_tiers_go_on_over_a_reload() -> None:
    members = [*at("here", 1, 2, 3), *at("far", 1)]
    pool = near(members)
    first = [pool.lease(1.0).backend.id for _ in range(2)]
    pool.replace_backends(members, RoundRobin(), near=NearFirst(Locality(ZONES["here"], ZONES), RoundRobin))
    assert [*first, *(pool.lease(1.0).backend.id for _ in range(2))] == ["here1", "here2", "here3", "here1"]


def test_another_zone_of_the_edge_and_no_locality_any_more_are_in_force_at_once() -> None:
    members = [*at("here", 1), *at("far", 1)]
    pool = near(members)
    pool.replace_backends(members, RoundRobin(), near=NearFirst(Locality(ZONES["far"], ZONES), RoundRobin))
    assert picked(pool, 20).keys() == {"far"}
    pool.replace_backends(members, RoundRobin())
    assert picked(pool, 20) == {"here": 10, "far": 10}


def test_a_failure_is_told_to_the_strategy_of_its_tier() -> None:
    told: list[tuple[int, str]] = []
    made = iter(range(100))

    class Listening(RoundRobin):
        def __init__(self) -> None:
            super().__init__()
            self.number = next(made)

        def failed(self, one: Backend) -> None:
            told.append((self.number, one.id))

    pool = near([*at("here", 1), *at("far", 1)], Listening)
    for _ in range(2):
        pool.lease(1.0).close(1.0, "failed", sent=False)
    pool.lease(1.0, prefer="far1").close(1.0, "failed", sent=False)
    here, far = (run.strategy.number for run in pool.near.refreshed_view().runs)  # type: ignore[union-attr, attr-defined]
    assert [(number, name) for number, name in told if number in (here, far)] == [(here, "here1"), (here, "here1"), (far, "far1")]


def answer(pool: Pool, zone: str, latency_s: float, count: int = ENOUGH_SEEN) -> None:
    for member in pool.backends:
        if member.spec.zone == zone:
            for _ in range(count):
                member.learned.pace.add(latency_s)


def test_a_near_place_that_is_slow_loses_its_place_and_gets_it_back() -> None:
    pool = near([*at("here", 1), *at("far", 1)], blend_rtt=True)
    trial = picked(pool, 2000)
    assert trial["far"] / 2000 == pytest.approx(TRIAL_RATIO, abs=0.01)
    now = 10.0
    for look in range(4):
        answer(pool, "here", 0.2)
        answer(pool, "far", 0.08)
        pool.learn_kinds(now + look, 0.95)
    assert picked(pool, 200, 20.0).most_common(1)[0][0] == "far"
    for look in range(40):
        answer(pool, "here", 0.02)
        pool.learn_kinds(30.0 + look, 0.95)
    assert picked(pool, 200, 80.0).most_common(1)[0][0] == "here"


def test_what_was_measured_says_nothing_unless_asked_for() -> None:
    pool = near([*at("here", 1), *at("far", 1)])
    for look in range(5):
        answer(pool, "here", 0.9)
        answer(pool, "far", 0.08)
        pool.learn_kinds(10.0 + look, 0.95)
    assert picked(pool, 50, 20.0).keys() == {"here"}


def test_a_decision_says_the_tier_its_share_and_who_was_not_asked() -> None:
    here = at("here", 1, 2, 3)
    pool = near([*here, *at("beside", 1), *at("far", 7)])
    lose(pool, here[0], here[1])
    pool.lease(1.0, trace=(trace := Trace("asked")), key=b"2")
    record = trace.tries[0]
    assert record.backend == "here3"
    assert record.where == "same zone, tier 0 of 3 carries 47%"
    assert record.count == 1
    assert trace.summary() == (
        "here3 was picked: next in turn, the only candidate (same zone, tier 0 of 3 carries 47%; beside1 in beside not asked;"
        " far7 in far not asked); here1 left out: unhealthy; here2 left out: unhealthy"
    )
    far = trace_of(pool, prefer="far7")
    assert far.startswith("far7 was picked: its session is with it, one of 3 candidates (")
    assert "km away, tier 2 of 3 carries 0%)" in far


def trace_of(pool: Pool, **keys: object) -> str:
    trace = Trace("asked")
    pool.lease(1.0, trace=trace, **keys)  # type: ignore[arg-type]
    return trace.summary()


def test_a_backend_says_itself_or_by_its_zone_where_it_stands() -> None:
    locality = Locality(NOWHERE, ZONES)
    assert locality.place_of(backend_spec(id="a", url="http://a", zone="far")) == ZONES["far"]
    assert locality.place_of(backend_spec(id="a", url="http://a", zone="new", region="x")) == Place("new", "x", None)
    own = backend_spec(id="a", url="http://a", zone="far", region="x", location=(1.0, 2.0))
    assert locality.place_of(own) == Place("far", "x", (1.0, 2.0))
    assert Locality().place_of(backend_spec(id="a", url="http://a")) == NOWHERE


def test_without_a_backend_it_says_so_as_without_places() -> None:
    with pytest.raises(NoBackend):
        near([]).lease(1.0)


def test_the_row_of_a_backend_counts_its_tiers() -> None:
    pool = near([*at("here", 1), *at("far", 1)], by_client=True)
    picked(pool, 3)
    picked(pool, 2, origin=LISBON)
    picked(pool, 4, origin=ZONES["far"])
    here, far = (one.learned for one in pool.backends)
    assert isinstance(here, Learned)
    assert [here.cells[TIER_0], here.cells[TIER_1], far.cells[TIER_0], far.cells[TIER_1]] == [3, 0, 6, 0]
