"""Who may be picked, and what is said when nobody may."""

from __future__ import annotations

from random import Random

import pytest

from smartedge.balancer.candidates import Panic
from smartedge.balancer.errors import AllFull, NoBackend
from tests.balancer.leasing import fail, served
from tests.house import backend, backends, names, pool, set_state
from tests.policies import health_policy

NOW = 1000.0


def test_only_the_available_are_picked() -> None:
    members = backends(1, 1, 1, 1)
    target = pool(members)
    set_state(members[0], "draining")
    for _ in range(3):
        members[1].learned.health.probed(False)
    target.renew_candidates()
    assert served(target) == "c d"
    assert names(target.candidates(NOW)) == "c d"


def test_one_that_was_never_probed_waits_unless_nothing_else_can_serve() -> None:
    a, _ = members = (backend("a"), backend("b", probed=None))
    target = pool(members)
    assert served(target) == "a"
    for _ in range(3):
        a.learned.health.probed(False)
    target.renew_candidates()
    assert served(target) == "b"


@pytest.mark.parametrize(("panic", "expected"), [("all", "a b c"), ("fail", "c")])
def test_below_half_available_the_panic_policy_decides(panic: Panic, expected: str) -> None:
    a, b, _ = members = backends(1, 1, 1)
    target = pool(members, panic=panic)
    for one in (a, b):
        lease = target.lease(NOW)
        while one.learned.breaker.state == "closed":
            one.learned.breaker.failed(NOW, Random(1))
        lease.close(NOW, "abandoned")
    target.renew_candidates()
    assert served(target) == expected


def test_half_available_is_not_yet_panic() -> None:
    a, _ = members = backends(1, 1)
    target = pool(members)
    fail(target, a, 5)
    assert served(target) == "b"


def test_what_the_operator_drains_is_no_reason_for_panic_and_never_used_in_one() -> None:
    a, b, c, d = members = backends(1, 1, 1, 1)
    target = pool(members)
    fail(target, a, 5)
    set_state(c, "draining")
    set_state(d, "disabled")
    target.renew_candidates()
    assert served(target) == "b"  # one of two
    set_state(b, "draining")
    target.renew_candidates()
    assert served(target) == "a"  # none of one


def test_in_a_panic_the_unhealthy_stay_out() -> None:
    a, _, _ = members = (backend("a"), backend("b"), backend("c", probed=False))
    target = pool(members)
    fail(target, a, 5)
    assert served(target) == "a b"


def test_when_probes_say_that_all_are_down_there_is_no_backend() -> None:
    target = pool((backend("a", probed=False), backend("b", probed=False, health=health_policy(interval_s=0.5))))
    with pytest.raises(NoBackend) as caught:
        target.lease(NOW)
    assert caught.value.detail == "2 unhealthy"
    assert caught.value.retry_after_s == 0.5
    assert caught.value.status == 503


def test_no_backend_says_when_a_breaker_will_try_again() -> None:
    a, b = members = backends(1, 1)
    target = pool(members, panic="fail")
    fail(target, a, 5)
    set_state(b, "draining")
    target.renew_candidates()
    with pytest.raises(NoBackend) as caught:
        target.lease(NOW)
    assert caught.value.detail == "1 breaker_open, 1 draining"
    assert caught.value.retry_after_s == a.learned.breaker.next_change_at(NOW) - NOW


def test_an_empty_pool_has_no_backend() -> None:
    with pytest.raises(NoBackend, match="there are no backends") as caught:
        pool(()).lease(NOW)
    assert caught.value.retry_after_s == 1.0


def test_full_ones_that_were_not_tried_are_told_apart_from_none_at_all() -> None:
    members = (backend("a", max_in_flight=1), backend("b", max_in_flight=1), backend("c", probed=False))
    target = pool(members)
    one, two = target.lease(NOW), target.lease(NOW)
    with pytest.raises(AllFull, match="2 full, 1 unhealthy"):
        target.lease(NOW)
    with pytest.raises(AllFull):
        target.lease(NOW, [members[0]])
    with pytest.raises(NoBackend) as none:
        target.lease(NOW, members)
    assert not isinstance(none.value, AllFull)
    two.close(NOW, "ok")
    assert target.lease(NOW).backend is two.backend
    one.close(NOW, "ok")
