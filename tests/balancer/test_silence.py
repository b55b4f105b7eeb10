"""Silence, on a pool whose requests are of kinds. Times are those of a service whose pages take 10 ms."""

from __future__ import annotations

from typing import Any

import pytest

from smartedge.balancer.backend import Backend
from smartedge.balancer.cells import OBSERVED, OVERDUE
from smartedge.balancer.learned import Learned
from smartedge.balancer.pool import Pool
from tests.balancer.asking import take
from tests.house import backend, backends, names, pool
from tests.policies import breaker_policy

NOW = 1000.0


def answer(target: Pool, one: Backend, now: float, latency_s: float = 0.01, path: bytes = b"/", times: int = 1) -> None:
    """So many answers that begin now."""
    for _ in range(times):
        take(target, one, now - latency_s, path).finish(now, 200)


def known(target: Pool, path: bytes = b"/", latency_s: float = 0.01) -> None:
    """What a kind takes is known, from all backends."""
    for one in target.backends:
        answer(target, one, NOW - 5.0, latency_s, path, 6)
        target.look_for_silence(NOW - 5.0)


def two(**spec: Any) -> tuple[Pool, Backend, Backend]:
    """A pool of two that is known."""
    a, b = backend("a", **spec), backend("b", **spec)
    target = pool((a, b))
    known(target)
    return target, a, b


def changes(target: Pool, now: float) -> list[tuple[str, str]]:
    return [(fallen.backend.id, fallen.change) for fallen in target.look_for_silence(now)]


def test_who_leaves_three_unanswered_for_a_tenth_of_a_second_that_another_answers_is_silent() -> None:
    """It took five requests and a second, and the breaker's term afterwards."""
    target, a, b = two()
    for _ in range(3):
        take(target, a, NOW)
    answer(target, b, NOW + 0.09)
    assert changes(target, NOW + 0.09) == []
    assert changes(target, NOW + 0.101) == [("a", "silent")]
    assert changes(target, NOW + 0.15) == []
    assert (a.why_not(NOW + 0.15), a.learned.breaker.state) == ("silent", "closed")
    assert names(target.candidates(NOW + 0.15)) == "b"


def test_the_first_overdue_answer_ends_it_at_once_and_there_is_no_term_to_serve() -> None:
    """A collector's pause of 400 ms is no crime."""
    target, a, b = two()
    leases = [take(target, a, NOW) for _ in range(4)]
    answer(target, b, NOW + 0.1)
    assert changes(target, NOW + 0.2) == [("a", "silent")]
    leases[0].finish(NOW + 0.4, 200)
    assert names(target.candidates(NOW + 0.4)) == "a b"
    assert changes(target, NOW + 0.41) == [("a", "heard")]
    assert a.learned.breaker.streak == 0


def test_a_probe_that_turns_good_ends_it_though_what_was_lost_is_never_answered() -> None:
    """A machine that was switched off and on again was silent for 30 s, and then ejected for the failures of the one before."""
    target, a, b = two()
    leases = [take(target, a, NOW) for _ in range(8)]
    answer(target, b, NOW + 0.1)
    assert changes(target, NOW + 0.2) == [("a", "silent")]
    a.learned.probed(NOW + 1.0, False)
    assert changes(target, NOW + 2.5) == []
    a.learned.probed(NOW + 3.0, True)
    assert changes(target, NOW + 3.9) == [], "what may go elsewhere does so first"
    assert changes(target, NOW + 4.0) == [("a", "heard")]
    assert names(target.candidates(NOW + 4.0)) == "a b"
    assert a.learned.waited_s(NOW + 4.0) == 0.0, "a strategy that goes by latency would avoid it, too"
    answer(target, a, NOW + 5.0)
    for lease in leases:
        assert lease.close(NOW + 30.0, "failed") is None
    assert (a.learned.breaker.state, a.learned.breaker.streak) == ("closed", 0)


def test_a_probe_that_was_good_all_the_time_ends_no_silence() -> None:
    target, a, b = two()
    for _ in range(3):
        take(target, a, NOW)
    answer(target, b, NOW + 0.1)
    assert changes(target, NOW + 0.2) == [("a", "silent")]
    a.learned.probed(NOW + 1.0, True)
    assert changes(target, NOW + 5.0) == []


def test_what_hangs_after_a_probe_turned_good_counts() -> None:
    target, a, b = two()
    a.learned.probed(NOW - 1.0, False)
    a.learned.probed(NOW - 0.5, True)
    for _ in range(3):
        take(target, a, NOW)
    answer(target, b, NOW + 0.1)
    assert changes(target, NOW + 2.0) == [("a", "silent")]


@pytest.mark.parametrize(("count", "silent_after_s"), [(3, 0.1), (2, 0.2), (1, 0.4)])
def test_fewer_requests_have_to_wait_for_longer(count: int, silent_after_s: float) -> None:
    """A strategy that avoids whoever is late sends a hung backend one or two requests, and these waited for 30 s."""
    target, a, b = two()
    for _ in range(count):
        take(target, a, NOW)
    answer(target, b, NOW + 0.05, times=3)
    assert changes(target, NOW + silent_after_s - 0.001) == []
    assert changes(target, NOW + silent_after_s + 0.001) == [("a", "silent")]


def test_long_polls_beside_quick_requests_are_not_overdue() -> None:
    """Ten of them, answered after 4 s, got a sound backend ejected after a second, and all its clients moved."""
    target, a, b = two()
    known(target, b"/poll", 4.0)
    polls = [take(target, a, NOW, b"/poll") for _ in range(10)]
    for step in range(80):
        answer(target, b, NOW + step * 0.05)
        assert changes(target, NOW + step * 0.05) == []
    for lease in polls:
        lease.finish(NOW + 4.0, 200)


def test_a_kind_that_nobody_has_seen_is_never_overdue() -> None:
    target, a, b = two()
    for _ in range(10):
        take(target, a, NOW, b"/new-report")
    answer(target, b, NOW + 29.0, times=8)
    assert changes(target, NOW + 29.0) == []


def test_whose_upload_goes_on_or_who_may_wait_by_agreement_is_not_overdue() -> None:
    target, a, b = two()
    for _ in range(10):
        take(target, a, NOW, is_due=False)
    answer(target, b, NOW + 29.0, times=8)
    assert changes(target, NOW + 29.0) == []


def test_when_nobody_answers_nobody_is_silent() -> None:
    """All wait for the same database."""
    target, a, b = two()
    for one in (a, b):
        for _ in range(5):
            take(target, one, NOW)
    assert changes(target, NOW + 20.0) == []
    answer(target, b, NOW + 20.0, latency_s=20.0)  # it goes on again: what was late is no answer in time
    assert changes(target, NOW + 20.0) == []


def test_what_others_had_begun_before_is_no_measure() -> None:
    target, a, b = two()
    for _ in range(3):
        take(target, a, NOW)
    answer(target, b, NOW + 0.005)
    assert changes(target, NOW + 5.0) == []


def test_who_answers_others_of_the_kind_is_not_silent_however_long_some_take() -> None:
    """2% of requests that take 50 times as long, on one backend."""
    target, a, b = two()
    for _ in range(5):
        take(target, a, NOW)
    answer(target, b, NOW + 0.2)
    answer(target, a, NOW + 0.2)
    assert changes(target, NOW + 0.21) == []


def test_who_answers_one_kind_and_leaves_another_unanswered_is_silent() -> None:
    """Its pages are files, its /api waits for a lock that nobody gives back."""
    target, a, b = two()
    known(target, b"/api")
    leases = [take(target, a, NOW, b"/api") for _ in range(3)]
    answer(target, a, NOW + 0.1)
    answer(target, b, NOW + 0.1, path=b"/api")
    assert changes(target, NOW + 0.12) == [("a", "silent")]
    take(target, a, NOW + 0.12).finish(NOW + 0.13, 200)
    assert changes(target, NOW + 0.15) == [], "a page tells nothing of it"
    leases[0].finish(NOW + 0.3, 200)
    assert changes(target, NOW + 0.31) == [("a", "heard")]


def test_a_kind_whose_times_differ_by_nature_is_measured_by_its_longest() -> None:
    target, a, b = two()
    for number in range(100):
        answer(target, b, NOW - 1.0, 3.0 if number % 5 == 0 else 0.01)
        target.look_for_silence(NOW - 1.0)
    for _ in range(5):
        take(target, a, NOW)
    answer(target, b, NOW + 2.9)
    assert changes(target, NOW + 3.0) == []


def test_a_single_request_is_not_overdue_before_the_longest_of_its_kind() -> None:
    """One rare report hides among quick pages of the same path."""
    target, a, b = two()
    answer(target, b, NOW - 1.0, 3.0)
    take(target, a, NOW)
    answer(target, b, NOW + 1.0, times=5)
    assert changes(target, NOW + 3.0) == []
    assert changes(target, NOW + 3.7) == [("a", "silent")]


def test_one_alone_is_never_silent_nor_the_last_that_is_available() -> None:
    (one,) = backends(1)
    alone = pool((one,))
    known(alone)
    for _ in range(5):
        take(alone, one, NOW)
    assert changes(alone, NOW + 20.0) == []
    target, a, b = two()
    for _ in range(5):
        take(target, a, NOW)
    answer(target, b, NOW + 0.1)
    for _ in range(3):
        b.learned.health.probed(False)
    target.renew_candidates()
    assert changes(target, NOW + 0.2) == []


def test_when_nothing_is_left_to_be_answered_it_is_asked_again() -> None:
    target, a, b = two()
    leases = [take(target, a, NOW) for _ in range(3)]
    answer(target, b, NOW + 0.1)
    assert changes(target, NOW + 0.2) == [("a", "silent")]
    for lease in leases:
        lease.close(NOW + 0.3, "abandoned")
    assert changes(target, NOW + 0.35) == [("a", "heard")]
    assert names(target.candidates(NOW + 0.35)) == "a b"


def test_who_waits_on_a_silent_backend_should_leave_after_twice_the_usual_time() -> None:
    target, a, b = two()
    old = [take(target, a, NOW) for _ in range(3)]
    report = take(target, a, NOW, b"/report")
    young = take(target, a, NOW + 0.05)
    new = take(target, a, NOW + 0.1)
    answer(target, b, NOW + 0.1)
    changes(target, NOW + 0.11)
    assert target.late_leases(a, NOW + 0.11) == [*old, young]
    assert {new, report} <= set(a.learned.waiting)


def test_a_session_stays_with_a_silent_backend_for_three_seconds() -> None:
    target, a, b = two()
    held = [take(target, a, NOW) for _ in range(3)]
    answer(target, b, NOW + 0.1)
    changes(target, NOW + 0.2)
    assert target.lease(NOW + 3.1, prefer="a").backend is a
    assert target.lease(NOW + 3.3, prefer="a").backend is b
    assert len(held) == 3


def test_a_silent_backend_is_the_last_resort() -> None:
    target, a, b = two()
    held = [take(target, a, NOW) for _ in range(3)]
    answer(target, b, NOW + 0.1)
    changes(target, NOW + 0.2)
    assert target.lease(NOW + 0.2, [b]).backend is a
    assert len(held) == 3


def test_the_probe_of_a_breaker_that_gets_no_answer_either_is_known_at_once() -> None:
    target, a, b = two(breaker=breaker_policy(open_s=1.0))
    a.learned.breaker.eject(NOW, target._rng)
    target.renew_candidates()
    probe = take(target, a, NOW + 1.0)
    answer(target, b, NOW + 1.1)
    assert changes(target, NOW + 1.12) == [("a", "silent")]
    assert probe.close(NOW + 1.5, "failed") == "opened"


def test_a_breaker_that_only_observes_says_so_once() -> None:
    target, a, b = two(breaker=breaker_policy(observe=True))
    held = [take(target, a, NOW) for _ in range(3)]
    answer(target, b, NOW + 0.1)
    assert changes(target, NOW + 0.2) == [("a", "observed")]
    assert changes(target, NOW + 0.3) == []
    assert a.available(NOW + 0.3)
    assert a.learned.cells[OBSERVED] == 1
    assert len(held) == 3


def test_the_overdue_requests_of_all_workers_count_together_and_all_know() -> None:
    """Each of three workers had one or two, and none of them enough."""
    target, a, b = two()
    other_worker = Learned()
    a.learned.see_workers((a.learned.cells, other_worker.cells))
    other_worker.add(OVERDUE, 2)
    held = take(target, a, NOW)
    answer(target, b, NOW + 0.1)
    assert changes(target, NOW + 0.11) == [("a", "silent")]
    held.close(NOW + 0.2, "abandoned")
    assert changes(target, NOW + 0.2) == []
    assert a.learned.silent_since
    other_worker.add(OVERDUE, -2)
    assert changes(target, NOW + 0.3) == [("a", "heard")]


def test_what_is_said_of_it_has_the_numbers() -> None:
    target, a, b = two()
    held = [take(target, a, NOW) for _ in range(3)]
    answer(target, b, NOW + 0.1)
    (fallen,) = target.look_for_silence(NOW + 0.25)
    assert str(fallen) == "a http://a:80 (3 requests overdue, the oldest for 0.25 s)"
    for lease in held:
        lease.finish(NOW + 0.3, 200)
    (back,) = target.look_for_silence(NOW + 0.31)
    assert str(back) == "a http://a:80 answers again"


def test_of_very_many_a_part_is_looked_at_each_time() -> None:
    """A look at 10,000 backends, 20 times a second, took a quarter of a core, and held up requests for 12 ms each time."""
    target = pool([backend(f"b{number}") for number in range(2_500)])
    a, b = target.backends[7], target.backends[8]
    for one in target.backends[:50]:
        answer(target, one, NOW - 5.0)
    parts = []
    for number in range(6):
        target.look_for_silence(NOW - 4.0 + number)
        parts.append(target.looked_at)
    assert max(len(part) for part in parts) <= 1_000
    assert {one.id for part in parts[:3] for one in part} == {one.id for one in target.backends}
    assert parts[3:] == parts[:3]

    for _ in range(3):
        take(target, a, NOW)
    answer(target, b, NOW + 0.09)
    assert [change for number in range(6) for change in changes(target, NOW + 0.2 + 0.05 * number)] == [(a.id, "silent")]
