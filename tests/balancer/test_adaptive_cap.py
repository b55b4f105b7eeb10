from __future__ import annotations

import heapq
import random
from collections import deque

import pytest

from smartedge.balancer.adaptive_cap import BASE_S, FIRST, LEAST, LOOK_S, MOST, AdaptiveCap
from smartedge.balancer.cells import CAP_LOOKS_UNTIL, private_row
from smartedge.balancer.learned import Learned
from tests.house import backend, pool

STEP_S = 0.026  # ten of them are a window
SERVICE_S = 0.024


class Busy:
    """A backend with so many slots, and an edge that sends as much as the cap lets it: in virtual time."""

    def __init__(self, slots: int, service_s: float, rate: float, seed: int = 1) -> None:
        self.cap = AdaptiveCap(private_row())
        self.slots, self.service_s, self.rate = slots, service_s, rate
        self.rng = random.Random(seed)
        self.now = 0.0
        self.in_flight = self.answered = self.refused = 0
        self.latencies: list[float] = []
        self._served: list[tuple[float, float]] = []
        self._queue: deque[float] = deque()
        self._next = 0.0

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        self.answered = self.refused = 0
        self.latencies = []
        while self.now < end:
            if self._served and self._served[0][0] < self._next:
                self.now, began = heapq.heappop(self._served)
                self.cap.observe(self.now, self.now - began, self.in_flight)
                self.in_flight -= 1
                self.answered += 1
                self.latencies.append(self.now - began)
                if self._queue:
                    self._serve(self._queue.popleft())
                continue
            self.now = self._next
            self._next = self.now + self.rng.expovariate(self.rate)
            if self.in_flight >= self.cap.value:
                self.refused += 1
                continue
            self.in_flight += 1
            if len(self._served) < self.slots:
                self._serve(self.now)
            else:
                self._queue.append(self.now)

    def _serve(self, began: float) -> None:
        heapq.heappush(self._served, (self.now + self.service_s * self.rng.uniform(0.7, 1.3), began))

    def mean_s(self) -> float:
        return sum(self.latencies) / len(self.latencies)


@pytest.mark.parametrize("slots", [4, 8, 30])
def test_under_twice_the_load_a_backend_does_all_it_can_and_queues_little(slots: int) -> None:
    busy = Busy(slots, SERVICE_S, rate=2 * slots / SERVICE_S)
    busy.run(150)
    busy.run(20)
    assert slots <= busy.cap.value <= 4 * slots
    assert busy.mean_s() < 3 * SERVICE_S
    assert busy.answered > 0.9 * 20 * slots / SERVICE_S


def test_what_a_backend_can_do_is_not_refused() -> None:
    busy = Busy(8, 0.008, rate=500)
    busy.run(120)
    assert busy.refused == 0


def test_a_backend_that_gets_slower_for_good_is_believed_after_a_while() -> None:
    busy = Busy(8, 0.008, rate=200)
    busy.run(60)
    busy.service_s = 0.024
    busy.run(2 * BASE_S)
    busy.run(20)
    assert busy.refused < 0.02 * busy.answered


def answers(cap: AdaptiveCap, now: float, latency_s: float, in_flight: int, count: int = 11) -> float:
    """A window's worth of them; return when it ended."""
    for _ in range(count):
        now += STEP_S
        cap.observe(now, latency_s, in_flight)
    return now


def test_it_starts_where_it_says_and_stays_there_while_nothing_speaks_for_more() -> None:
    cap = AdaptiveCap(private_row())
    assert cap.value == FIRST
    now = answers(cap, 0.0, 0.01, in_flight=1)
    answers(cap, now, 0.01, in_flight=1)
    assert cap.value == FIRST


def test_it_grows_while_more_requests_cost_nothing() -> None:
    cap, now = AdaptiveCap(private_row()), 0.0
    for _ in range(400):
        now = answers(cap, now, 0.01, in_flight=cap.value)
    assert cap.value == MOST


def test_it_falls_as_the_latency_grows_and_never_below_the_least() -> None:
    cap, now = AdaptiveCap(private_row()), 0.0
    now = answers(cap, now, 0.01, in_flight=1)
    now = answers(cap, now, 0.1, in_flight=1)
    assert cap.value < FIRST
    for _ in range(80):
        now = answers(cap, now, 5.0, in_flight=0)
        assert cap.value >= LEAST
    assert cap.value == LEAST


def test_a_latency_of_nothing_is_no_trouble() -> None:
    cap = AdaptiveCap(private_row())
    now = answers(cap, 0.0, 0.0, in_flight=20)
    answers(cap, now, 0.0, in_flight=20)
    assert cap.value > FIRST


def test_a_backend_that_is_always_busy_is_looked_at_with_a_quarter_of_its_requests() -> None:
    cap, now = AdaptiveCap(private_row()), 0.0
    now = answers(cap, now, 0.02, in_flight=20)
    while not cap.reals[CAP_LOOKS_UNTIL]:
        before = cap.value
        now = answers(cap, now, 0.025, in_flight=before)
    assert now > BASE_S
    quarter = cap.value
    assert quarter < before / 3
    now = answers(cap, now, 0.025, in_flight=before)  # requests from before
    assert cap.value == quarter
    now = answers(cap, now, 0.008, in_flight=quarter)
    assert not cap.reals[CAP_LOOKS_UNTIL]
    before = cap.value
    assert before > 3 * quarter
    answers(cap, now, 0.025, in_flight=before)  # which is a queue, as is known now
    assert cap.value < before


def test_a_look_ends_though_other_workers_keep_the_backend_busy() -> None:
    cap, now = AdaptiveCap(private_row()), 0.0
    now = answers(cap, now, 0.02, in_flight=20)
    while not cap.reals[CAP_LOOKS_UNTIL]:
        now = answers(cap, now, 0.025, in_flight=cap.value)
    for _ in range(int(LOOK_S / STEP_S)):
        now = answers(cap, now, 0.025, in_flight=100)
    assert not cap.reals[CAP_LOOKS_UNTIL]


def test_all_workers_have_one_cap() -> None:
    row = private_row()
    one, two = AdaptiveCap(row), AdaptiveCap(row)
    now = 0.0
    for _ in range(20):
        now = answers(one, now, 0.01, in_flight=one.value)
    assert one.value == two.value > FIRST


def test_a_pool_keeps_to_the_cap_and_answers_move_it() -> None:
    member = backend("a", max_in_flight="adaptive")
    target = pool([member])
    leases = [target.lease(1000.0) for _ in range(int(FIRST))]
    assert member.full()
    assert member.cap() == FIRST
    now = 1000.0
    for lease in leases:
        now += STEP_S
        lease.finish(now, 200)
    assert not member.full()
    for _ in range(40):
        now += STEP_S
        target.lease(now - 2.0).finish(now, 200)
    assert FIRST != member.cap() == member.learned.adaptive_cap.value


def test_without_one_nothing_is_learned_of_it() -> None:
    member = backend("a", max_in_flight=3)
    target = pool([member])
    for step in range(50):
        target.lease(1000.0 + step).finish(1000.5 + step, 200)
    assert (member.cap(), member.learned.adaptive_cap.value) == (3, FIRST)
    assert backend("b").cap() is None
    assert not Learned().adapts
