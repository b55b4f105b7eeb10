"""The queue, with backends that answer when they are told to."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import gevent
import pytest
from gevent.event import Event

from smartedge.balancer.backend import Backend, BackendSpec, Cell, Learned
from smartedge.balancer.errors import AllFull, ConnectFailed, NoBackend
from smartedge.balancer.pool import Pool
from smartedge.balancer.retry import RetryPolicy
from smartedge.balancer.strategies import STRATEGIES
from smartedge.proxy.exchange import Exchange
from smartedge.proxy.forward import Forwarder, Plan
from smartedge.proxy.headers import RequestFields
from smartedge.proxy.request import Request
from tests.proxy.test_forward import FakeAnswer, Told, served


class Held:
    """A backend's transport: each request waits until it is let go."""

    netloc = b"held:80"

    def __init__(self, name: str, *, refuses: int = 0) -> None:
        self.name = name
        self.refuses = refuses
        self.targets: list[bytes] = []
        self.gates: list[Event] = []

    def send(self, outbound: Any) -> FakeAnswer:
        if self.refuses:
            self.refuses -= 1
            raise ConnectFailed("refused")
        self.targets.append(outbound.head.split()[1])
        gate = Event()
        self.gates.append(gate)
        gate.wait(5)
        return FakeAnswer(200, b"from " + self.name.encode())


class House:
    """An edge whose backends take one request at a time."""

    def __init__(self, *transports: Held, size: int = 10, wait_s: float = 5.0) -> None:
        self.transports = transports
        self.backends = []
        for transport in transports:
            learned = Learned()
            learned.health.probed(True)
            spec = BackendSpec(transport.name, f"http://{transport.name}:80", max_in_flight=1)
            self.backends.append(Backend(spec, learned, transport))
        self.edge = Learned()
        self.pool = Pool(self.backends, STRATEGIES["round_robin"](), random.Random(1))
        plan = Plan(RetryPolicy(), queue=size, queue_s=wait_s)
        self.forwarder = Forwarder(self.pool, plan, self.edge, Told(), lambda: "id")
        self.requests: list[Request] = []

    def ask(self, target: bytes) -> Any:
        """Begin a request; the greenlet gives its exchange."""
        block = b"Host: h\r\n"
        request = Request(b"GET", target, 11, block, RequestFields(block), b"1.2.3.4", False)
        self.requests.append(request)
        greenlet = gevent.spawn(self.forwarder, request)
        gevent.sleep(0)
        gevent.sleep(0)
        return greenlet

    def counted(self, cell: Cell) -> int:
        return self.edge.cells[cell]


def done(greenlet: Any) -> Exchange:
    """Read its answer, as a server does."""
    exchange: Exchange = greenlet.get(timeout=5)
    served(exchange)
    return exchange


@pytest.fixture
def one() -> Iterator[tuple[House, Held]]:
    held = Held("a")
    yield House(held), held
    for gate in held.gates:
        gate.set()


def let_go(held: Held) -> None:
    """Let the request under way have its answer, and see what comes of it."""
    held.gates[-1].set()
    for _ in range(5):
        gevent.sleep(0)


def test_who_finds_all_full_waits_and_goes_in_the_order_of_arrival(one: tuple[House, Held]) -> None:
    house, held = one
    waiting = [house.ask(target) for target in (b"/1", b"/2", b"/3", b"/4")]
    assert (held.targets, house.counted(Cell.QUEUED)) == ([b"/1"], 3)
    for count in (2, 3, 4):
        let_go(held)
        assert held.targets == [b"/1", b"/2", b"/3", b"/4"][:count]
    let_go(held)
    assert [done(greenlet).status for greenlet in waiting] == [200] * 4
    assert (house.counted(Cell.QUEUED), house.counted(Cell.QUEUE_REFUSED)) == (0, 0)
    assert house.backends[0].in_flight() == 0


def test_nobody_who_comes_later_is_served_before_the_queue(one: tuple[House, Held]) -> None:
    house, held = one
    house.ask(b"/1")
    house.ask(b"/2")
    held.gates[0].set()
    late = house.ask(b"/3")
    gevent.sleep(0.01)
    assert held.targets == [b"/1", b"/2"]
    let_go(held)
    let_go(held)
    assert done(late).status == 200


def test_a_full_queue_refuses_with_503_and_a_time_to_come_back() -> None:
    held = Held("a")
    house = House(held, size=1)
    first, second = house.ask(b"/1"), house.ask(b"/2")
    refused = done(house.ask(b"/3"))
    assert refused.own_answer is not None
    assert refused.status == 503
    assert dict(refused.own_answer[1])["Retry-After"] == "1"
    assert house.counted(Cell.QUEUE_REFUSED) == 1
    let_go(held)
    let_go(held)
    assert [done(first).status, done(second).status] == [200, 200]


def test_who_waited_for_too_long_is_refused_too() -> None:
    held = Held("a")
    house = House(held, wait_s=0.05)
    first, second = house.ask(b"/1"), house.ask(b"/2")
    refused = done(second)
    assert isinstance(refused.error, AllFull)
    assert "0.05 s" in refused.error.detail
    assert (house.counted(Cell.QUEUED), house.counted(Cell.QUEUE_REFUSED)) == (0, 1)
    let_go(held)
    assert done(first).status == 200


def test_without_a_queue_nobody_waits() -> None:
    held = Held("a")
    house = House(held, size=0)
    first = house.ask(b"/1")
    assert done(house.ask(b"/2")).status == 503
    let_go(held)
    done(first)


def test_a_client_that_leaves_gives_up_its_place(one: tuple[House, Held]) -> None:
    house, held = one
    first, gone, third = house.ask(b"/1"), house.ask(b"/gone"), house.ask(b"/3")
    gevent.get_hub().loop.run_callback(house.requests[1].on_gone)
    exchange = done(gone)
    assert (exchange.status, exchange.attempts) == (499, 0)
    assert house.counted(Cell.QUEUED) == 1
    let_go(held)
    let_go(held)
    assert [done(first).status, done(third).status] == [200, 200]
    assert held.targets == [b"/1", b"/3"]


def test_a_client_that_leaves_as_its_turn_comes_keeps_no_lease(one: tuple[House, Held]) -> None:
    house, held = one
    first, gone = house.ask(b"/1"), house.ask(b"/gone")
    place = house.forwarder.queue.places[0]
    leave = house.requests[1].on_gone
    assert leave is not None
    lease_now = place.request.lease_now

    def and_leave(now: float, tried: Any) -> Any:
        lease = lease_now(now, tried)
        leave()
        return lease

    place.request.lease_now = and_leave  # type: ignore[method-assign]
    held.gates[0].set()
    assert done(gone).status == 499
    assert done(first).status == 200
    assert house.backends[0].in_flight() == 0


def test_room_that_nobody_told_of_is_seen_a_moment_later(one: tuple[House, Held]) -> None:
    """What other workers give back, or a health check brings."""
    house, held = one
    other_worker = Learned()
    learned = house.backends[0].learned
    learned.meet((learned.cells, other_worker.cells))
    other_worker.add(Cell.IN_FLIGHT)
    waiting = house.ask(b"/1")
    assert held.targets == []
    other_worker.add(Cell.IN_FLIGHT, -1)
    gevent.sleep(0.1)
    assert held.targets == [b"/1"]
    let_go(held)
    assert done(waiting).status == 200


def test_who_comes_when_there_is_room_again_goes_behind_those_who_wait_for_it(one: tuple[House, Held]) -> None:
    house, held = one
    other_worker = Learned()
    learned = house.backends[0].learned
    learned.meet((learned.cells, other_worker.cells))
    other_worker.add(Cell.IN_FLIGHT)
    first = house.ask(b"/1")
    other_worker.add(Cell.IN_FLIGHT, -1)
    second = house.ask(b"/2")
    gevent.sleep(0.1)
    assert held.targets == [b"/1"]
    let_go(held)
    let_go(held)
    assert [done(first).status, done(second).status] == [200, 200]


def test_the_size_is_that_of_the_whole_edge(one: tuple[House, Held]) -> None:
    house, held = one
    other_worker = Learned()
    house.edge.meet((house.edge.cells, other_worker.cells))
    other_worker.add(Cell.QUEUED, 10)
    first = house.ask(b"/1")
    assert done(house.ask(b"/2")).status == 503
    let_go(held)
    done(first)


def test_when_no_backend_is_left_the_queue_hears_of_it(one: tuple[House, Held]) -> None:
    house, held = one
    first, second = house.ask(b"/1"), house.ask(b"/2")
    house.pool.set_will("a", "disabled")
    exchange = done(second)
    assert isinstance(exchange.error, NoBackend)
    assert not isinstance(exchange.error, AllFull)
    let_go(held)
    done(first)


def test_a_retry_waits_too_and_never_for_the_backend_that_it_has_tried() -> None:
    bad, busy = Held("a"), Held("b")
    house = House(bad, busy)
    first, second = house.ask(b"/1"), house.ask(b"/2")
    let_go(bad)
    done(first)
    bad.refuses = 1
    retried = house.ask(b"/3")  # refused by a, and b is full
    third = house.ask(b"/4")  # behind it, but a has room
    gevent.sleep(0.1)
    assert (bad.targets, busy.targets) == ([b"/1", b"/4"], [b"/2"])
    let_go(busy)
    assert busy.targets == [b"/2", b"/3"]
    let_go(busy)
    let_go(bad)
    assert [done(greenlet).status for greenlet in (second, retried, third)] == [200, 200, 200]


def test_a_killed_request_leaves_nothing_behind(one: tuple[House, Held]) -> None:
    house, held = one
    first, killed, third = house.ask(b"/1"), house.ask(b"/2"), house.ask(b"/3")
    killed.kill()
    assert house.counted(Cell.QUEUED) == 1
    let_go(held)
    assert held.targets == [b"/1", b"/3"]
    let_go(held)
    assert [done(first).status, done(third).status] == [200, 200]
