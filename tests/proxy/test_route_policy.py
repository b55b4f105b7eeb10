from __future__ import annotations

from smartedge.proxy.route_policy import RoutePolicy
from tests.house import policy_of
from tests.policies import retry_policy

SERVICE = policy_of(retry_policy(deadline_s=60.0))


def test_a_route_that_says_nothing_has_its_services_policy() -> None:
    assert RoutePolicy().over(SERVICE) == SERVICE


def test_what_a_route_says_goes_before_what_the_service_says_and_the_rest_stays() -> None:
    policy = RoutePolicy(tunnel_idle_s=5.0, attempts=1, statuses=frozenset((503,)), body_bytes=7).over(SERVICE)
    assert policy.tunnel_idle_s == 5.0
    assert policy.retry == retry_policy(deadline_s=60.0, attempts=1, statuses=frozenset((503,)), body_bytes=7)
    assert (policy.failures, policy.queue) == (SERVICE.failures, SERVICE.queue)
    assert policy.remarkable == SERVICE.failures | {503}


def test_whoever_may_wait_longer_for_one_answer_has_time_for_it_unless_a_deadline_is_written() -> None:
    assert RoutePolicy(first_byte_s=90.0).over(SERVICE).retry.deadline_s == 90.0
    assert RoutePolicy(first_byte_s=9.0).over(SERVICE).retry.deadline_s == 60.0
    assert RoutePolicy(first_byte_s=90.0, deadline_s=30.0).over(SERVICE).retry.deadline_s == 30.0
