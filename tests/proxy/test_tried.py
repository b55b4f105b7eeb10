"""What is told of each try of a request once it is over."""

from __future__ import annotations

from time import monotonic
from typing import Any

import gevent
import pytest

from smartedge.balancer.errors import BackendClosed, BackendTimeout, BadAnswer, ConnectFailed
from smartedge.proxy.exchange import Exchange
from smartedge.proxy.tried import MOST_KEPT, Tried, keep
from tests.fakes import FakeAnswer, HeldTransport
from tests.house import House, policy_of, running, served
from tests.peers import backend, says
from tests.policies import retry_policy


def told(exchange: Exchange) -> list[tuple[Any, ...]]:
    return [(one.backend.id, one.kind, one.outcome, one.status, one.reason) for one in exchange.tries()]


def test_an_answer_that_came_whole_is_one_good_try() -> None:
    house = House([FakeAnswer(200, b"ok")])
    exchange = house.ask()
    served(exchange)
    assert told(exchange) == [("a", "first", "ok", 200, "")]
    (one,) = exchange.tries()
    assert one.latency_s == exchange.attempts.latency_s
    assert one.began <= one.ended <= monotonic()


def test_an_answer_that_came_in_pieces_is_told_once() -> None:
    house = House([FakeAnswer(200, b"o", b"k", here=False)])
    exchange = house.ask()
    assert served(exchange) == (200, b"ok")
    assert told(exchange) == [("a", "first", "ok", 200, "")]


@pytest.mark.parametrize(
    ("failure", "status", "reason"),
    [
        (ConnectFailed("refused"), 0, "connect"),
        (BackendTimeout("slow"), 0, "timeout"),
        (BackendClosed("closed"), 0, "closed"),
        (BadAnswer("bad"), 0, "answer"),
        (FakeAnswer(503, b"sorry"), 503, "status"),
    ],
)
def test_each_try_that_failed_says_why(failure: object, status: int, reason: str) -> None:
    house = House([failure], [FakeAnswer(200, b"ok")])
    exchange = house.ask()
    served(exchange)
    assert told(exchange) == [("a", "first", "failed", status, reason), ("b", "retry", "ok", 200, "")]


def test_a_failure_that_was_passed_on_is_told_once() -> None:
    house = House([FakeAnswer(500, b"no")])
    exchange = house.ask()
    assert served(exchange) == (500, b"no")
    assert told(exchange) == [("a", "first", "failed", 500, "status")]


def test_a_request_that_no_backend_answered_has_its_failures_alone() -> None:
    house = House([ConnectFailed("refused")], [ConnectFailed("refused")])
    exchange = house.ask()
    assert served(exchange)[0] == 503
    assert told(exchange) == [("a", "first", "failed", 0, "connect"), ("b", "retry", "failed", 0, "connect")]


def test_a_hedge_and_what_it_has_beaten_are_told_in_the_order_that_they_began() -> None:
    house = House(HeldTransport(), HeldTransport(), policy=retry_policy(hedge=True))
    exchange = house.ask_outrun()
    assert told(exchange) == [("a", "first", "outrun", 0, ""), ("b", "hedge", "ok", 200, "")]


def test_the_time_in_the_queue_is_known() -> None:
    held = HeldTransport()
    house = House(held, policy=policy_of(queue=4, queue_s=10.0), max_in_flight=1)
    with gevent.Timeout(20):
        first, second = house.begin(), house.begin()
        held.end()
        served(first.get())
        held.end()
        exchange = second.get()
    served(exchange)
    assert first.get().attempts.queue_s == 0.0
    assert 0.0 < exchange.attempts.queue_s <= exchange.duration_s


def test_nothing_is_kept_where_nobody_wants_to_know() -> None:
    house = House([ConnectFailed("refused")], [FakeAnswer(200, b"ok")])
    house.forwarder.log = None
    exchange = house.ask()
    served(exchange)
    assert exchange.attempts.tried is None
    assert told(exchange) == [("b", "retry", "ok", 200, "")]


def test_a_long_row_keeps_its_beginning_and_its_end() -> None:
    house = House(HeldTransport())
    kept: tuple[Tried, ...] = ()
    leases = [house.pool.lease(monotonic()) for _ in range(2 * MOST_KEPT)]
    for number, lease in enumerate(leases):
        kept = keep(kept, lease, "failed", number)
        lease.close(monotonic(), "failed")
    assert len(kept) == MOST_KEPT
    assert [one.status for one in (kept[0], kept[-1])] == [0, 2 * MOST_KEPT - 1]


def test_a_new_connection_says_how_long_it_took_and_a_kept_one_nothing() -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    with backend(says(answer, answer)) as url, running(url) as served_edge:
        client = served_edge.client()
        for count in (1, 2):
            client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            served_edge.ended(count)
        client.close()
        first, second = (exchange.tries()[0] for exchange in served_edge.logged)
    assert first.connect_s is not None
    assert 0.0 < first.connect_s < 20
    assert second.connect_s is None
