"""Requests that leave a silent backend, and what becomes of the tries that they leave there. Backends are socket pairs."""

from __future__ import annotations

from collections.abc import Iterator
from time import monotonic
from types import SimpleNamespace
from typing import Any

import gevent
import pytest
from gevent import socket

from smartedge.balancer.cells import FAILED, IN_FLIGHT, RETRIES, SILENT_SINCE
from smartedge.balancer.errors import ClientGone
from smartedge.balancer.silence import LATER_S, forget_lost
from smartedge.http.wire import Wire, WireClosed
from smartedge.proxy.connection import Connection
from smartedge.proxy.dialer import Way
from smartedge.proxy.exchange import Exchange
from smartedge.proxy.silent import MOST, leave_silent
from tests.fakes import FakeAnswer, Pieces
from tests.house import House, served
from tests.policies import retry_policy


@pytest.fixture(autouse=True)
def patience() -> Iterator[None]:
    with gevent.Timeout(5):
        yield


class Wired:
    """A backend's transport: each request waits at one end of a socket pair; `sent` has the other ends."""

    netloc = b"wired:80"

    def __init__(self, first_byte_s: float = 30.0) -> None:
        self.adapter = SimpleNamespace(limits=SimpleNamespace(first_byte_s=first_byte_s))
        self.sent: list[Any] = []

    def send(self, outbound: Any) -> FakeAnswer:
        ours, theirs = socket.socketpair()
        self.sent.append(theirs)
        connection = outbound.connection = Connection(Wire(ours), Way((), None), None)
        try:
            connection.wire.recv(5.0)
        except WireClosed:
            assert connection.failure is not None
            raise connection.failure from None
        finally:
            connection.wire.close()
        return FakeAnswer(200, b"good")


class Silent(House):
    """An edge with two backends: requests come to a and b in turn, and a is silent."""

    def __init__(self, first_byte_s: float = 30.0, **policy: Any) -> None:
        super().__init__(Wired(first_byte_s), Wired(first_byte_s), policy=retry_policy(**policy))
        kind = self.pool.evidence.kinds.find(b"GET", b"/", make=True)
        for _ in range(9):
            kind.learn(monotonic(), 0.001)

    def begin_all(self, count: int) -> list[Any]:
        return [self.begin() for _ in range(count)]

    def falls_silent(self) -> None:
        """Let what waits on a be late, and have it moved."""
        gevent.sleep(0.03)
        self.backends[0].learned.shared_reals[SILENT_SINCE] = monotonic()
        self.pool.renew_candidates()
        leave_silent(self.service, monotonic())

    def answer(self, name: str) -> None:
        for peer in self.transports["ab".index(name)].sent:
            peer.send(b"x")


def finish(greenlets: list[Any]) -> list[int]:
    """Wait for the exchanges and read their answers."""
    exchanges: list[Exchange] = [greenlet.get() for greenlet in greenlets]
    return [served(exchange)[0] for exchange in exchanges]


def test_who_waits_on_a_silent_backend_goes_elsewhere_and_its_try_stays_until_it_is_answered() -> None:
    house = Silent()
    asked = house.begin_all(4)
    house.until(2, 2)
    house.falls_silent()
    house.until(2, 4)
    assert house.counted(IN_FLIGHT) == [2, 4]
    house.answer("b")
    assert finish(asked) == [200] * 4
    assert house.backends[0].why_not(monotonic()) == "silent"
    gevent.sleep(0.1)
    house.answer("a")
    while house.counted(IN_FLIGHT) != [0, 0]:
        gevent.sleep(0.001)
    assert house.backends[0].why_not(monotonic()) is None, "it has answered what was overdue"
    assert house.counted(FAILED) == [0, 0]
    assert house.counted(RETRIES) == [0, 2]


@pytest.mark.parametrize("how", ["breaks", "never answers"])
def test_a_try_that_was_left_and_comes_to_nothing_is_a_failure(how: str) -> None:
    house = Silent(first_byte_s=0.1)
    asked = house.begin_all(2)
    house.until(1, 1)
    house.falls_silent()
    house.until(1, 2)
    if how == "breaks":
        house.transports[0].sent[0].close()
    while house.counted(FAILED) != [1, 0]:
        gevent.sleep(0.001)
    house.answer("b")
    assert finish(asked) == [200] * 2
    assert house.counted(IN_FLIGHT) == [0, 0]


def test_a_try_that_was_left_is_given_up_when_its_backend_is_another_process() -> None:
    """Ten that were lost with a machine counted as in flight for 30 s: adaptive sent nothing to who had taken its place."""
    house = Silent()
    asked = house.begin_all(2)
    house.until(1, 1)
    house.falls_silent()
    house.until(1, 2)
    learned = house.backends[0].learned
    learned.probed(monotonic(), False)
    learned.probed(monotonic(), True)
    forget_lost(learned, monotonic() + LATER_S)
    while house.counted(IN_FLIGHT) != [0, 2]:
        gevent.sleep(0.01)
    house.answer("b")
    assert finish(asked) == [200] * 2
    assert house.counted(FAILED) == [0, 0]


def test_only_so_many_are_left_and_the_other_connections_are_closed() -> None:
    house = Silent()
    asked = house.begin_all(2 * MOST + 8)
    house.until(MOST + 4, MOST + 4)
    house.falls_silent()
    house.until(MOST + 4, 2 * MOST + 8)
    assert house.counted(IN_FLIGHT)[0] == MOST
    house.answer("b")
    assert finish(asked) == [200] * (2 * MOST + 8)


def test_it_goes_as_far_as_the_budget_does() -> None:
    house = Silent(budget_ratio=0.0, budget_per_s=0.1)
    asked = house.begin_all(4)
    house.until(2, 2)
    house.falls_silent()
    house.until(2, 3)  # the oldest, and the budget was for one
    house.answer("a")
    house.answer("b")
    assert finish(asked) == [200] * 4


@pytest.mark.parametrize(("method", "body"), [(b"POST", None), (b"PUT", "half")])
def test_what_may_not_be_repeated_or_still_goes_up_stays(method: bytes, body: str | None) -> None:
    house = Silent()
    upload = Pieces(b"half", length=100) if body else None
    asked = [house.begin(method, upload)]
    house.until(1, 0)
    house.falls_silent()
    gevent.sleep(0.02)
    house.until(1, 0)
    house.answer("a")
    assert finish(asked) == [200]


def test_a_client_that_leaves_in_the_same_moment_leaves_no_lease() -> None:
    house = Silent()
    asked = house.begin()
    house.until(1, 0)
    house.falls_silent()
    exchange = next(iter(house.backends[0].learned.waiting)).holder
    exchange.give_up(ClientGone())
    assert finish([asked]) == [499]
    house.answer("a")
    while house.counted(IN_FLIGHT) != [0, 0]:
        gevent.sleep(0.001)
