"""Races between tries, with backends that answer, fail or hang when they are told to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gevent
import pytest

from smartedge.balancer.cells import ABANDONED, FAILED, HEDGES, HEDGES_WON, OK, OUTRUN, RETRIES
from smartedge.balancer.errors import BackendClosed, BadAnswer
from smartedge.balancer.hedge_delay import HedgeDelay
from smartedge.proxy.exchange import Exchange
from tests.fakes import FakeAnswer, HeldTransport, Pieces
from tests.house import House, served
from tests.policies import retry_policy

LATE_S = 0.02


@pytest.fixture(autouse=True)
def patience() -> Iterator[None]:
    with gevent.Timeout(5):
        yield


class Race(House):
    """An edge that hedges, with backends that answer, fail or hang when they are told to."""

    def __init__(self, count: int = 3, **policy: Any) -> None:
        super().__init__(*(HeldTransport() for _ in range(count)), policy=retry_policy(**({"hedge": True} | policy)))
        for method in (b"GET", b"PUT"):
            hedge = self.pool.evidence.kinds.find(method, b"/", make=True).hedge = HedgeDelay()
            hedge.after_s = LATE_S

    def end(self, name: str, what: FakeAnswer | Exception) -> None:
        self.transports["abc".index(name)].end(what)


def finish(greenlet: Any) -> tuple[Exchange, int, bytes]:
    exchange: Exchange = greenlet.get()
    status, body = served(exchange)
    gevent.sleep(0.01)
    return exchange, status, body


def test_an_answer_in_time_is_not_hedged() -> None:
    house = Race()
    greenlet = house.begin()
    house.until(1, 0, 0)
    house.end("a", FakeAnswer(200, b"quick"))
    exchange, status, body = finish(greenlet)
    gevent.sleep(2 * LATE_S)
    assert (status, body, exchange.attempts.tries, exchange.attempts.hedges) == (200, b"quick", 1, 0)
    assert house.asked() == [1, 0, 0]


def test_the_hedge_wins_and_what_it_has_beaten_is_cut_off_and_avoided() -> None:
    house = Race()
    greenlet = house.begin()
    house.until(1, 1, 0)
    house.end("b", FakeAnswer(200, b"hedge"))
    exchange, status, body = finish(greenlet)
    assert (status, body, exchange.attempts.tries, exchange.attempts.hedges) == (200, b"hedge", 2, 1)
    assert exchange.attempts.backend is house.backends[1]
    assert exchange.attempts.latency_s is not None
    assert house.settled()
    assert house.transports[0].cut == 1
    assert (house.counted(OUTRUN), house.counted(ABANDONED), house.counted(OK)) == ([1, 0, 0], [0, 0, 0], [0, 1, 0])
    assert (house.counted(HEDGES), house.counted(HEDGES_WON)) == ([0, 1, 0], [0, 1, 0])
    assert house.backends[0].learned.breaker.streak == 1
    assert house.backends[0].latency_s(0.0) >= LATE_S


def test_the_first_wins_and_nothing_speaks_against_the_hedge() -> None:
    house = Race()
    greenlet = house.begin()
    house.until(1, 1, 0)
    house.end("a", FakeAnswer(200, b"first"))
    exchange, status, body = finish(greenlet)
    assert (status, body, exchange.attempts.backend) == (200, b"first", house.backends[0])
    assert house.settled()
    assert house.transports[1].cut == 1
    assert house.backends[1].learned.breaker.streak == 0
    assert house.counted(HEDGES_WON) == [0, 0, 0]


def test_a_second_hedge_follows_when_both_are_late_and_then_no_more() -> None:
    house = Race()
    greenlet = house.begin()
    house.until(1, 1, 1)
    gevent.sleep(3 * LATE_S)
    house.end("c", FakeAnswer(200, b"third"))
    exchange, status, body = finish(greenlet)
    assert (status, body, exchange.attempts.tries, exchange.attempts.hedges) == (200, b"third", 3, 2)
    assert [backend.learned.breaker.streak for backend in house.backends] == [1, 1, 0]
    assert house.settled()


def test_two_answers_in_the_same_moment_are_one_answer_and_no_lease_is_lost() -> None:
    house = Race()
    for winner, loser in ("ab", "ba"):
        greenlet = house.begin()
        gevent.sleep(2 * LATE_S)
        house.end(winner, FakeAnswer(200, b"one", here=False))
        house.end(loser, FakeAnswer(200, b"two", here=False))
        _, status, body = finish(greenlet)
        assert (status, body in (b"one", b"two")) == (200, True)
        assert house.settled()
        for transport in house.transports:
            for end in transport.ends:
                end.set(FakeAnswer())
        gevent.sleep(0.01)


def test_without_budget_nothing_is_hedged() -> None:
    house = Race(budget_ratio=0.0, budget_per_s=0.0)
    greenlet = house.begin()
    gevent.sleep(4 * LATE_S)
    assert house.asked() == [1, 0, 0]
    house.end("a", FakeAnswer(200, b"late"))
    assert finish(greenlet)[2] == b"late"


def test_without_another_backend_nothing_is_hedged_and_nothing_paid() -> None:
    house = Race(1, budget_ratio=0.0, budget_per_s=0.1)
    greenlet = house.begin()
    gevent.sleep(4 * LATE_S)
    house.end("a", FakeAnswer(200, b"late"))
    assert finish(greenlet)[2] == b"late"
    assert house.service.budget.withdraw(house.service.budget._tick / house.service.budget._ticks_per_s)


def test_a_try_that_fails_while_its_hedge_is_under_way_leaves_it_to_that() -> None:
    house = Race()
    greenlet = house.begin()
    house.until(1, 1, 0)
    house.end("a", BackendClosed("closed"))
    gevent.sleep(0.005)
    house.end("b", FakeAnswer(200, b"hedge"))
    exchange, status, body = finish(greenlet)
    assert (status, body) == (200, b"hedge")
    assert exchange.attempts.tries - exchange.attempts.hedges == 1, "no retry; on a slow machine there is a second hedge"
    assert house.counted(FAILED) == [1, 0, 0]
    assert house.settled()


def test_when_all_fail_it_goes_on_as_after_any_failure() -> None:
    house = Race()
    greenlet = house.begin()
    house.until(1, 1, 0)
    house.end("a", BackendClosed("closed"))
    house.end("b", BadAnswer("bad"))
    house.until(1, 1, 1)
    house.end("c", FakeAnswer(200, b"retry"))
    exchange, status, body = finish(greenlet)
    assert (status, body, exchange.attempts.tries, exchange.attempts.hedges) == (200, b"retry", 3, 1)
    assert house.counted(FAILED) == [1, 1, 0]
    assert house.counted(RETRIES) == [0, 0, 1]
    assert house.settled()


def test_when_all_fail_for_good_the_client_hears_of_the_last() -> None:
    house = Race(2)
    greenlet = house.begin()
    house.until(1, 1)
    house.end("a", BackendClosed("closed"))
    house.end("b", BadAnswer("bad"))
    exchange, status, _ = finish(greenlet)
    assert status == 502
    assert exchange.error is not None
    assert exchange.error.detail == "bad"
    assert house.settled()


@pytest.mark.parametrize("here", [True, False])
def test_an_answer_that_is_a_failure_waits_for_a_better_one(here: bool) -> None:
    house = Race()
    greenlet = house.begin()
    house.until(1, 1, 0)
    sorry = FakeAnswer(503, b"sorry", here=here)
    house.end("a", sorry)
    gevent.sleep(0.005)
    house.end("b", FakeAnswer(200, b"hedge"))
    _, status, body = finish(greenlet)
    assert (status, body, sorry.closed) == (200, b"hedge", True)
    assert house.counted(FAILED) == [1, 0, 0]
    assert house.settled()


def test_the_last_failing_answer_is_passed_on_when_no_try_is_left() -> None:
    house = Race(2)
    greenlet = house.begin()
    house.until(1, 1)
    house.end("b", FakeAnswer(503, b"hedge", here=False))
    gevent.sleep(0.005)
    house.end("a", FakeAnswer(503, b"first", here=False))
    exchange, status, body = finish(greenlet)
    assert (status, body) == (503, b"first")
    assert house.counted(FAILED) == [1, 1]
    assert exchange.attempts.lease is None or house.settled()
    assert house.settled()


def test_a_failing_answer_is_better_than_an_error() -> None:
    house = Race(2)
    greenlet = house.begin()
    house.until(1, 1)
    house.end("b", FakeAnswer(503, b"sorry"))
    gevent.sleep(0.005)
    house.end("a", BackendClosed("closed"))
    assert finish(greenlet)[1:] == (503, b"sorry")
    assert house.counted(FAILED) == [1, 1]
    assert house.settled()


def test_a_client_that_leaves_ends_every_try() -> None:
    house = Race()
    greenlet = house.begin()
    house.until(1, 1, 1)
    house.leave()
    exchange, status, _ = finish(greenlet)
    assert (status, exchange.attempts.tries) == (499, 3)
    assert [transport.cut for transport in house.transports] == [1, 1, 1]
    assert house.counted(ABANDONED) == [1, 1, 1]
    assert house.settled()


def test_a_client_that_leaves_while_only_a_hedge_is_left_ends_that() -> None:
    house = Race(2)
    greenlet = house.begin()
    house.until(1, 1)
    house.end("a", BackendClosed("closed"))
    gevent.sleep(0.005)
    house.leave()
    assert finish(greenlet)[1] == 499
    assert house.transports[1].cut == 1
    assert house.settled()


def test_a_request_that_is_killed_leaves_nothing_open() -> None:
    house = Race()
    greenlet = house.begin()
    house.until(1, 1, 0)
    greenlet.kill()
    gevent.sleep(0.01)
    assert [transport.cut for transport in house.transports] == [1, 1, 0]
    assert house.settled()


def test_a_bug_in_a_hedge_gives_its_lease_back(capsys: pytest.CaptureFixture[str]) -> None:
    house = Race(2)
    greenlet = house.begin()
    house.until(1, 1)
    house.end("b", RuntimeError("bug"))
    gevent.sleep(0.005)
    house.end("a", FakeAnswer(200, b"first"))
    assert finish(greenlet)[2] == b"first"
    assert house.settled()
    assert "bug" in capsys.readouterr().err


def test_a_body_goes_to_each_whole() -> None:
    house = Race(2)
    greenlet = house.begin(b"PUT", Pieces(b"bo", b"dy"))
    house.until(1, 1)
    house.end("b", FakeAnswer(200, b"hedge"))
    assert finish(greenlet)[2] == b"hedge"
    assert [transport.bodies for transport in house.transports] == [[b"body"], [b"body"]]


def test_a_body_that_is_not_kept_goes_to_one() -> None:
    house = Race(2, body_bytes=3)
    greenlet = house.begin(b"PUT", Pieces(b"bo", b"dy"))
    gevent.sleep(4 * LATE_S)
    house.end("a", FakeAnswer(200, b"late"))
    assert finish(greenlet)[2] == b"late"
    assert house.transports[1].ends == []


def test_the_timer_runs_only_while_somebody_waits() -> None:
    house = Race(1)
    greenlet = house.begin()
    house.until(1)
    timer = house.forwarder.hedges._timer
    assert timer.active
    house.end("a", FakeAnswer(200, b"quick"))
    finish(greenlet)
    gevent.sleep(2 * LATE_S)
    assert not timer.active
    greenlet = house.begin()
    house.until(2)
    assert timer.active
    house.end("a", FakeAnswer(200, b"quick"))
    finish(greenlet)


# Cut off without a race: the backend has fallen silent.
