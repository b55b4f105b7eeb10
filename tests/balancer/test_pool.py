from __future__ import annotations

import threading
from collections import Counter
from math import inf
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smartedge.balancer.backend import Backend
from smartedge.balancer.candidates import Panic, candidates_of
from smartedge.balancer.cells import ABANDONED, IN_FLIGHT, LATENCY_CELLS, OK, private_row
from smartedge.balancer.errors import NoBackend
from smartedge.balancer.pool import Lease, Pool
from smartedge.balancer.strategies.menu import STRATEGIES, PeakEwmaStrategy, RoundRobin
from tests.balancer.leasing import cells, fail, served
from tests.fakes import FakeClock
from tests.house import backend, backends, move, pool, set_state
from tests.policies import backend_spec, breaker_policy

NOW = 1000.0


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


# who is picked from


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
    target.replace_backends([Backend(one.spec, one.learned) for one in members], RoundRobin())
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


def test_a_pool_says_its_state_in_one_line() -> None:
    a, _, _ = members = backends(1, 1, 1)
    target = pool(members)
    assert repr(target) == "<Pool round_robin: 3 backends, 0 candidates, 0 in flight>"
    set_state(a, "disabled")
    target.lease(NOW)
    assert repr(target) == "<Pool round_robin: 3 backends, 2 candidates, 1 in flight>"


# reload


def test_a_reload_swaps_the_members_and_leases_of_the_removed_end_where_they_began() -> None:
    a, b = members = backends(1, 1)
    target = pool(members)
    leases = [target.lease(NOW), target.lease(NOW)]
    c = backend("c")
    target.replace_backends((b, c), RoundRobin())
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
    target.replace_backends(members, RoundRobin())
    assert target.strategy is first
    assert target.lease(NOW).backend.id == "b"
    target.replace_backends(members, other := PeakEwmaStrategy())
    assert target.strategy is other


def test_a_reload_makes_the_strategy_forget_who_left() -> None:
    _, b = members = backends(2, 1)
    target = pool(members)
    assert [target.lease(NOW).backend.id for _ in range(4)] == ["a", "b", "a", "a"]  # and the next is b
    target.replace_backends((b,), RoundRobin())
    target.replace_backends(members, RoundRobin())
    assert [target.lease(NOW).backend.id for _ in range(2)] == ["a", "b"]


def test_a_reload_hands_on_what_was_learned_under_the_new_policies_and_weights() -> None:
    a, b = members = backends(1, 1)
    target = pool(members)
    fail(target, a, 4)
    stricter = backend_spec(id=a.id, url=a.url, weight=3, breaker=breaker_policy(failures=5, open_s=60.0))
    again = Backend(stricter, a.learned)
    target.replace_backends((again, b), RoundRobin())
    assert fail(target, again, 1) == ["opened"]
    assert a.learned.breaker.next_change_at(NOW) >= NOW + 30.0


def test_panic_is_kept_by_a_reload_that_does_not_say() -> None:
    target = pool(backends(1), panic="fail")
    target.replace_backends(backends(1), RoundRobin())
    assert target.panic == "fail"
    target.replace_backends(backends(1), RoundRobin(), "all")
    assert target.panic == "all"


# what holds whatever happens

ACTIONS = st.sampled_from(["lease", "retry", "ok", "failed", "abandoned", "429", "again", "wait", "probe", "drain", "reload"])


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
    policy = breaker_policy(failures=2, min_requests=4)
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
                target.renew_candidates()
        elif action == "drain":
            set_state(one, "draining" if one.state == "enabled" else "enabled")
            target.renew_candidates()
        elif action == "reload":
            replaced = [Backend(each.spec, each.learned) for each in target.backends]
            target.replace_backends(replaced, STRATEGIES[name]())
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
        ended = sum(found.get(outcome, 0) for outcome in ("OK", "FAILED", "ABANDONED", "OUTRUN"))
        assert found.get("IN_FLIGHT", 0) == 0
        assert found.get("LEASES", 0) == ended


def test_candidates_are_worked_out_only_when_something_changed() -> None:
    members = backends(1, 1, 1)
    target = pool(members)
    first = target.candidates(NOW)
    for _ in range(100):
        target.lease(NOW).close(NOW, "ok")
    assert target.candidates(NOW + 1e6) is first
    target.renew_candidates()
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
