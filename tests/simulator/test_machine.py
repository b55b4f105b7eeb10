from __future__ import annotations

from typing import Any

import pytest

from smartedge.balancer.health import OK_STATUSES, HealthPolicy
from tests.policies import health_policy
from tests.simulator.makers import Asked, Clock


def test_requests_beyond_the_slots_wait_in_the_order_in_which_they_came() -> None:
    clock = Clock(slots=2)
    for name in "abcd":
        clock.machine.accept_try(0.0, Asked(name))

    assert clock.run() == [(1.0, "a", 200), (1.0, "b", 200), (2.0, "c", 200), (2.0, "d", 200)]


def test_one_that_waited_begins_when_a_slot_is_free_and_the_request_is_there() -> None:
    clock = Clock(slots=1)
    clock.machine._round_trip_s = 0.4
    clock.machine.accept_try(0.0, Asked("a"))  # from 0.4 to 1.4
    clock.machine.accept_try(0.2, Asked("b"))  # there at 0.6, begins at 1.4
    clock.run(2.3)
    clock.machine.accept_try(2.3, Asked("c"))  # there at 2.7, b ends at 2.4

    assert clock.run() == [(1.4, "a", 200), (2.4, "b", 200), (3.7, "c", 200)]


def test_slowness_is_a_factor_on_what_begins_after_the_change() -> None:
    clock = Clock(slots=1)
    clock.machine.accept_try(0.0, Asked("a"))
    clock.machine.accept_try(0.0, Asked("b"))
    clock.machine.change_behaviour(0.5, clock.like(slots=1, slowness=3))

    assert clock.run() == [(1.0, "a", 200), (4.0, "b", 200)]


def test_more_slots_take_from_the_queue_at_once() -> None:
    clock = Clock(slots=1)
    for name in "abc":
        clock.machine.accept_try(0.0, Asked(name))
    clock.machine.change_behaviour(0.5, clock.like(slots=3))

    assert clock.run() == [(1.0, "a", 200), (1.5, "b", 200), (1.5, "c", 200)]


def test_it_fails_those_that_are_out_of_luck_after_the_work() -> None:
    clock = Clock(fail_ratio=0.5, fail_status=503)
    clock.machine.accept_try(0.0, Asked("unlucky", luck=0.49))
    clock.machine.accept_try(0.0, Asked("lucky", luck=0.5))

    assert clock.run() == [(1.0, "unlucky", 503), (1.0, "lucky", 200)]


def test_one_that_fails_fast_needs_no_slot_for_it() -> None:
    clock = Clock(slots=1, fail_ratio=0.5, fail_s=0.1)
    clock.machine.accept_try(0.0, Asked("lucky", luck=0.9))
    clock.machine.accept_try(0.0, Asked("unlucky", luck=0.1))

    assert clock.run() == [(0.1, "unlucky", 500), (1.0, "lucky", 200)]


def test_one_that_goes_down_cuts_what_it_has_and_refuses_what_comes() -> None:
    clock = Clock(slots=1)
    clock.machine.accept_try(0.0, Asked("working"))
    clock.machine.accept_try(0.0, Asked("waiting"))
    clock.machine.change_behaviour(0.5, clock.like(slots=1, state="down"))
    clock.machine.accept_try(0.6, Asked("late"))
    clock.run(2.0)
    clock.machine.change_behaviour(2.0, clock.like(slots=1))
    clock.machine.accept_try(2.0, Asked("again"))

    assert clock.run() == [
        (0.5, "working", "cut"),
        (0.5, "waiting", "cut"),
        (0.6, "late", "refused"),
        (3.0, "again", 200),
    ]


def test_one_that_leaves_ends_what_it_has_and_refuses_what_comes() -> None:
    clock = Clock(slots=1)
    clock.machine.accept_try(0.0, Asked("working"))
    clock.machine.accept_try(0.0, Asked("waiting"))
    clock.machine.change_behaviour(0.5, clock.like(slots=1, state="leaving"))
    clock.machine.accept_try(0.6, Asked("late"))

    assert clock.run() == [(0.6, "late", "refused"), (1.0, "working", 200), (2.0, "waiting", 200)]


def test_one_that_hangs_answers_nothing_not_even_what_it_was_working_on() -> None:
    clock = Clock()
    clock.machine.accept_try(0.0, Asked("before"))
    clock.machine.change_behaviour(0.5, clock.like(state="hang"))
    clock.machine.accept_try(0.6, Asked("meanwhile"))
    clock.run()
    clock.machine.change_behaviour(5.0, clock.like())
    clock.machine.accept_try(5.0, Asked("after"))

    assert clock.run() == [(6.0, "after", 200)]


def test_going_down_cuts_what_hangs() -> None:
    clock = Clock(state="hang")
    clock.machine.accept_try(0.0, Asked("a"))
    clock.machine.change_behaviour(1.0, clock.like(state="down"))

    assert clock.run() == [(1.0, "a", "cut")]


def test_a_request_that_nobody_waits_for_keeps_its_slot_and_tells_nothing() -> None:
    clock = Clock(slots=1, fail_ratio=0.2, fail_s=0.1)
    gone, unlucky = Asked("gone"), Asked("unlucky", luck=0.1)
    clock.machine.accept_try(0.0, gone)
    clock.machine.accept_try(0.0, Asked("next"))
    clock.machine.accept_try(0.0, unlucky)
    gone.over = unlucky.over = True

    assert clock.run() == [(2.0, "next", 200)]


def test_nothing_is_told_of_a_request_that_was_given_up_before_the_cut() -> None:
    clock = Clock()
    gone = Asked("gone")
    clock.machine.accept_try(0.0, gone)
    gone.over = True
    clock.machine.change_behaviour(0.5, clock.like(state="down"))

    assert clock.run() == []


def test_a_cache_makes_keys_quick_that_were_asked_for_lately() -> None:
    clock = Clock(slots=1, cache={"entries": 2, "hit_factor": 0.1})
    for key in (1, 2, 1, 3, 1, 2):  # 3 puts 2 out, for 1 was asked for later
        clock.machine.accept_try(0.0, Asked(str(key), key=key))

    times = [now for now, _, _ in clock.run()]
    assert [round(b - a, 3) for a, b in zip([0.0, *times], times, strict=False)] == [1, 1, 0.1, 1, 0.1, 1]


@pytest.mark.parametrize(
    ("behaviour", "found"),
    [
        ({}, True),
        ({"fail_ratio": 0.6}, False),
        ({"fail_ratio": 0.4}, True),
        ({"fail_ratio": 1, "probes": "good"}, True),
        ({"probes": "bad"}, False),
        ({"state": "hang"}, None),
        ({"state": "hang", "probes": "good"}, True),
        ({"state": "down", "probes": "good"}, False),
        ({"state": "leaving"}, False),
    ],
)
def test_a_probe_finds_what_requests_do_unless_the_scenario_says_otherwise(behaviour: dict[str, object], found: object) -> None:
    assert Clock(**behaviour).machine.answer_probe(0.5, health_policy()) is found


def test_a_machine_that_was_down_comes_back_with_an_empty_cache() -> None:
    clock = Clock(cache={"entries": 2, "hit_factor": 0.1})
    clock.machine.accept_try(0.0, Asked("cold", key=1))
    clock.run()
    clock.machine.change_behaviour(2.0, clock.like(state="down"))
    clock.machine.change_behaviour(3.0, clock.like(cache={"entries": 2, "hit_factor": 0.1}))
    clock.machine.accept_try(3.0, Asked("cold again", key=1))

    assert clock.run() == [(1.0, "cold", 200), (4.0, "cold again", 200)]


@pytest.mark.parametrize(
    ("policy", "behaviour", "found"),
    [
        (health_policy(), {"fail_ratio": 1, "fail_status": 404}, True),
        (health_policy(statuses=OK_STATUSES), {"fail_ratio": 1, "fail_status": 404}, False),
        (health_policy(), {"fail_ratio": 1, "fail_status": 500}, False),
        (health_policy(type="tcp"), {"fail_ratio": 1}, True),
        (health_policy(type="tcp"), {"state": "hang"}, True),
        (health_policy(type="tcp"), {"state": "down"}, False),
    ],
)
def test_a_probe_judges_as_the_edges_do(policy: HealthPolicy, behaviour: dict[str, Any], found: bool) -> None:
    assert Clock(**behaviour).machine.answer_probe(0.5, policy) is found
