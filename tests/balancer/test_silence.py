from __future__ import annotations

from contextlib import nullcontext

import pytest

from smartedge.balancer.backend import Backend
from smartedge.balancer.breaker import BreakerPolicy
from smartedge.balancer.pool import Lease, Pool
from smartedge.balancer.silence import silent
from tests.balancer.makers import backend, backends, names, pool

NOW = 1000.0


def take(target: Pool, one: Backend, now: float) -> Lease:
    """A lease of this backend; others that come before are given back."""
    while (lease := target.lease(now)).backend is not one:
        lease.close(now, "abandoned")
    return lease


def answer(target: Pool, one: Backend, now: float, latency_s: float = 0.01) -> None:
    take(target, one, now - latency_s).finish(now, 200)


def hang(target: Pool, one: Backend, count: int = 5, now: float = NOW) -> list[Lease]:
    return [take(target, one, now) for _ in range(count)]


def test_a_backend_that_answers_nothing_while_others_do_is_silent_after_a_second() -> None:
    members = backends(1, 1)
    target = pool(members)
    hang(target, members[0])
    answer(target, members[1], NOW + 0.9)
    assert list(silent(members, NOW + 0.9)) == []
    assert list(silent(members, NOW + 1.0)) == [members[0]]


def test_one_answer_breaks_the_silence() -> None:
    members = backends(1, 1)
    target = pool(members)
    leases = hang(target, members[0], 6)
    answer(target, members[1], NOW + 1.0)
    leases[0].answered(NOW + 1.5)
    assert list(silent(members, NOW + 2.0)) == []
    hang(target, members[0], 5, NOW + 2.0)
    answer(target, members[1], NOW + 2.5)
    assert list(silent(members, NOW + 3.1)) == [members[0]]


def test_what_becomes_of_the_first_that_hang_is_no_answer_to_the_others() -> None:
    """What one worker cut off moved the stamp by which the others knew of answers: theirs hung until they timed out."""
    members = backends(1, 1)
    target = pool(members)
    leases = hang(target, members[0], 10)
    answer(target, members[1], NOW + 1.0)
    for lease in leases[:5]:
        lease.close(NOW + 1.0, "failed")
    members[0].learned.breaker.succeeded(NOW + 1.0)
    members[0].learned.probed(NOW + 1.1, True)
    assert list(silent(members, NOW + 1.2)) == [members[0]]


def test_few_requests_are_no_silence() -> None:
    members = backends(1, 1)
    target = pool(members)
    hang(target, members[0], 4)
    answer(target, members[1], NOW + 30.0)
    assert list(silent(members, NOW + 30.0)) == []


def test_where_others_take_long_too_silence_takes_ten_times_as_long() -> None:
    members = backends(1, 1, 1)
    target = pool(members)
    hang(target, members[0])
    answer(target, members[1], NOW + 4.0, latency_s=2.0)
    answer(target, members[2], NOW + 4.0, latency_s=3.0)
    assert list(silent(members, NOW + 4.0)) == []
    answer(target, members[1], NOW + 24.0, latency_s=2.0)
    answer(target, members[2], NOW + 24.0, latency_s=3.0)
    assert list(silent(members, NOW + 24.0)) == []
    assert list(silent(members, NOW + 27.0)) == [members[0]]


def test_when_nobody_answers_nobody_is_silent() -> None:
    members = backends(1, 1)
    target = pool(members)
    answer(target, members[1], NOW - 1.0)
    hang(target, members[0])
    hang(target, members[1])
    assert list(silent(members, NOW + 60.0)) == []


def test_a_silent_backend_is_ejected_once_and_comes_back_by_a_probe() -> None:
    members = backends(1, 1)
    target = pool(members)
    hang(target, members[0])
    answer(target, members[1], NOW + 1.0)
    assert target.eject_silent(NOW + 1.1) == [(members[0], "opened")]
    assert target.silent == (members[0],)
    assert target.eject_silent(NOW + 1.2) == []
    assert names(target.candidates(NOW + 1.2)) == "b"
    probe = take(target, members[0], NOW + 7.0)
    assert probe.finish(NOW + 7.1, 200) == "closed"


def test_a_probe_that_gets_no_answer_either_is_known_as_soon() -> None:
    members = backends(1, 1)
    target = pool(members)
    leases = hang(target, members[0])
    answer(target, members[1], NOW + 1.0)
    target.eject_silent(NOW + 1.1)
    for lease in leases:
        lease.close(NOW + 1.1, "failed")
    assert list(silent(members, NOW + 2.0)) == []
    probe = take(target, members[0], NOW + 7.0)
    answer(target, members[1], NOW + 8.0)
    assert target.eject_silent(NOW + 8.1) == []
    assert target.silent == (members[0],)
    assert probe.close(NOW + 8.1, "failed") == "opened"


def test_the_last_one_stays() -> None:
    members = (backend("a"), backend("b"), backend("c", probed=False))
    target = pool(members)
    hang(target, members[0])
    answer(target, members[1], NOW + 1.0)
    members[1].learned.health.probed(False)
    for _ in range(3):
        members[1].learned.health.probed(False)
    target.touch()
    assert target.eject_silent(NOW + 1.5) == []


@pytest.mark.parametrize("times", [1, 3])
def test_a_breaker_that_only_observes_says_so_once(times: int) -> None:
    observing = BreakerPolicy(observe=True)
    members = (backend("a", breaker=observing), backend("b", breaker=observing))
    target = pool(members)
    hang(target, members[0])
    answer(target, members[1], NOW + 1.0)
    changes = [target.eject_silent(NOW + 1.1 + step) for step in range(times)]
    assert changes == [[(members[0], "observed")], *([[]] * (times - 1))]
    assert target.silent == ()
    assert members[0].available(NOW + 2.0)


def test_when_another_worker_is_at_it_nothing_is_announced_twice() -> None:
    members = backends(1, 1)
    target = pool(members)
    hang(target, members[0])
    answer(target, members[1], NOW + 1.0)
    members[0].learned.breaker.alone = lambda: nullcontext(False)
    assert target.eject_silent(NOW + 1.1) == []
