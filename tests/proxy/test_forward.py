"""The retry loop and the lease around it, with transports that answer as they are told."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from smartedge.app import PassedResponse
from smartedge.balancer.breaker import BreakerPolicy
from smartedge.balancer.cells import ABANDONED, FAILED, IN_FLIGHT, OK, RETRIES
from smartedge.balancer.errors import (
    BackendClosed,
    BackendTimeout,
    BadAnswer,
    ClientGone,
    ClientTimeout,
    ConnectFailed,
    EdgeError,
    PayloadTooLarge,
)
from smartedge.http.environ_keys import HANDLER
from smartedge.http.headers import AnswerFields, retry_after
from tests.fakes import FakeAnswer, Pieces
from tests.house import House, served
from tests.policies import retry_policy


def test_an_answer_goes_through_and_the_lease_comes_back() -> None:
    house = House([FakeAnswer(200, b"he", b"llo", here=False)])
    exchange = house.ask()
    assert house.counted(IN_FLIGHT) == [1]
    assert served(exchange) == (200, b"hello")
    assert house.counted(IN_FLIGHT) == [0]
    assert house.counted(OK) == [1]
    assert house.logged == [exchange]
    assert (exchange.status, exchange.bytes_out, exchange.attempts.tries, exchange.attempts.request_id) == (200, 5, 1, "made-id")


def test_the_bytes_that_go_out() -> None:
    house = House([FakeAnswer()])
    house.ask(target=b"/a%2F?", block=b"Host: h\r\nX-One: 1\r\nX-Request-Id: mine\r\nConnection: close\r\n").close()
    head = house.transports[0].sent[0].head
    assert head.startswith(b"GET /a%2F? HTTP/1.1\r\nHost: h\r\nX-One: 1\r\n")
    told = b"X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Host: h\r\nX-Forwarded-Proto: http\r\n"
    assert head.endswith(told + b"Via: 1.1 smartedge\r\nX-Request-Id: mine\r\n\r\n")
    assert head.count(b"\r\n\r\n") == 1


@pytest.mark.parametrize(
    ("target", "sent"), [(b"/", b"/app/"), (b"/a%2F//b?", b"/app/a%2F//b?"), (b"//x", b"/app//x"), (b"*", b"*")]
)
def test_a_backends_path_goes_before_every_target_as_it_is(target: bytes, sent: bytes) -> None:
    """Each try has its own backend's, and `OPTIONS *` is about the server as a whole."""
    house = House([ConnectFailed("no")], [FakeAnswer()], base=b"/app")
    house.ask(b"OPTIONS", target=target).close()
    for transport in house.transports:
        assert transport.sent[0].head.startswith(b"OPTIONS %b HTTP/1.1\r\n" % sent)


def test_preserve_host_false_sends_the_backends_own() -> None:
    house = House([ConnectFailed("no")], [FakeAnswer()], preserve_host=False)
    house.ask().close()
    assert [transport.sent[0].head.split(b"\r\n")[1] for transport in house.transports] == [b"Host: a:80", b"Host: b:80"]


def test_a_second_try_does_not_carry_the_first_backends_own_host() -> None:
    """Regression: a client without Host (HTTP/1.0) had its request made once, with the first backend's name, for every try."""
    house = House([ConnectFailed("no")], [FakeAnswer()])
    house.ask(block=b"Accept: */*\r\n").close()
    assert [transport.sent[0].head.split(b"\r\n")[1] for transport in house.transports] == [b"Host: a:80", b"Host: b:80"]


@pytest.mark.parametrize("method", [b"GET", b"POST"])
def test_a_backend_that_was_never_reached_costs_nothing_but_a_nudge(method: bytes) -> None:
    house = House([ConnectFailed("refused")], [ConnectFailed("refused")], [FakeAnswer(200, b"ok")])
    assert served(house.ask(method, Pieces(b"body"))) == (200, b"ok")
    assert house.asked() == [1, 1, 1]
    assert house.events.unreachables == ["a", "b"]
    assert house.counted(RETRIES) == [0, 1, 1]


@pytest.mark.parametrize("error", [BackendClosed("closed"), BadAnswer("bad"), BackendTimeout("slow")])
def test_what_may_have_been_acted_on_is_repeated_only_for_idempotent_methods(error: EdgeError) -> None:
    house = House([error], [FakeAnswer(200, b"ok")])
    assert served(house.ask(b"PUT", Pieces(b"x"))) == (200, b"ok")
    house = House([error], [FakeAnswer(200, b"ok")])
    status, body = served(house.ask(b"POST", Pieces(b"x")))
    assert status == error.status
    assert json.loads(body)["detail"] == error.detail
    assert house.asked() == [1, 0]


def test_no_more_tries_than_allowed() -> None:
    house = House(*[[BackendClosed("x")] * 3] * 3, policy=retry_policy(attempts=2))
    assert served(house.ask())[0] == 502
    assert sum(house.asked()) == 2


def test_no_new_try_after_the_deadline() -> None:
    house = House([ConnectFailed("x")], [FakeAnswer()], policy=retry_policy(deadline_s=-1.0))
    assert served(house.ask())[0] == 502
    assert house.asked() == [1, 0]


def test_a_body_that_is_too_large_to_keep_is_not_sent_again() -> None:
    house = House([BackendClosed("x")], [FakeAnswer()], policy=retry_policy(body_bytes=4))
    assert served(house.ask(b"PUT", Pieces(b"12345")))[0] == 502
    assert house.asked() == [1, 0]


def test_a_refusal_after_a_try_that_may_have_acted_still_tells_of_the_first() -> None:
    house = House([BackendTimeout("slow")])
    status, body = served(house.ask())
    assert (status, json.loads(body)["detail"]) == (504, "slow")


def test_when_nobody_can_be_reached_it_is_503_with_retry_after() -> None:
    house = House([ConnectFailed("refused")], [ConnectFailed("refused")])
    exchange = house.ask()
    assert exchange.own_answer is not None
    assert dict(exchange.own_answer[1])["Retry-After"]
    assert served(exchange)[0] == 503
    assert house.edge_row.cells[:].tolist() != [0] * len(house.edge_row.cells)


def test_the_budget_keeps_a_sick_pool_from_being_stormed() -> None:
    house = House(*[[BackendClosed("x")] * 2000] * 2, policy=retry_policy(attempts=2))
    for backend in house.backends:
        backend.learned.breaker.policy = BreakerPolicy(failures=10_000, ratio=1.0, min_requests=10_000)
    for _ in range(500):
        served(house.ask())
    assert 500 + 100 <= sum(house.asked()) < 500 + 100 + 101 + 5  # 20% of 500, and 10/s saved up over 10 s


# Answers that count as failures.


def test_a_503_is_tried_elsewhere_and_its_answer_thrown_away() -> None:
    bad = FakeAnswer(503, b"sorry", block=b"Retry-After: 30\r\n")
    house = House([bad], [FakeAnswer(200, b"ok")])
    assert served(house.ask()) == (200, b"ok")
    assert bad.closed
    assert house.counted(FAILED) == [1, 0]
    assert house.counted(IN_FLIGHT) == [0, 0]


@pytest.mark.parametrize("here", [True, False])
def test_a_503_to_a_post_is_the_answer(here: bool) -> None:
    house = House([FakeAnswer(503, b"sorry", here=here)], [FakeAnswer()])
    assert served(house.ask(b"POST", Pieces(b"order"))) == (503, b"sorry")
    assert house.asked() == [1, 0]


@pytest.mark.parametrize("here", [True, False])
def test_the_last_503_is_the_answer_and_a_failure(here: bool) -> None:
    house = House([FakeAnswer(503, b"sorry", here=here)])
    assert served(house.ask()) == (503, b"sorry")
    assert house.counted(FAILED) == [1]
    assert house.counted(IN_FLIGHT) == [0]


def test_failures_eject_and_somebody_is_told_once() -> None:
    house = House([BackendClosed("x")] * 5, [FakeAnswer() for _ in range(9)], breaker=BreakerPolicy(failures=3))
    for _ in range(8):
        served(house.ask())
    assert house.events.changes == [("a", "opened")]


# Ends.


def test_a_client_that_leaves_before_its_answer_has_been_read_is_499_and_no_evidence() -> None:
    house = House([FakeAnswer(200, b"he", b"llo", here=False)])
    exchange = house.ask()
    exchange({}, lambda *_: None)
    assert next(exchange) == b"he"
    exchange.close()
    exchange.close()
    assert (exchange.status, len(house.logged)) == (499, 1)
    assert house.counted(ABANDONED) == [1]
    assert house.counted(FAILED) == [0]
    assert house.counted(IN_FLIGHT) == [0]


def test_an_answer_that_nobody_began_to_read_gives_its_lease_back() -> None:
    """A HEAD or 304 under Werkzeug: a generator that never starts runs no `finally`."""
    house = House([FakeAnswer(200, b"body", here=False)])
    exchange = house.ask()
    exchange.close()
    assert house.counted(IN_FLIGHT) == [0]


def test_an_answer_that_is_cut_raises_and_counts_against_the_backend() -> None:
    house = House([FakeAnswer(200, b"he", BadAnswer("cut"), here=False)])
    exchange = house.ask()
    handler = _Handler()
    exchange({HANDLER: handler}, handler.start_response)
    assert handler.begun[0][0][0] == 200
    assert next(exchange) == b"he"
    with pytest.raises(BadAnswer):
        next(exchange)
    exchange.close()
    assert (exchange.status, exchange.error) == (200, exchange.error)
    assert exchange.error is not None
    assert exchange.error.detail == "cut"
    assert house.counted(FAILED) == [1]


def test_a_foreign_server_gets_a_cut_as_a_broken_connection() -> None:
    """gunicorn logs a traceback for everything else that a WSGI app raises."""
    house = House([FakeAnswer(200, BadAnswer("cut"), here=False)])
    exchange = house.ask()
    exchange({}, lambda *_: None)
    with pytest.raises(ConnectionResetError):
        next(exchange)
    exchange.close()
    assert house.counted(FAILED) == [1]


@pytest.mark.parametrize("error", [ClientGone("left"), ClientTimeout("slow"), PayloadTooLarge("big")])
def test_a_failure_of_the_client_is_not_tried_again_and_no_evidence(error: EdgeError) -> None:
    house = House([error], [FakeAnswer()])
    status, body = served(house.ask(b"PUT", Pieces(b"x")))
    assert status == error.status
    assert (body == b"") == (status == 499)
    assert house.asked() == [1, 0]
    assert house.counted(ABANDONED) == [1, 0]
    assert house.counted(FAILED) == [0, 0]


def test_a_bug_gives_the_lease_back_too() -> None:
    house = House([RuntimeError("bug")])
    with pytest.raises(RuntimeError):
        house.ask()
    assert house.counted(IN_FLIGHT) == [0]


class _Handler:
    """What an exchange asks of our own server; its client is gone when the first byte goes out."""

    def __init__(self, write: Callable[[bytes], None] = lambda _: None) -> None:
        self.writer = self
        self.write = write
        self.begun: list[Any] = []

    def start_response(self, *_head: Any) -> None:
        raise AssertionError("our own server is told in its own way")

    def begin_answer(self, *head: Any, **more: Any) -> None:
        self.begun.append((head, more))


def test_a_client_that_is_gone_when_its_short_answer_goes_out_leaves_nothing_open() -> None:
    """The server has not been given the exchange yet, so it can't close it."""

    def gone(_piece: bytes) -> None:
        raise ConnectionResetError("gone")

    house = House([FakeAnswer(200, b"hello")])
    exchange = house.ask()
    handler = _Handler(gone)
    with pytest.raises(ConnectionResetError):
        exchange({HANDLER: handler}, handler.start_response)
    assert house.counted(IN_FLIGHT) == [0]
    assert house.logged == [exchange]


def test_an_empty_piece_has_the_head_sent_when_the_body_is_not_here_yet() -> None:
    answer = FakeAnswer(200, b"data", here=False)
    answer.connection, answer.at_hand = object(), False
    exchange = House([answer]).ask()
    exchange({}, lambda *_: None)
    assert [next(exchange), next(exchange)] == [b"", b"data"]


def test_a_204_has_no_length() -> None:
    for status, kept in ((204, False), (304, True), (200, True)):
        exchange = House([FakeAnswer(status, block=b"A: 1\r\nContent-Length: 0\r\nB: 2\r\n")]).ask()
        names = [name for name, _ in exchange.pairs(exchange.attempts.answer)]  # type: ignore[arg-type]
        assert names == (["A", "Content-Length", "B", "Via"] if kept else ["A", "B", "Via"])


def test_flasks_own_dispatch_adds_nothing_and_closes() -> None:
    house = House([FakeAnswer(200, b"hello", block=b"X: y\r\n", here=False)])
    response = PassedResponse(house.ask())
    assert response.headers.to_wsgi_list() == [("X", "y"), ("Via", "1.1 smartedge")]
    assert b"".join(response.get_app_iter({"REQUEST_METHOD": "GET"})) == b"hello"
    response.get_app_iter({"REQUEST_METHOD": "HEAD"}).close()
    assert house.counted(IN_FLIGHT) == [0]


@pytest.mark.parametrize(
    ("block", "seconds"),
    [
        (b"Retry-After: 7\r\n", 7.0),
        (b"X: y\r\nretry-after:  12 \r\nZ: 1\r\n", 12.0),
        (b"Retry-After: 999999\r\n", 300.0),
        (b"Retry-After: Wed, 21 Oct 2015 07:28:00 GMT\r\n", None),
        (b"X-Retry-After: 7\r\n", None),
        (b"", None),
    ],
)
def test_retry_after_is_read_and_capped(block: bytes, seconds: float | None) -> None:
    assert retry_after(AnswerFields(block)) == seconds
