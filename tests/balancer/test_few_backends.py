"""One backend and two: every rule that looks at the others, as docs/failures.md has it in a table, a test for each row."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from smartedge.balancer.backend import Backend
from smartedge.balancer.candidates import may_return
from smartedge.balancer.cells import EXCUSED, FAILED
from smartedge.balancer.errors import NoBackend
from smartedge.balancer.outliers import OutlierDetector
from smartedge.balancer.pool import Pool
from tests.house import backend, backends, pool, set_state
from tests.policies import breaker_policy, outlier_policy

NOW = 1000.0
PAGE = Path(__file__).parents[2] / "docs" / "failures.md"

Row = Callable[[], None]
ROWS: dict[str, list[Row]] = {}
"""The tests of each row, by what its first cell says."""


def row(name: str) -> Callable[[Row], Row]:
    """Note that this test shows what a row of the table says."""

    def note(test: Row) -> Row:
        ROWS.setdefault(name, []).append(test)
        return test

    return note


def lease(target: Pool, one: Backend, now: float = NOW, tried: tuple[Backend, ...] = ()) -> Any:
    """A lease of this backend; others that are picked meanwhile are given back."""
    for _ in range(50):
        found = target.lease(now, tried)
        if found.backend is one:
            return found
        found.close(now, "abandoned")
    raise AssertionError("it is not picked")


def fail(target: Pool, one: Backend, times: int = 5, now: float = NOW) -> list[str | None]:
    return [lease(target, one, now).close(now, "failed") for _ in range(times)]


def eject(target: Pool, one: Backend, now: float = NOW) -> None:
    assert fail(target, one, 5, now)[-1] == "opened"


def down(one: Backend, target: Pool, now: float = NOW) -> None:
    for _ in range(3):
        one.learned.probed(now, False)
    target.renew_candidates()


@row("the last available one stays")
def test_one_alone_is_never_ejected_and_of_two_not_the_second() -> None:
    (one,) = members = backends(1)
    assert set(fail(pool(members), one, 100)) == {None}
    a, b = members = backends(1, 1)
    target = pool(members)
    eject(target, a)
    assert set(fail(target, b, 100)) == {None}


@row("`breaker.max_ejected_ratio`")
def test_a_ceiling_below_a_half_still_lets_one_of_two_be_ejected() -> None:
    """0.3 of two is less than one: the breaker of a backend that failed everything never opened."""
    a, b = members = tuple(backend(name, breaker=breaker_policy(max_ejected_ratio=0.1)) for name in "ab")
    target = pool(members)
    eject(target, a)
    assert set(fail(target, b, 10)) == {None}


@row("panic")
def test_with_one_of_two_ejected_there_is_no_panic_and_with_none_left_there_is() -> None:
    a, b = members = backends(1, 1)
    target = pool(members)
    eject(target, a)
    assert target.candidates(NOW) == (b,)
    down(b, target)
    assert target.candidates(NOW) == (a,)
    with pytest.raises(NoBackend):
        pool((backend("a", probed=False),)).lease(NOW)


@row("last resort")
def test_who_was_refused_by_the_second_is_sent_to_the_one_that_is_ejected() -> None:
    """Two backends, a rolling restart: 96 of 432 requests got "1 breaker_open, 1 tried" although one was up at every moment."""
    a, b = members = backends(1, 1)
    target = pool(members)
    eject(target, a)
    first = target.lease(NOW)
    assert first.backend is b
    assert target.lease(NOW, (b,)).backend is a
    with pytest.raises(NoBackend, match="2 tried"):
        target.lease(NOW, (a, b))


@row("last resort")
@pytest.mark.parametrize("state", ["draining", "disabled"])
def test_the_last_resort_is_not_who_was_taken_out_nor_who_is_unhealthy_nor_for_a_hedge(state: Any) -> None:
    a, b = members = backends(1, 1)
    target = pool(members)
    eject(target, a)
    with pytest.raises(NoBackend):
        target.lease(NOW, (b,), must=False)
    down(a, target)
    with pytest.raises(NoBackend):
        target.lease(NOW, (b,))
    a.learned.probed(NOW, True)  # on its way back: good once, healthy with the next one
    assert target.lease(NOW, (b,)).backend is a
    set_state(a, state)
    target.renew_candidates()
    with pytest.raises(NoBackend):
        target.lease(NOW, (b,))


@row("last resort")
def test_an_operator_who_wants_no_panic_has_no_last_resort() -> None:
    a, b = members = backends(1, 1)
    target = pool(members, panic="fail")
    eject(target, a)
    with pytest.raises(NoBackend):
        target.lease(NOW, (b,))


@row("half open")
def test_a_good_answer_readmits_before_the_time_only_if_nobody_else_is_available() -> None:
    a, b = members = backends(1, 1)
    target = pool(members)
    eject(target, a)
    assert target.lease(NOW, (b,)).close(NOW, "ok") is None
    assert a.learned.breaker.state == "open"
    down(b, target)
    assert target.lease(NOW).close(NOW, "failed") is None
    assert target.lease(NOW).close(NOW, "ok") == "closed"


@row("a probe that turns good")
def test_a_probe_that_turns_good_readmits_who_is_ejected() -> None:
    """A replaced process served its predecessor's term, 2.5 to 5 s, while its peer was restarted."""
    a, b = members = backends(1, 1)
    target = pool(members)
    eject(target, a)
    assert a.learned.probed(NOW, True) == (), "it was good all the time: what failed is not what it asks for"
    assert a.learned.probed(NOW + 1.0, False) == ()
    assert a.learned.probed(NOW + 2.0, True) == ("closed",)
    target.renew_candidates()
    assert target.candidates(NOW + 2.0) == (a, b)
    eject(target, b, NOW + 2.0)


@row("a probe that turns good")
def test_who_was_unhealthy_is_readmitted_too_and_its_doublings_are_forgotten() -> None:
    a, _ = members = backends(1, 1)
    target = pool(members)
    for now in (NOW, NOW + 5.0, NOW + 15.0):
        assert a.learned.breaker.eject(now, target._rng) or lease(target, a, now).close(now, "failed")
    down(a, target, NOW + 20.0)
    assert a.learned.probed(NOW + 21.0, True) == ("closed",)
    assert a.learned.probed(NOW + 22.0, True) == ("up",)
    target.renew_candidates()
    eject(target, a, NOW + 22.0)
    assert a.learned.breaker.next_change_at(NOW + 22.0) <= NOW + 27.0


@row("silence")
def test_one_alone_is_never_silent_and_of_two_the_one_that_the_other_outdoes() -> None:
    for count, expected in ((1, 0), (2, 1)):
        members = backends(*[1] * count)
        target = pool(members)
        for one in members:
            for _ in range(5):
                lease(target, one, NOW - 1.0).finish(NOW - 0.99, 200)
        target.look_for_silence(NOW - 0.5)
        held = [lease(target, members[0], NOW) for _ in range(5)]
        for other in members[1:]:
            lease(target, other, NOW + 0.5).finish(NOW + 0.51, 200)
        assert [fallen.change for fallen in target.look_for_silence(NOW + 5.0)] == ["silent"] * expected
        assert len(held) == 5


@row("blame")
def test_one_alone_has_nobody_to_be_compared_with_and_of_two_the_other_is_enough() -> None:
    for count, expected in ((1, 0), (2, 5)):
        members = backends(*[1] * count)
        target = pool(members)
        for _ in range(6):
            lease(target, members[0]).close(NOW, "failed", code=500)
            for other in members[1:]:
                lease(target, other).finish(NOW, 200)
        assert members[0].learned.cells[FAILED] == 6
        assert 6 - members[0].learned.cells[EXCUSED] == expected


@row("retry of a 500")
def test_of_two_the_other_is_asked_once_unless_it_fails_too() -> None:
    a, b = members = backends(1, 1)
    target = pool(members)
    first = lease(target, a)
    assert not first.is_hopeless(NOW)
    first.close(NOW, "failed", code=500)
    lease(target, b).close(NOW, "failed", code=500)
    assert lease(target, a).is_hopeless(NOW)


@row("outliers")
def test_of_two_nobody_can_say_who_the_outlier_is() -> None:
    members = backends(1, 1)
    target, detector, policy = pool(members), OutlierDetector(), outlier_policy(latency_factor=2.0, failure_ratio=0.1)
    detector.look(members, policy, NOW)
    for _ in range(50):
        for one, took_s in zip(members, (0.001, 1.0), strict=True):
            one.learned.count(200, took_s, 0, 0)
            lease(target, one, NOW).finish(NOW + took_s, 200)
    assert detector.look(members, policy, NOW + 10.0) == []


@row("waiting")
def test_one_that_may_be_restarting_is_waited_for_and_one_that_was_taken_out_is_not() -> None:
    (one,) = members = backends(1)
    target = pool(members)
    assert not may_return(members, NOW, 1.0)
    down(one, target)
    assert may_return(members, NOW + 59.0, 1.0)
    assert not may_return(members, NOW + 61.0, 1.0)
    set_state(one, "disabled")
    assert not may_return(members, NOW, 1.0)


def test_every_row_of_the_table_has_a_test_and_every_test_a_row() -> None:
    section = PAGE.read_text(encoding="utf-8").partition("## One backend, two backends")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (.+?) \|", section, re.MULTILINE)[1:]
    assert [name for name in rows if not name.startswith("-")] == list(ROWS)
