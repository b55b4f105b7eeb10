"""One use of one backend: what its end, its answer and its failure leave behind."""

from __future__ import annotations

from collections import Counter

import pytest

from smartedge.balancer.cells import LATENCY_CELLS, LATENCY_SUM, OK, private_row
from smartedge.balancer.pool import Outcome
from tests.balancer.leasing import cells, fail, outrun, served
from tests.fakes import FakeClock
from tests.house import backends, move, pool

NOW = 1000.0


def test_a_lease_counts_in_flight_until_it_is_closed() -> None:
    (one,) = members = backends(1)
    lease = pool(members).lease(NOW)
    assert lease.backend is one
    assert lease.opened_at == NOW
    assert cells(one) == {"IN_FLIGHT": 1, "LEASES": 1}
    lease.close(NOW, "ok")
    assert cells(one) == {"LEASES": 1, "OK": 1}


@pytest.mark.parametrize(
    ("outcome", "counted"), [("ok", "OK"), ("failed", "FAILED"), ("abandoned", "ABANDONED"), ("outrun", "OUTRUN")]
)
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


def test_of_many_answers_within_a_millisecond_all_are_counted_and_the_slow_ones_are_learned_from() -> None:
    """Of the others one is enough: the mean is no better by a thousand more in a second."""
    (one,) = members = backends(1)
    target = pool(members)
    leases = [target.lease(NOW) for _ in range(100)]
    for number, lease in enumerate(leases):
        lease.finish(NOW + 0.01 + number * 1e-6, 200)
    totals = one.learned.totals()
    assert totals[LATENCY_SUM] == pytest.approx(1.0, rel=0.01)
    assert sum(totals[LATENCY_CELLS]) == totals[OK] == 100
    one.learned.pace.settle(NOW + 0.0101)
    assert one.learned.pace.seen == 1
    assert one.learned.heard_at == NOW + 0.01
    slow, next_one = target.lease(NOW - 0.5), target.lease(NOW + 0.002)
    slow.finish(NOW + 0.0102, 200)
    assert one.learned.ewma.mean_s == pytest.approx(0.5102)
    next_one.finish(NOW + 0.012, 200)
    one.learned.pace.settle(NOW + 0.012)
    assert one.learned.pace.seen == 2
    assert one.learned.heard_at == NOW + 0.012


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


def test_a_try_that_was_outrun_is_no_failure_and_its_time_a_lower_bound() -> None:
    members = backends(1, 1)
    target = pool(members)
    lease = target.lease(NOW)
    assert lease.close(NOW + 0.5, "outrun") is None
    assert lease.close(NOW + 9.0, "outrun") is None
    assert cells(lease.backend) == {"LEASES": 1, "OUTRUN": 1, "LATENCY_SUM": 0.5}
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
    assert probe.close(clock.advance(0.02), "outrun") == "opened"
