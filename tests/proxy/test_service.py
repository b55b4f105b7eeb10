"""A service: what a reload changes of it, and what stays."""

from __future__ import annotations

import pytest

from smartedge.balancer.cells import FAILED, OK
from smartedge.proxy.service import MANY, Service
from tests.fakes import Events, FakeAnswer
from tests.house import House, backend, policy_of, pool, served, until
from tests.policies import retry_policy


def test_a_service_says_what_it_is() -> None:
    house = House([], [])
    assert repr(house.service) == "<Service default 2 backends, 0 waiting>"


def test_a_reload_changes_what_begins_later_and_what_is_under_way_keeps_its_policy() -> None:
    house = House([FakeAnswer(500, b"no", here=False), FakeAnswer(500, b"no", here=False)], policy=retry_policy(attempts=1))
    service = house.service
    under_way = house.ask()
    service.adapt_to(policy_of(service.policy.retry, failures=frozenset()))
    assert served(under_way) == (500, b"no")
    assert (house.counted(FAILED), house.counted(OK)) == ([1], [0])
    assert served(house.ask()) == (500, b"no")
    assert (house.counted(FAILED), house.counted(OK)) == ([1], [1])


def test_what_retries_have_been_paid_in_and_who_waits_outlive_a_reload() -> None:
    service = House([]).forwarder.service
    before = service.budget, service.queue, service.pool
    for _ in range(50):
        service.budget.deposit(1000.0)
    service.adapt_to(policy_of(retry_policy(hedge=True, budget_per_s=0.0, budget_ratio=0.5)))
    assert (service.budget, service.queue, service.pool) == before
    assert service.budget.left(1000.0) == 10  # at 0.2 each, as they were paid in
    assert service.pool.evidence.hedging


@pytest.mark.parametrize("count", [3, MANY])
def test_a_health_that_changes_is_in_force_at_once_or_with_others_of_the_same_moment(count: int) -> None:
    """With a thousand backends, fifty of which came each second, requests waited for the candidates again and again."""
    members = [backend(f"b{number}") for number in range(count)]
    service = Service("web", pool(members), policy_of(), Events())
    assert len(service.pool.candidates(1.0)) == count

    for member in members[:2]:
        for _ in range(3):
            member.learned.probed(1.0, False)
        service.renew_candidates_soon()
    at_once = len(service.pool.candidates(1.0))

    assert at_once == (count - 2 if count < MANY else count)
    until(lambda: len(service.pool.candidates(1.0)) == count - 2, 20)
    assert service._renewal is None
