"""The tries of a request and the leases around them, with transports that answer as they are told."""

from __future__ import annotations

import json

import pytest

from smartedge.balancer.cells import (
    ABANDONED,
    FAILED,
    FAILED_ANSWER,
    FAILED_CLOSED,
    FAILED_CONNECT,
    FAILED_STATUS,
    FAILED_TIMEOUT,
    IN_FLIGHT,
    RETRIES,
    code_cell,
)
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
from smartedge.balancer.lease import REASON_CELLS
from tests.fakes import FakeAnswer, Pieces
from tests.house import House, served
from tests.policies import breaker_policy, retry_policy


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


@pytest.mark.parametrize(
    ("failure", "cell"),
    [
        (ConnectFailed("refused"), FAILED_CONNECT),
        (BackendTimeout("slow"), FAILED_TIMEOUT),
        (BackendClosed("closed"), FAILED_CLOSED),
        (BadAnswer("bad"), FAILED_ANSWER),
        (FakeAnswer(503, b"sorry"), FAILED_STATUS),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, int) else "",
)
def test_a_failure_is_counted_by_its_reason_once(failure: object, cell: int) -> None:
    house = House([failure], [FakeAnswer(200, b"ok")])
    assert served(house.ask()) == (200, b"ok")
    assert house.counted(FAILED) == [1, 0]
    counted = {reason: house.counted(one)[0] for reason, one in REASON_CELLS.items()}
    assert [one for reason, one in REASON_CELLS.items() if counted[reason]] == [cell]
    assert sum(counted.values()) == 1


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
    assert house.pool.row.cells[code_cell(503)] == 1


def test_the_budget_keeps_a_sick_pool_from_being_stormed() -> None:
    house = House(*[[BackendClosed("x")] * 2000] * 2, policy=retry_policy(attempts=2))
    for backend in house.backends:
        backend.learned.breaker.policy = breaker_policy(failures=10_000, ratio=1.0, min_requests=10_000)
    for _ in range(500):
        served(house.ask())
    assert 500 + 100 <= sum(house.asked()) < 500 + 100 + 101 + 5  # 20% of 500, and 10/s saved up over 10 s


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
    house = House([BackendClosed("x")] * 5, [FakeAnswer() for _ in range(9)], breaker=breaker_policy(failures=3))
    for _ in range(8):
        served(house.ask())
    assert house.events.changes == [("a", "opened")]


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
