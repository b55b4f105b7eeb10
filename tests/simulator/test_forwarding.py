"""A request's way in virtual time: first tries, retries, hedges."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.simulator.makers import outcome, outcome_figures

RETRY = {"statuses": [500, 502, 503, 504]}
HEDGE = RETRY | {"hedge": True}
LATE = {"service": {"kind": "fixed", "mean_s": 0.01, "slow_ratio": 0.02, "slow_factor": 40}, "slots": 100}


def test_a_failed_request_is_tried_on_another_backend_and_its_client_knows_nothing() -> None:
    world = {"backend": {"probes": "good"}, "backends": [{"id": "a", "fail_ratio": 1}]}
    found = outcome_figures(world, retry=RETRY)

    assert found.errors == 0
    assert found.retries == found.tries["a"] >= 5
    assert found.max_s == pytest.approx(0.02), "the time of both"


def test_a_status_that_is_not_to_be_retried_reaches_the_client() -> None:
    found = outcome_figures({"backend": {"fail_ratio": 0.1, "fail_status": 500, "probes": "good"}}, retry={"statuses": [503]})

    assert found.errors == found.statuses[500] == pytest.approx(found.requests / 10, rel=0.3)
    assert found.retries == 0


def test_what_may_not_be_repeated_is_not() -> None:
    world = {"arrivals": {"per_s": 100, "idempotent_ratio": 0}, "backend": {"fail_ratio": 0.1, "probes": "good"}}

    found = outcome_figures(world, retry=RETRY)
    assert found.retries == 0
    assert found.errors > 0


def test_a_refused_connection_is_tried_elsewhere_whatever_the_method() -> None:
    world = {
        "arrivals": {"per_s": 100, "idempotent_ratio": 0},
        "backends": [{"id": "a", "changes": [{"at_s": 3, "state": "down"}]}],
    }
    found = outcome_figures(world)

    assert found.errors <= 1, "one that was being worked on may be cut"
    assert found.retries > 0


def test_the_budget_bounds_the_retries_of_a_sick_pool() -> None:
    world = {"backend": {"fail_ratio": 0.9, "fail_status": 503, "probes": "good"}, "arrivals": {"per_s": 1_000}}
    found = outcome_figures(world, retry=RETRY, breaker={"failures": 1_000_000, "ratio": 1, "min_requests": 1_000_000})

    assert found.retries == pytest.approx(found.requests * 0.2 + 10 * 20, rel=0.1), "a fifth, and 10 a second over the window"


def test_a_request_that_hangs_is_given_up_after_the_time_out() -> None:
    world = {"backends": [{"id": "a", "state": "hang", "probes": "good"}]}
    alone = outcome_figures(world, timeouts={"first_byte_s": 0.5}, retry={"attempts": 1})
    retried = outcome_figures(world, timeouts={"first_byte_s": 0.5})

    assert alone.statuses.keys() == {200, 504}
    assert retried.errors == 0
    assert retried.max_s < 0.3, "as soon as it is known to be silent they go elsewhere"


def test_time_outs_end_requests_in_the_order_of_their_time() -> None:
    world = {
        "duration_s": 2,
        "warmup_s": 0,
        "backend": {"state": "hang", "probes": "good"},
        "arrivals": {"per_s": 10, "kind": "constant"},
    }
    found = outcome(world, count=1, timeouts={"first_byte_s": 1}, retry={"attempts": 1})

    assert list(found.took_s) == pytest.approx([1.0] * len(found.took_s))
    assert list(found.status) == [504] * len(found.took_s)


def test_with_no_backend_left_the_edge_answers_503() -> None:
    found = outcome({"backend": {"changes": [{"at_s": 1, "state": "down"}]}})
    last = [(status, backend) for at, status, backend in zip(found.at, found.status, found.backend, strict=True) if at > 8]

    assert Counter(last).keys() == {(503, -1)}


def test_a_backend_that_cuts_its_requests_costs_them_a_retry_only() -> None:
    world = {
        "backend": {"service": {"kind": "fixed", "mean_s": 0.5}, "slots": 100},
        "backends": [{"id": "a", "changes": [{"at_s": 5, "state": "down"}]}],
    }
    found = outcome_figures(world)

    assert found.errors == 0
    assert 0.5 < found.max_s < 1.01


def test_a_hedge_rescues_a_request_that_is_late() -> None:
    plain, hedged = outcome_figures({"backend": LATE}, retry=RETRY), outcome_figures({"backend": LATE}, retry=HEDGE)

    assert plain.p99_s == pytest.approx(0.4)
    assert hedged.p99_s < 0.04, "the delay, no more than 15 ms, and another request"
    assert 0 < hedged.hedges < 0.08 * hedged.requests
    assert sum(hedged.tries.values()) == hedged.requests + hedged.hedges
    assert (plain.hedges, hedged.retries, hedged.errors) == (0, 0, 0)


def test_a_hedge_finds_the_way_past_a_backend_that_hangs() -> None:
    world = {
        "duration_s": 20,
        "backend": {"probes": "good"},
        "backends": [{"id": "a", "changes": [{"at_s": 5, "state": "hang"}]}],
    }
    found = outcome_figures(world, timeouts={"first_byte_s": 5}, retry=HEDGE)

    assert found.errors == 0
    assert found.max_s < 0.1
    assert found.tries["a"] < 300, "and it is soon asked no more"


def test_what_may_not_be_repeated_is_not_hedged() -> None:
    world = {"arrivals": {"per_s": 100, "idempotent_ratio": 0}, "backend": LATE}

    assert outcome_figures(world, retry=HEDGE).hedges == 0


def test_hedges_that_fail_like_the_first_try_leave_the_client_with_the_failure() -> None:
    world = {"backend": LATE | {"fail_ratio": 1, "probes": "good"}}
    found = outcome_figures(world, retry=HEDGE | {"attempts": 2}, breaker={"failures": 1_000_000, "min_requests": 1_000_000})

    assert found.statuses == {500: found.requests}
    assert found.hedges + found.retries > 0
