from __future__ import annotations

import threading
from collections import Counter
from math import inf
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smartedge.balancer.backend import Backend
from smartedge.balancer.breaker import BreakerPolicy
from smartedge.balancer.candidates import Panic, candidates_of
from smartedge.balancer.cells import ABANDONED, IN_FLIGHT, LATENCY_CELLS, LATENCY_SUM, OK, OWN_CELLS, private_row
from smartedge.balancer.errors import AllFull, NoBackend
from smartedge.balancer.health import HealthPolicy
from smartedge.balancer.pool import Lease, Outcome, Pool
from smartedge.balancer.spec import BackendSpec
from smartedge.balancer.strategies.menu import STRATEGIES, PeakEwmaStrategy, RoundRobin
from tests.fakes import FakeClock
from tests.house import backend, backends, move, names, pool, set_state

NOW = 1000.0


def cells(one: Backend) -> dict[str, float]:
    """The counters that are not zero, by name."""
    totals = one.learned.totals()
    return {name: totals[cell] for name, cell in OWN_CELLS.items() if totals[cell]}


def fail(target: Pool, one: Backend, times: int, now: float = NOW) -> list[str | None]:
    """Have leases of this backend fail, whoever else is picked meanwhile."""
    changes: list[str | None] = []
    while len(changes) < times:
        lease = target.lease(now)
        if lease.backend is one:
            changes.append(lease.close(now, "failed"))
        else:
            lease.close(now, "ok")
    return changes


def served(target: Pool, count: int = 30, now: float = NOW) -> str:
    """The names of the backends that are picked, sorted."""
    found = set()
    for _ in range(count):
        lease = target.lease(now)
        lease.close(now, "abandoned")
        found.add(lease.backend.id)
    return " ".join(sorted(found))


# a lease, from the pick to the last byte


def test_a_lease_counts_in_flight_until_it_is_closed() -> None:
    (one,) = members = backends(1)
    lease = pool(members).lease(NOW)
    assert lease.backend is one
    assert lease.opened_at == NOW
    assert cells(one) == {"IN_FLIGHT": 1, "LEASES": 1}
    lease.close(NOW, "ok")
    assert cells(one) == {"LEASES": 1, "OK": 1}


@pytest.mark.parametrize(("outcome", "counted"), [("ok", "OK"), ("failed", "FAILED"), ("abandoned", "ABANDONED")])
def test_each_outcome_is_counted_once_however_often_it_is_closed(outcome: Outcome, counted: str) -> None:
    (one,) = members = backends(1)
    lease = pool(members).lease(NOW)
    assert [lease.close(NOW, outcome), lease.close(NOW, "failed"), lease.close(NOW, "ok")] == [None] * 3
    assert cells(one) == {"LEASES": 1, counted: 1}
    assert not one.learned.waiting


def test_the_first_byte_records_the_latency_once() -> None:
    (one,) = members = backends(1)
    lease = pool(members).lease(NOW)
    assert list(one.learned.waiting.values()) == [NOW]
    assert lease.latency_s is None
    assert lease.answered(NOW + 0.25) == 0.25
    assert lease.answered(NOW + 9.0) == 0.25
    assert lease.latency_s == 0.25
    assert not one.learned.waiting
    totals = one.learned.totals()
    assert totals[LATENCY_SUM] == 0.25
    assert sum(totals[LATENCY_CELLS]) == 1
    assert one.learned.ewma.read(NOW + 0.25) == 0.25


def test_latency_starts_when_a_slow_client_has_sent_its_body() -> None:
    (one,) = members = backends(1)
    target = pool(members)
    slow, other = target.lease(NOW), target.lease(NOW + 1.0)
    slow.sent(NOW + 5.0)
    assert list(one.learned.waiting) == [other, slow]
    assert slow.answered(NOW + 5.5) == 0.5


def test_an_answer_that_comes_before_the_body_is_sent_stays_answered() -> None:
    (one,) = members = backends(1)
    lease = pool(members).lease(NOW)
    lease.answered(NOW + 1.0)
    lease.sent(NOW + 2.0)
    assert not one.learned.waiting
    assert lease.answered(NOW + 3.0) == 1.0


def test_a_clock_that_was_read_earlier_gives_no_negative_latency() -> None:
    assert pool(backends(1)).lease(NOW).answered(NOW - 1.0) == 0.0


@pytest.mark.parametrize("code", [200, 429])
def test_finishing_a_lease_is_answering_and_closing_it(code: int) -> None:
    (one,), (other,) = backends(1), backends(1)
    in_two, in_one = pool([one]).lease(NOW), pool([other]).lease(NOW)
    in_two.answered(NOW + 0.25)
    in_two.close(NOW + 0.25, "ok", None, code)
    assert in_one.finish(NOW + 0.25, code) is None
    assert in_one.finish(NOW + 9.0, code) is None
    assert in_one.latency_s == 0.25
    assert cells(other) == cells(one)
    assert (other.learned.cells.tolist(), other.learned.waiting) == (one.learned.cells.tolist(), {})


def test_a_failure_raises_the_ewma_for_all_to_see() -> None:
    (one,) = members = backends(1)
    lease = pool(members).lease(NOW)
    lease.answered(NOW + 0.001)
    lease.close(NOW + 0.001, "failed", retry_after_s=60.0, code=503)
    assert one.learned.ewma.read(NOW + 0.001) == 60.0
    assert one.learned.ewma.mean_s == 60.0


def test_a_failure_takes_weight_off_in_round_robin() -> None:
    a, _ = members = backends(100, 100)
    target = pool(members)
    fail(target, a, 3)
    counts = Counter(target.lease(NOW).backend.id for _ in range(10))
    assert counts["a"] < 5


def test_a_client_that_leaves_is_no_evidence() -> None:
    a, _ = members = backends(1, 1)
    target = pool(members)
    for _ in range(100):
        target.lease(NOW).close(NOW, "abandoned")
    assert a.learned.breaker.state == "closed"
    assert a.learned.ewma.mean_s == 0.0


def test_a_lease_survives_the_move_to_the_board() -> None:
    (one,) = members = backends(1)
    lease = pool(members).lease(NOW)
    move(one.learned, private_row())
    lease.close(NOW, "ok")
    assert cells(one) == {"LEASES": 1, "OK": 1}


# the breaker, by leases


def test_five_failed_leases_in_a_row_eject_and_the_change_is_told_once() -> None:
    a, _ = members = backends(1, 1)
    target = pool(members)
    assert fail(target, a, 5) == [None] * 4 + ["opened"]
    assert served(target) == "b"


def test_too_many_429_eject_but_do_not_count_as_failed() -> None:
    a, _ = members = backends(1, 1)
    target = pool(members)
    changes = []
    while "opened" not in changes:
        lease = target.lease(NOW)
        changes.append(lease.finish(NOW, 429 if lease.backend is a else 200))
    assert changes.count(None) == 38
    assert cells(a)["OK"] == 20
    assert "FAILED" not in cells(a)
    assert a.learned.ewma.mean_s == 0.0


def test_a_429_that_all_give_or_nobody_else_was_asked_for_ejects_nobody() -> None:
    """A client that asks too often is told so by whichever backend it is hashed to: no reason to eject that."""
    for others in (429, None):
        a, _ = members = backends(1, 1)
        target = pool(members)
        for _ in range(60):
            lease = target.lease(NOW)
            if lease.backend is a or others:
                assert lease.finish(NOW, 429) is None
            else:
                lease.close(NOW, "abandoned")


def test_the_last_available_backend_is_never_ejected() -> None:
    a, b = members = backends(1, 1)
    target = pool(members)
    fail(target, a, 5)
    assert set(fail(target, b, 50)) == {None}
    assert served(target) == "b"


def test_one_that_is_draining_does_not_make_another_expendable() -> None:
    a, b = members = backends(1, 1)
    set_state(b, "draining")
    target = pool(members)
    assert set(fail(target, a, 50)) == {None}


def test_an_ejected_backend_is_tried_with_one_lease_and_readmitted_when_that_succeeds() -> None:
    a, _ = members = backends(1, 1)
    target = pool(members)
    fail(target, a, 5)
    now = NOW + 5.0
    leases = [target.lease(now) for _ in range(20)]
    probes = [lease for lease in leases if lease.backend is a]
    assert len(probes) == 1
    assert a.why_not(now) == "breaker_open"
    assert probes[0].close(now, "ok") == "closed"
    assert served(target, now=now) == "a b"


def test_an_abandoned_probe_lets_the_next_lease_try() -> None:
    a, _ = members = backends(1, 1)
    target = pool(members)
    fail(target, a, 5)
    now = NOW + 5.0
    for _ in range(3):
        leases = [target.lease(now) for _ in range(9)]
        assert [lease.backend.id for lease in leases].count("a") == 1
        for lease in leases:
            lease.close(now, "abandoned")
    assert a.learned.breaker.state == "half_open"


def test_a_probe_that_lasts_readmits_its_backend_with_its_answer() -> None:
    """A tunnel may be open for days: its backend is not kept waiting for its end."""
    a, _ = members = backends(1, 1)
    target = pool(members)
    fail(target, a, 5)
    now = NOW + 5.0
    probe = next(lease for lease in (target.lease(now) for _ in range(20)) if lease.backend is a)
    probe.answered(now)
    assert probe.proved(now) == "closed"
    assert served(target, now=now) == "a b"
    assert probe.proved(now) is None
    assert probe.close(now, "ok") is None
    assert probe.proved(now) is None


def test_proving_a_lease_that_is_no_probe_changes_nothing() -> None:
    (one,) = members = backends(1)
    lease = pool(members).lease(NOW)
    before = cells(one)
    assert lease.proved(NOW) is None
    assert cells(one) == before


# who is picked from


def test_only_the_available_are_picked() -> None:
    members = backends(1, 1, 1, 1)
    target = pool(members)
    set_state(members[0], "draining")
    for _ in range(3):
        members[1].learned.health.probed(False)
    target.touch()
    assert served(target) == "c d"
    assert names(target.candidates(NOW)) == "c d"


def test_one_that_was_never_probed_waits_unless_nothing_else_can_serve() -> None:
    a, _ = members = (backend("a"), backend("b", probed=None))
    target = pool(members)
    assert served(target) == "a"
    for _ in range(3):
        a.learned.health.probed(False)
    target.touch()
    assert served(target) == "b"


@pytest.mark.parametrize(("panic", "expected"), [("all", "a b c"), ("fail", "c")])
def test_below_half_available_the_panic_policy_decides(panic: Panic, expected: str) -> None:
    a, b, _ = members = backends(1, 1, 1)
    target = pool(members, panic=panic)
    for one in (a, b):
        lease = target.lease(NOW)
        while one.learned.breaker.state == "closed":
            one.learned.breaker.failed(NOW, Random(1))
        lease.close(NOW, "abandoned")
    target.touch()
    assert served(target) == expected


def test_half_available_is_not_yet_panic() -> None:
    a, _ = members = backends(1, 1)
    target = pool(members)
    fail(target, a, 5)
    assert served(target) == "b"


def test_what_the_operator_drains_is_no_reason_for_panic_and_never_used_in_one() -> None:
    a, b, c, d = members = backends(1, 1, 1, 1)
    target = pool(members)
    fail(target, a, 5)
    set_state(c, "draining")
    set_state(d, "disabled")
    target.touch()
    assert served(target) == "b"  # one of two
    set_state(b, "draining")
    target.touch()
    assert served(target) == "a"  # none of one


def test_in_a_panic_the_unhealthy_stay_out() -> None:
    a, _, _ = members = (backend("a"), backend("b"), backend("c", probed=False))
    target = pool(members)
    fail(target, a, 5)
    assert served(target) == "a b"


def test_when_probes_say_that_all_are_down_there_is_no_backend() -> None:
    target = pool((backend("a", probed=False), backend("b", probed=False, health=HealthPolicy(interval_s=0.5))))
    with pytest.raises(NoBackend) as caught:
        target.lease(NOW)
    assert caught.value.detail == "2 unhealthy"
    assert caught.value.retry_after_s == 0.5
    assert caught.value.status == 503


def test_no_backend_says_when_a_breaker_will_try_again() -> None:
    a, b = members = backends(1, 1)
    target = pool(members, panic="fail")
    fail(target, a, 5)
    set_state(b, "draining")
    target.touch()
    with pytest.raises(NoBackend) as caught:
        target.lease(NOW)
    assert caught.value.detail == "1 breaker_open, 1 draining"
    assert caught.value.retry_after_s == a.learned.breaker.next_change_at(NOW) - NOW


def test_an_empty_pool_has_no_backend() -> None:
    with pytest.raises(NoBackend, match="there are no backends") as caught:
        pool(()).lease(NOW)
    assert caught.value.retry_after_s == 1.0


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_retry_goes_to_one_that_was_not_tried(name: str) -> None:
    members = backends(1, 1, 1)
    target = pool(members, STRATEGIES[name]())
    for _ in range(50):
        tried = [target.lease(NOW).backend]
        tried.append(target.lease(NOW, tried).backend)
        tried.append(target.lease(NOW, tried).backend)
        assert set(tried) == set(members)
        with pytest.raises(NoBackend, match="3 tried"):
            target.lease(NOW, tried)


def test_what_was_tried_is_known_after_a_reload_has_replaced_it() -> None:
    members = backends(1, 1)
    target = pool(members)
    tried = {members[0]}
    target.apply([Backend(one.spec, one.learned) for one in members], RoundRobin())
    assert [target.lease(NOW, tried).backend.id for _ in range(3)] == ["b", "b", "b"]


def test_a_full_backend_is_passed_over_until_a_lease_ends() -> None:
    members = (backend("a", max_in_flight=1), backend("b", max_in_flight=2))
    target = pool(members)
    leases = [target.lease(NOW) for _ in range(3)]
    assert sorted(lease.backend.id for lease in leases) == ["a", "b", "b"]
    with pytest.raises(NoBackend, match="2 full"):
        target.lease(NOW)
    next(lease for lease in leases if lease.backend.id == "a").close(NOW, "ok")
    assert target.lease(NOW).backend.id == "a"


# reload


def test_a_reload_swaps_the_members_and_leases_of_the_removed_end_where_they_began() -> None:
    a, b = members = backends(1, 1)
    target = pool(members)
    leases = [target.lease(NOW), target.lease(NOW)]
    c = backend("c")
    target.apply((b, c), RoundRobin())
    assert target.backends == (b, c)
    assert served(target) == "b c"
    for lease in leases:
        lease.close(NOW, "ok")
    assert (a.in_flight(), b.in_flight()) == (0, 0)


def test_a_strategy_of_the_same_name_keeps_its_place_and_another_replaces_it() -> None:
    members = backends(1, 1, 1)
    target = pool(members)
    first = target.strategy
    assert target.lease(NOW).backend.id == "a"
    target.apply(members, RoundRobin())
    assert target.strategy is first
    assert target.lease(NOW).backend.id == "b"
    target.apply(members, other := PeakEwmaStrategy())
    assert target.strategy is other


def test_a_reload_makes_the_strategy_forget_who_left() -> None:
    _, b = members = backends(2, 1)
    target = pool(members)
    assert [target.lease(NOW).backend.id for _ in range(4)] == ["a", "b", "a", "a"]  # and the next is b
    target.apply((b,), RoundRobin())
    target.apply(members, RoundRobin())
    assert [target.lease(NOW).backend.id for _ in range(2)] == ["a", "b"]


def test_a_reload_hands_on_what_was_learned_under_the_new_policies_and_weights() -> None:
    a, b = members = backends(1, 1)
    target = pool(members)
    fail(target, a, 4)
    stricter = BackendSpec(a.id, a.url, weight=3, breaker=BreakerPolicy(failures=5, open_s=60.0))
    again = Backend(stricter, a.learned)
    target.apply((again, b), RoundRobin())
    assert fail(target, again, 1) == ["opened"]
    assert a.learned.breaker.next_change_at(NOW) >= NOW + 30.0


def test_panic_is_kept_by_a_reload_that_does_not_say() -> None:
    target = pool(backends(1), panic="fail")
    target.apply(backends(1), RoundRobin())
    assert target.panic == "fail"
    target.apply(backends(1), RoundRobin(), "all")
    assert target.panic == "all"


# what holds whatever happens

ACTIONS = st.sampled_from(["lease", "retry", "ok", "failed", "abandoned", "429", "again", "wait", "probe", "drain", "reload"])


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(sorted(STRATEGIES)),
    st.sampled_from(["all", "fail"]),
    st.integers(1, 5),
    st.lists(st.tuples(ACTIONS, st.integers(0, 99), st.floats(0.0, 4.0)), max_size=150),
)
def test_whatever_happens_the_pool_keeps_its_word(
    name: str, panic: Panic, count: int, steps: list[tuple[str, int, float]]
) -> None:
    """In-flight equals the open leases, candidates equal those worked out anew, and nobody ejects the last one."""
    clock = FakeClock()
    policy = BreakerPolicy(failures=2, min_requests=4)
    members = tuple(backend(chr(97 + i), 1 + i % 2, breaker=policy) for i in range(count))
    target = Pool(members, STRATEGIES[name](), Random(1), panic)
    opened: list[Lease] = []
    closed: list[Lease] = []
    for action, which, pause in steps:
        one = target.backends[which % count]
        before = [each.id for each in target.backends if each.available(clock())]
        if action in ("lease", "retry"):
            tried = (one,) if action == "retry" else ()
            fresh = candidates_of(target.backends, clock(), panic)
            try:
                lease = target.lease(clock(), tried)
            except NoBackend:
                assert set(fresh) <= set(tried)
            else:
                assert lease.backend in fresh or set(fresh) <= set(tried), "none but the last resort is left"
                assert lease.backend not in tried
                opened.append(lease)
        elif action == "wait":
            clock.advance(pause)
        elif action == "probe":
            if one.learned.health.probed(pause > 1.0):
                target.touch()
        elif action == "drain":
            set_state(one, "draining" if one.state == "enabled" else "enabled")
            target.touch()
        elif action == "reload":
            replaced = [Backend(each.spec, each.learned) for each in target.backends]
            target.apply(replaced, STRATEGIES[name]())
        elif action == "again":
            if closed:
                assert closed[which % len(closed)].close(clock(), "failed") is None
        elif opened:
            lease = opened.pop(which % len(opened))
            if pause > 2.0:
                lease.answered(clock())
            change = lease.close(clock(), "ok", code=429) if action == "429" else lease.close(clock(), action)  # type: ignore[arg-type]
            if change == "opened" and lease.backend.id in before:
                assert len(before) > 1
            closed.append(lease)
        assert target.candidates(clock()) == candidates_of(target.backends, clock(), panic)
        held = Counter(lease.backend.key for lease in opened)
        assert [each.in_flight() for each in target.backends] == [held[each.key] for each in target.backends]
        assert all(len(each.learned.waiting) <= held[each.key] for each in target.backends)
    for lease in opened:
        lease.close(clock(), "ok")
    for each in target.backends:
        found = cells(each)
        ended = sum(found.get(outcome, 0) for outcome in ("OK", "FAILED", "ABANDONED"))
        assert found.get("IN_FLIGHT", 0) == 0
        assert found.get("LEASES", 0) == ended


def test_candidates_are_worked_out_only_when_something_changed() -> None:
    members = backends(1, 1, 1)
    target = pool(members)
    first = target.candidates(NOW)
    for _ in range(100):
        target.lease(NOW).close(NOW, "ok")
    assert target.candidates(NOW + 1e6) is first
    target.touch()
    assert target.candidates(NOW) is first  # worked out anew, to the same end


def test_threads_lose_no_count() -> None:
    members = backends(1, 1)
    target = pool(members)

    def work() -> None:
        for turn in range(2000):
            lease = target.lease(NOW)
            lease.answered(NOW + 0.01)
            lease.close(NOW + 0.01, "ok" if turn % 2 else "abandoned")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(one.learned.totals()[OK] for one in members) == 4000
    assert sum(one.learned.totals()[ABANDONED] for one in members) == 4000
    for one in members:
        assert cells(one)["LEASES"] == 4000
        assert one.in_flight() == 0
        assert sum(one.learned.totals()[LATENCY_CELLS]) == 4000


def test_one_that_hangs_loses_its_traffic_before_its_first_answer() -> None:
    """Ten requests a second for ten seconds: the hung one gets a handful, and no more while it is silent."""
    clock = FakeClock()
    hung, fine = members = backends(1, 1)
    for one in members:
        one.learned.ewma.observe(clock(), 0.008)
    target = pool(members, PeakEwmaStrategy())
    counts = Counter[str]()
    for _ in range(100):
        lease = target.lease(clock())
        counts[lease.backend.id] += 1
        clock.advance(0.008)
        if lease.backend is fine:
            lease.answered(clock())
            lease.close(clock(), "ok")
        clock.advance(0.092)
    assert counts[hung.id] <= 2


def test_a_board_row_is_all_that_another_worker_needs_to_see() -> None:
    """Least cost counts the leases of all workers, each of which writes only its own row."""
    rows = [private_row() for _ in range(2)]
    a, _ = members = backends(1, 1)
    for one in members:
        one.learned.ewma.observe(NOW, 0.008)
    move(a.learned, *rows)
    rows[1][0][IN_FLIGHT] = 5
    target = pool(members, PeakEwmaStrategy())
    assert [target.lease(NOW).backend.id for _ in range(5)] == ["b"] * 5
    assert a.learned.breaker.next_change_at(NOW) == inf


def outrun(target: Pool, one: Backend, times: int, now: float = NOW) -> list[str | None]:
    """Have leases of this backend be outrun after 20 ms, and all others be given back."""
    changes: list[str | None] = []
    while len(changes) < times:
        lease = target.lease(now)
        if lease.backend is one:
            changes.append(lease.outrun(now + 0.02))
        else:
            lease.close(now, "abandoned")
    return changes


def test_a_try_that_was_outrun_is_no_failure_and_its_time_a_lower_bound() -> None:
    members = backends(1, 1)
    target = pool(members)
    lease = target.lease(NOW)
    assert lease.outrun(NOW + 0.5) is None
    assert lease.outrun(NOW + 9.0) is None
    assert cells(lease.backend) == {"LEASES": 1, "ABANDONED": 1, "LATENCY_SUM": 0.5}
    assert sum(lease.backend.learned.totals()[LATENCY_CELLS]) == 1
    assert lease.backend.latency_s(NOW + 0.5) == 0.5


def test_each_time_in_a_row_counts_double_and_five_eject() -> None:
    members = backends(1, 1, 1)
    target = pool(members)
    costs = []
    for _ in range(4):
        assert outrun(target, members[0], 1) == [None]
        costs.append(round(members[0].latency_s(NOW + 0.02), 4))
    assert costs == [0.02, 0.04, 0.08, 0.16]
    assert outrun(target, members[0], 1) == [None]
    assert outrun(target, members[0], 1, NOW + 1.1) == ["opened"]
    assert served(target) == "b c"
    assert cells(members[0])["EJECTED"] == 1


def test_an_answer_between_ends_the_row() -> None:
    members = backends(1, 1)
    target = pool(members)
    for _ in range(10):
        assert outrun(target, members[0], 4) == [None] * 4
        while (lease := target.lease(NOW)).backend is not members[0]:
            lease.close(NOW, "ok")
        lease.finish(NOW, 200)


def test_the_probe_of_a_breaker_fails_when_it_is_outrun() -> None:
    clock = FakeClock(NOW)
    members = backends(1, 1)
    target = pool(members)
    fail(target, members[0], 5)
    clock.advance(6.0)
    while (probe := target.lease(clock())).backend is not members[0]:
        probe.close(clock(), "ok")
    assert members[0].learned.breaker.state == "half_open"
    assert probe.outrun(clock.advance(0.02)) == "opened"


def test_full_ones_that_were_not_tried_are_told_apart_from_none_at_all() -> None:
    members = (backend("a", max_in_flight=1), backend("b", max_in_flight=1), backend("c", probed=False))
    target = pool(members)
    one, two = target.lease(NOW), target.lease(NOW)
    with pytest.raises(AllFull, match="2 full, 1 unhealthy"):
        target.lease(NOW)
    with pytest.raises(AllFull):
        target.lease(NOW, [members[0]])
    with pytest.raises(NoBackend) as none:
        target.lease(NOW, members)
    assert not isinstance(none.value, AllFull)
    two.close(NOW, "ok")
    assert target.lease(NOW).backend is two.backend
    one.close(NOW, "ok")


# Retry-After.


@pytest.mark.parametrize("said", [30.0, 1e12, 0.0, -5.0])
def test_what_one_answer_asks_for_takes_its_backend_out_for_nobody_else(said: float) -> None:
    """A 503 with `Retry-After: 300` for one path took its backend out for everybody for 300 s: whoever could provoke it, did."""
    for strategy in STRATEGIES.values():
        members = backends(1, 1, 1)
        target = pool(members, strategy())
        lease = target.lease(NOW)
        lease.close(NOW, "failed", retry_after_s=said, code=503)
        assert lease.backend in target.candidates(NOW + 0.1)
        lease.backend.learned.probed(NOW + 1.0, True)
        assert lease.backend.latency_s(NOW + 1.0) < 0.1
