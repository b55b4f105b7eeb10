"""Whose a failure is, on a pool whose requests are of kinds."""

from __future__ import annotations

import pytest

from smartedge.balancer.backend import Backend
from smartedge.balancer.cells import EXCUSED, FAILED
from smartedge.balancer.evidence import NOTES
from smartedge.balancer.pool import Pool
from smartedge.balancer.strategies.menu import STRATEGIES
from tests.balancer.asking import take
from tests.house import backends, pool

NOW = 1000.0


def ends(target: Pool, one: Backend, path: bytes = b"/", code: int = 200, now: float = NOW) -> str | None:
    """A request that ends so."""
    lease = take(target, one, now, path)
    if code < 500:
        return lease.finish(now + 0.01, code)
    lease.answered(now + 0.01, code)
    return lease.close(now + 0.01, "failed", code=code)


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
def test_one_client_that_hammers_one_bad_url_gets_nobody_ejected(strategy: str) -> None:
    """A hash sends all of them to one backend, which answers everybody else, and nobody else is asked for the like."""
    a, b = members = backends(1, 1)
    target = pool(members, STRATEGIES[strategy]())
    for step in range(100):
        now = NOW + step / 50
        assert ends(target, a, b"/bad?x=%d" % step, 500, now) is None
        ends(target, a, b"/good", 200, now)
        ends(target, b, b"/good", 200, now)
    assert (a.learned.breaker.state, a.learned.cells[FAILED], a.learned.cells[EXCUSED]) == ("closed", 100, 100)


def test_a_bad_url_fails_on_all_alike_while_the_rest_is_fine_and_nobody_is_ejected() -> None:
    a, b = members = backends(1, 1)
    target = pool(members)
    for step in range(60):
        for one in (a, b):
            assert ends(target, one, b"/bad", 500, NOW + step / 50) is None
            ends(target, one, b"/good", 200, NOW + step / 50)
    assert [one.learned.breaker.state for one in members] == ["closed", "closed"]
    assert max(one.learned.ewma.read(NOW + 1.2) for one in members) < 0.1, "and nobody is shunned"


def test_who_fails_at_what_the_others_answer_is_ejected_though_it_answers_other_things() -> None:
    a, b = members = backends(1, 1)
    target = pool(members)
    changes = []
    for step in range(8):
        changes.append(ends(target, a, b"/api/orders/%d" % step, 500, NOW + step / 50))
        ends(target, b, b"/api/orders/%d" % step, 200, NOW + step / 50)
    assert changes == [None] * 5 + ["opened"] + [None] * 2


def test_when_the_database_behind_all_of_them_dies_nobody_is_ejected() -> None:
    """The first failures of one come before those of the others."""
    members = backends(1, 1, 1, 1)
    target = pool(members)
    for step in range(50):
        for one in members:
            ends(target, one, b"/orders", 500 if step % 10 == 0 and one is members[0] else 200, NOW + step / 100)
    for step in range(50):
        for one in members:
            assert ends(target, one, b"/orders", 500, NOW + 0.5 + step / 100) is None


def test_a_connection_that_could_not_be_made_is_no_clients_doing() -> None:
    a, _ = members = backends(1, 1)
    target = pool(members)
    changes = [take(target, a, NOW).close(NOW, "failed", sent=False) for _ in range(5)]
    assert changes == [None] * 4 + ["opened"]


def test_a_busy_backends_answers_are_a_sample_and_kinds_of_refused_requests_get_no_place() -> None:
    a, b = members = backends(1, 1)
    target = pool(members)
    for _ in range(1000):
        ends(target, a)
    assert (len(target.evidence._notes), a.learned.notes_room) == (16, 0)
    target.look_for_silence(NOW + 1.0)
    assert a.learned.notes_room == 16
    known = len(target.evidence.kinds)
    for step in range(10):
        ends(target, b, b"/" + bytes([97 + step]), 404)
    target.look_for_silence(NOW + 1.0)
    assert len(target.evidence.kinds) == known


def test_of_very_many_backends_so_many_answers_are_noted_in_all_and_those_of_a_backend_where_others_wait() -> None:
    members = backends(*[1] * 200)
    target = pool(members)
    asked = members[150]
    take(target, asked, NOW)  # waits
    for one in members:
        ends(target, one)
    noted = [note[0] for note in target.evidence._notes]
    assert noted == [one.learned for one in (*members[:NOTES], asked)]
    target.look_for_silence(NOW + 0.05)
    for one in reversed(members):
        ends(target, one)
    assert [note[0] for note in target.evidence._notes] == [one.learned for one in (*members[: -NOTES - 1 : -1],)]
