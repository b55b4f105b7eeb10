"""The queue, with backends that answer when they are told to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from time import monotonic
from typing import Any

import gevent
import pytest

from smartedge.balancer.cells import CONNECTS, DOWN_SINCE, IN_FLIGHT, QUEUE_REFUSED, QUEUE_WAIT_SUM, QUEUE_WAITS, QUEUED
from smartedge.balancer.errors import AllFull, BackendClosed, BackendTimeout, ClientGone, EdgeError, NoBackend
from smartedge.balancer.learned import Learned
from smartedge.proxy.affinity import Affinity, Sticky
from smartedge.proxy.exchange import Exchange
from tests.fakes import FakeAnswer, HeldTransport
from tests.house import House, policy_of, served, until
from tests.policies import retry_policy


class Full(House):
    """An edge whose backends take one request at a time."""

    def __init__(
        self, *transports: HeldTransport, size: int = 10, wait_s: float = 5.0, back_s: float = 5.0, cap: int | None = 1
    ) -> None:
        policy = policy_of(retry_policy(wait_s=back_s), queue=size, queue_s=wait_s)
        super().__init__(*transports, policy=policy, max_in_flight=cap)

    def go_down(self) -> None:
        """Have probes call the first backend unhealthy."""
        for _ in range(3):
            self.backends[0].learned.probed(monotonic(), False)
        self.pool.renew_candidates()


def done(greenlet: Any) -> Exchange:
    """Read its answer, as a server does."""
    exchange: Exchange = greenlet.get(timeout=5)
    served(exchange)
    return exchange


@pytest.fixture
def one() -> Iterator[tuple[Full, HeldTransport]]:
    held = HeldTransport()
    yield Full(held), held
    held.end_all()


def test_who_finds_all_full_waits_and_goes_in_the_order_of_arrival(one: tuple[Full, HeldTransport]) -> None:
    house, held = one
    waiting = [house.begin(target=target) for target in (b"/1", b"/2", b"/3", b"/4")]
    assert (held.sent, house.pool_counted(QUEUED)) == ([b"/1"], 3)
    assert repr(house.service.queue) == "<Queue <WaitingLine 3 of 10, 0 for a restart>>"
    for count in (2, 3, 4):
        held.end()
        assert held.sent == [b"/1", b"/2", b"/3", b"/4"][:count]
    held.end()
    assert [done(greenlet).status for greenlet in waiting] == [200] * 4
    assert (house.pool_counted(QUEUED), house.pool_counted(QUEUE_REFUSED)) == (0, 0)
    assert house.pool_counted(QUEUE_WAITS) == 3
    assert house.pool.row.reals[QUEUE_WAIT_SUM] > 0
    assert house.backends[0].in_flight() == 0


def test_nobody_who_comes_later_is_served_before_the_queue(one: tuple[Full, HeldTransport]) -> None:
    house, held = one
    house.begin(target=b"/1")
    house.begin(target=b"/2")
    held.ends[0].set(FakeAnswer())
    late = house.begin(target=b"/3")
    gevent.sleep(0.01)
    assert held.sent == [b"/1", b"/2"]
    held.end()
    held.end()
    assert done(late).status == 200


def test_a_full_queue_refuses_with_503_and_a_time_to_come_back() -> None:
    held = HeldTransport()
    house = Full(held, size=1)
    first, second = house.begin(target=b"/1"), house.begin(target=b"/2")
    refused = done(house.begin(target=b"/3"))
    assert refused.own_answer is not None
    assert refused.status == 503
    assert dict(refused.own_answer[1])["Retry-After"] == "1"
    assert house.pool_counted(QUEUE_REFUSED) == 1
    held.end()
    held.end()
    assert [done(first).status, done(second).status] == [200, 200]


def test_who_waited_for_too_long_is_refused_too() -> None:
    held = HeldTransport()
    house = Full(held, wait_s=0.05)
    first, second = house.begin(target=b"/1"), house.begin(target=b"/2")
    refused = done(second)
    assert isinstance(refused.error, AllFull)
    assert "0.05 s" in refused.error.detail
    assert (house.pool_counted(QUEUED), house.pool_counted(QUEUE_REFUSED)) == (0, 1)
    held.end()
    assert done(first).status == 200


def test_without_a_queue_nobody_waits() -> None:
    held = HeldTransport()
    house = Full(held, size=0)
    first = house.begin(target=b"/1")
    assert done(house.begin(target=b"/2")).status == 503
    held.end()
    done(first)


def test_a_client_that_leaves_gives_up_its_place(one: tuple[Full, HeldTransport]) -> None:
    house, held = one
    first, gone, third = house.begin(target=b"/1"), house.begin(target=b"/gone"), house.begin(target=b"/3")
    house.leave(1)
    exchange = done(gone)
    assert (exchange.status, exchange.attempts.tries) == (499, 0)
    assert house.pool_counted(QUEUED) == 1
    held.end()
    held.end()
    assert [done(first).status, done(third).status] == [200, 200]
    assert held.sent == [b"/1", b"/3"]


def test_a_client_that_leaves_as_its_turn_comes_keeps_no_lease(one: tuple[Full, HeldTransport]) -> None:
    house, held = one
    first, gone = house.begin(target=b"/1"), house.begin(target=b"/gone")
    waiter = house.service.queue.waiters[0]
    attempts = house.requests[1].waiter
    assert attempts is not None
    take = waiter.take

    def and_leave(now: float, tried: Any, session: Any) -> Any:
        lease = take(now, tried, session)
        attempts.give_up(ClientGone())
        return lease

    waiter.take = and_leave
    held.ends[0].set(FakeAnswer())
    assert done(gone).status == 499
    assert done(first).status == 200
    assert house.backends[0].in_flight() == 0


def test_room_that_nobody_told_of_is_seen_a_moment_later(one: tuple[Full, HeldTransport]) -> None:
    """What other workers give back, or a health check brings."""
    house, held = one
    other_worker = Learned()
    learned = house.backends[0].learned
    learned.see_workers((learned.cells, other_worker.cells))
    other_worker.add(IN_FLIGHT)
    waiting = house.begin(target=b"/1")
    assert held.sent == []
    other_worker.add(IN_FLIGHT, -1)
    gevent.sleep(0.1)
    assert held.sent == [b"/1"]
    held.end()
    assert done(waiting).status == 200


def test_who_comes_when_there_is_room_again_goes_behind_those_who_wait_for_it(one: tuple[Full, HeldTransport]) -> None:
    house, held = one
    other_worker = Learned()
    learned = house.backends[0].learned
    learned.see_workers((learned.cells, other_worker.cells))
    other_worker.add(IN_FLIGHT)
    first = house.begin(target=b"/1")
    other_worker.add(IN_FLIGHT, -1)
    second = house.begin(target=b"/2")
    gevent.sleep(0.1)
    assert held.sent == [b"/1"]
    held.end()
    held.end()
    assert [done(first).status, done(second).status] == [200, 200]


def test_the_size_is_that_of_the_whole_edge(one: tuple[Full, HeldTransport]) -> None:
    house, held = one
    other_worker = Learned()
    house.pool.row.see_workers((house.pool.row.cells, other_worker.cells))
    other_worker.add(QUEUED, 10)
    first = house.begin(target=b"/1")
    assert done(house.begin(target=b"/2")).status == 503
    held.end()
    done(first)


def test_when_no_backend_is_left_the_queue_hears_of_it(one: tuple[Full, HeldTransport]) -> None:
    house, held = one
    first, second = house.begin(target=b"/1"), house.begin(target=b"/2")
    house.pool.set_state("a", "disabled")
    exchange = done(second)
    assert isinstance(exchange.error, NoBackend)
    assert not isinstance(exchange.error, AllFull)
    held.end()
    done(first)


def test_a_retry_waits_too_and_never_for_the_backend_that_it_has_tried() -> None:
    bad, busy = HeldTransport(), HeldTransport()
    house = Full(bad, busy)
    first, second = house.begin(target=b"/1"), house.begin(target=b"/2")
    bad.end()
    done(first)
    bad.refuses = 1
    retried = house.begin(target=b"/3")  # refused by a, and b is full
    third = house.begin(target=b"/4")  # behind it, but a has room
    gevent.sleep(0.1)
    assert (bad.sent, busy.sent) == ([b"/1", b"/4"], [b"/2"])
    busy.end()
    assert busy.sent == [b"/2", b"/3"]
    busy.end()
    bad.end()
    assert [done(greenlet).status for greenlet in (second, retried, third)] == [200, 200, 200]


def test_a_killed_request_leaves_nothing_behind(one: tuple[Full, HeldTransport]) -> None:
    house, held = one
    first, killed, third = house.begin(target=b"/1"), house.begin(target=b"/2"), house.begin(target=b"/3")
    killed.kill()
    assert house.pool_counted(QUEUED) == 1
    held.end()
    assert held.sent == [b"/1", b"/3"]
    held.end()
    assert [done(first).status, done(third).status] == [200, 200]


# --- a session waits for its own backend ---


def sticky_house(*transports: HeldTransport, **options: Any) -> tuple[Full, Callable[[str], bytes]]:
    """A house with sticky sessions, and what makes the cookie of one."""
    house = Full(*transports, **options)
    sticky = Sticky("edge", [b"a secret of the tests"], ["a", "b"], None)
    house.service.adapt_to(replace(house.service.policy, affinity=Affinity(None, sticky, None)))
    return house, lambda name: b"Cookie: " + sticky.cookie_line(name, secure=False).split(b" ", 1)[1].split(b";")[0] + b"\r\n"


def test_a_session_whose_backend_is_full_waits_for_it_and_is_not_moved() -> None:
    """It was moved, with a new cookie, as soon as its backend had one request too many for a moment."""
    a, b = HeldTransport(), HeldTransport()
    house, cookie = sticky_house(a, b)
    first = house.begin(target=b"/1", fields=cookie("a"))
    second = house.begin(target=b"/2", fields=cookie("a"))
    assert (a.sent, b.sent) == ([b"/1"], [])
    assert house.pool_counted(QUEUED) == 1
    a.end()
    assert (a.sent, b.sent) == ([b"/1", b"/2"], [])
    a.end()
    assert [done(greenlet).attempts.backend.id for greenlet in (first, second)] == ["a", "a"]  # type: ignore[union-attr]


def test_those_who_need_another_backend_pass_by_a_session_that_waits() -> None:
    a, b = HeldTransport(), HeldTransport()
    house, cookie = sticky_house(a, b)
    first, waiting = house.begin(target=b"/1", fields=cookie("a")), house.begin(target=b"/2", fields=cookie("a"))
    passing = house.begin(target=b"/3")
    gevent.sleep(0)
    assert (a.sent, b.sent) == ([b"/1"], [b"/3"])
    other = house.begin(target=b"/4", fields=cookie("b"))
    b.end()
    assert (a.sent, b.sent) == ([b"/1"], [b"/3", b"/4"])
    for _ in range(2):
        a.end()
    b.end()
    assert [done(greenlet).status for greenlet in (first, waiting, passing, other)] == [200] * 4


def test_a_session_moves_when_its_backend_stays_full_or_nobody_may_wait() -> None:
    for options in ({"wait_s": 0.05}, {"size": 0}):
        a, b = HeldTransport(), HeldTransport()
        house, cookie = sticky_house(a, b, **options)
        first, moved = house.begin(target=b"/1", fields=cookie("a")), house.begin(target=b"/2", fields=cookie("a"))
        until(lambda b=b: b.sent == [b"/2"])  # type: ignore[misc]
        b.end()
        a.end()
        exchange = done(moved)
        assert exchange.attempts.preferred is None, "it gets a new cookie"
        assert [done(first).status, exchange.status] == [200, 200]


# --- a backend that is being restarted is waited for ---


@pytest.mark.parametrize("method", [b"GET", b"POST"])
def test_a_lone_backend_that_refuses_is_waited_for(method: bytes) -> None:
    """With one backend, a restart of a tenth of a second was 503 for everybody at once."""
    held = HeldTransport(refuses=4)
    house = Full(held, cap=None)
    asked = house.begin(method, target=b"/1")
    until(lambda: held.sent)
    held.end()
    exchange = done(asked)
    assert (exchange.status, exchange.attempts.tries) == (200, 5)
    assert house.pool_counted(QUEUED) == 0
    assert house.backends[0].in_flight() == 0
    assert house.events.unreachables == ["a"] * 4


def test_of_all_who_wait_one_asks_until_there_is_an_answer_and_then_the_rest_follow() -> None:
    """A hundred clients who each try again every moment would be what greets a server that has just come up."""
    held = HeldTransport(refuses=1_000_000)
    house = Full(held, size=100, cap=None)
    asked = [house.begin(target=b"/%d" % number) for number in range(50)]
    refused = len(held.refused)
    gevent.sleep(0.2)
    assert refused + 2 <= len(held.refused) <= refused + 12
    assert len(set(held.refused[refused:])) == 1, "always the same one"
    held.refuses = 0
    until(lambda: len(held.sent) == 1)
    held.ends[0].set(FakeAnswer())
    until(lambda: len(held.sent) == 50)
    held.end_all()
    assert {done(greenlet).status for greenlet in asked} == {200}


def test_a_connection_is_enough_for_the_rest_to_follow() -> None:
    """The first answer of a cold application may take longer than anybody waits."""
    held = HeldTransport(refuses=2)
    house = Full(held, cap=None)
    learned = house.backends[0].learned
    asked = [house.begin(target=b"/%d" % number) for number in range(3)]
    until(lambda: len(held.sent) == 1)
    learned.add(CONNECTS)
    until(lambda: len(held.sent) == 3)
    held.end_all()
    assert {done(greenlet).status for greenlet in asked} == {200}


def test_whoever_its_probes_call_unhealthy_is_waited_for_and_probed_soon() -> None:
    held = HeldTransport()
    house = Full(held, cap=None)
    house.go_down()
    asked = house.begin(target=b"/1")
    assert house.pool_counted(QUEUED) == 1
    assert house.events.unreachables == ["a"]
    gevent.sleep(0.05)
    assert held.sent == []
    house.backends[0].learned.probed(monotonic(), True)  # one good probe is enough when there is nobody else
    until(lambda: held.sent)
    held.end()
    assert done(asked).status == 200


def test_who_waits_in_vain_hears_why_and_for_how_long() -> None:
    house = Full(HeldTransport(refuses=1_000), back_s=0.1, cap=None)
    refused = done(house.begin(target=b"/1"))
    assert refused.error is not None
    assert refused.status == 503
    assert "refused" in refused.error.detail
    house.go_down()
    began = monotonic()
    unhealthy = done(house.begin(target=b"/2"))
    assert unhealthy.error is not None
    assert unhealthy.error.detail.endswith("; waited for 0.1 s")
    assert monotonic() - began < 1.0
    assert (house.pool_counted(QUEUED), house.pool_counted(QUEUE_REFUSED)) == (0, 1)


@pytest.mark.parametrize(("error", "status"), [(BackendTimeout("slow"), 504), (BackendClosed("cut"), 502)])
def test_who_is_slow_or_breaks_it_off_is_not_asked_for_the_same_again(error: EdgeError, status: int) -> None:
    """It accepts connections, so it is not being restarted; and the request may be what it died of."""
    held = HeldTransport(refuses=1)
    held.error = lambda: error
    exchange = done(Full(held, cap=None).begin(target=b"/1"))
    assert (exchange.attempts.tries, exchange.status) == (1, status)


def test_there_is_no_wait_where_it_is_of_no_use() -> None:
    """The operator has taken it out, or wants no wait, or there is no place, or it has been away for long."""

    def told_at_once(house: Full) -> bool:
        began = monotonic()
        return done(house.begin(target=b"/1")).status == 503 and monotonic() - began < 0.5

    house = Full(HeldTransport())
    house.pool.set_state("a", "disabled")
    assert told_at_once(house)
    assert told_at_once(Full(HeldTransport(refuses=100), back_s=0.0))
    assert told_at_once(Full(HeldTransport(refuses=100), size=0))
    house = Full(HeldTransport())
    house.go_down()
    house.backends[0].learned.shared_reals[DOWN_SINCE] -= 61.0
    assert told_at_once(house)


def test_the_second_of_two_is_tried_before_anybody_waits() -> None:
    a, b = HeldTransport(refuses=100), HeldTransport()
    house = Full(a, b, cap=None)
    asked = [house.begin(target=b"/%d" % number) for number in range(4)]
    assert len(b.sent) == 4
    assert house.pool_counted(QUEUED) == 0
    b.end_all()
    assert {done(greenlet).status for greenlet in asked} == {200}
