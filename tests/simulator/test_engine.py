from __future__ import annotations

from collections import Counter
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from smartedge.simulator.engine import compare
from tests.simulator.makers import outcome, outcome_figures, scenario

RETRY = {"statuses": [500, 502, 503, 504]}


def test_one_slot_with_exponential_work_waits_as_long_as_queueing_theory_says() -> None:
    """M/M/1: the mean time of a request is 1 / (service rate - arrival rate); p99 is ln(100) times that."""
    world = {
        "duration_s": 1_000,
        "arrivals": {"per_s": 50},
        "backend": {"service": {"kind": "exponential", "mean_s": 0.01}, "slots": 1, "probes": "good"},
    }
    took_s = sorted(outcome(world, count=1).took_s)

    assert fmean(took_s) == pytest.approx(1 / (100 - 50), rel=0.05)
    assert took_s[int(len(took_s) * 0.99)] == pytest.approx(4.605 / (100 - 50), rel=0.07)


def test_all_requests_are_answered_and_shared_in_turn() -> None:
    found = outcome_figures()

    assert found.requests == pytest.approx(1_000, rel=0.1)
    assert (found.errors, found.retries, found.hedges) == (0, 0, 0)
    assert abs(found.tries["a"] - found.tries["b"]) <= 1
    assert found.p50_s == found.max_s == pytest.approx(0.01)


def test_the_network_adds_its_times() -> None:
    assert outcome_figures({"network": {"client_s": 0.002, "backend_s": 0.03}}).p50_s == pytest.approx(0.042)


def test_requests_of_the_warm_up_are_not_counted() -> None:
    whole, part = outcome(), outcome({"warmup_s": 5})

    assert list(part.at) == [at for at in whole.at if at >= 5]
    assert sum(part.tries) == len(part.at)


def test_every_strategy_sees_the_same_requests() -> None:
    world = {"strategies": ["round_robin", "ewma"], "backend": {"service": {"kind": "exponential"}, "slots": 1_000}}
    made = scenario(world)
    runs = compare(made)

    assert runs[0].requests == runs[1].requests
    # With slots for all, a request takes what is in it, wherever it is sent.
    assert runs[0].over_time == pytest.approx(runs[1].over_time)


def test_the_same_seed_gives_the_same_and_another_one_another() -> None:
    world: dict[str, Any] = {"strategies": ["ewma"], "backend": {"service": {"kind": "lognormal"}, "fail_ratio": 0.1}}

    assert compare(scenario(world)) == compare(scenario(world))
    assert compare(scenario(world)) != compare(scenario(world | {"seed": 2}))


def test_a_failed_request_is_tried_on_another_backend_and_its_client_knows_nothing() -> None:
    world = {"backend": {"probes": "good"}, "backends": [{"id": "a", "fail_ratio": 1}]}
    found = outcome_figures(world, retry=RETRY)

    assert found.errors == 0
    assert found.retries == found.tries["a"] >= 5
    assert found.max_s == pytest.approx(0.02), "the time of both"


def test_a_breaker_ejects_a_backend_that_fails_and_lets_it_back() -> None:
    world = {
        "duration_s": 30,
        "backend": {"probes": "good"},
        "backends": [{"id": "a", "fail_ratio": 1, "changes": [{"at_s": 8, "fail_ratio": 0}]}],
    }
    found = outcome_figures(world, retry=RETRY, breaker={"failures": 5, "open_s": 2})

    assert 5 <= found.retries <= 12, "five, and the one probe of each half-open round"
    assert found.tries["a"] > 500, "since it was readmitted"


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


def test_probes_take_a_backend_out_and_bring_it_back() -> None:
    changes = [{"at_s": 5, "state": "hang"}, {"at_s": 12, "state": "up"}]
    posts = {"per_s": 100, "idempotent_ratio": 0}  # which wait, though it is silent
    world = {"duration_s": 20, "arrivals": posts, "backends": [{"id": "a", "changes": changes}]}
    quiet = {"failures": 1_000_000, "min_requests": 1_000_000}
    found = outcome(world, timeouts={"first_byte_s": 1}, breaker=quiet)
    slow = [at for at, took_s in zip(found.at, found.took_s, strict=True) if took_s > 0.5]
    by_a = [at for at, backend in zip(found.at, found.backend, strict=True) if backend == 0]

    assert slow, "until three probes in a row had failed"
    assert min(slow) >= 5 - 0.01
    assert max(slow) < 11, "with a time-out of 1 s, three probes that come every 2 s and then every 1 s"
    assert len(slow) < 60, "and few of them: it is silent after a tenth of a second, and asked again when nothing waits there"
    assert [at for at in by_a if 11 < at < 12] == []
    assert 12 < min(at for at in by_a if at > 11) < 17


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


def test_weights_share_the_requests_out() -> None:
    written = [{"url": "http://a:1", "id": "a", "weight": 3}, {"url": "http://b:1", "id": "b"}]
    found = outcome_figures(backends=written)

    assert found.shares["a"] == pytest.approx(0.75, abs=0.01)


HEDGE = RETRY | {"hedge": True}
LATE = {"service": {"kind": "fixed", "mean_s": 0.01, "slow_ratio": 0.02, "slow_factor": 40}, "slots": 100}


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


def test_with_all_backends_full_requests_wait_in_turn() -> None:
    world = {"backend": {"slots": 100}, "arrivals": {"per_s": 150, "kind": "constant"}, "duration_s": 2}
    one_by_one = {"in_flight_per_backend": 1, "queue": 10_000, "queue_s": 60}
    found = outcome(world, count=1, limits=one_by_one)

    assert list(found.status) == [200] * len(found.status)
    assert list(found.at) == sorted(found.at), "first come, first served"
    assert max(found.took_s) == pytest.approx(len(found.at) * 0.01 - 2, abs=0.05), "one after the other"


def test_who_waits_for_room_for_too_long_or_finds_the_queue_full_gets_503() -> None:
    world = {"backend": {"slots": 100}, "arrivals": {"per_s": 300, "kind": "constant"}, "duration_s": 3}
    late = outcome(world, count=1, limits={"in_flight_per_backend": 1, "queue": 10_000, "queue_s": 0.5})
    full = outcome(world, count=1, limits={"in_flight_per_backend": 1, "queue": 3})

    waited_s = [took_s for took_s, status in zip(late.took_s, late.status, strict=True) if status == 503]
    assert min(waited_s) >= 0.5 - 1e-9
    assert max(waited_s) <= 0.53
    assert {round(took_s, 6) for took_s, status in zip(full.took_s, full.status, strict=True) if status == 503} == {0.0}
    assert full.status.count(200) == pytest.approx(300, abs=10), "as many as one at a time can do"


def test_an_outlier_is_ejected_where_that_is_asked_for() -> None:
    world = {"duration_s": 20, "backends": [{"id": "a", "slowness": 5}]}
    usual, strict = (
        outcome_figures(world, count=3, outliers=outliers) for outliers in ({}, {"latency_factor": 2, "interval_s": 2})
    )

    assert usual.shares["a"] == pytest.approx(1 / 3, abs=0.01)
    assert strict.shares["a"] < 0.2


def test_slow_start_gives_a_newcomer_little_at_first() -> None:
    world = {"backends": [{"id": "a", "changes": [{"at_s": 2, "state": "down"}, {"at_s": 4, "state": "up"}]}], "duration_s": 15}

    def early(slow_start_s: float) -> int:
        found = outcome(world, slow_start_s=slow_start_s)
        first = min(at for at, backend in zip(found.at, found.backend, strict=True) if at > 4 and backend == 0)
        return sum(backend == 0 and first <= at < first + 1 for at, backend in zip(found.at, found.backend, strict=True))

    assert early(8) < early(0) / 2


def test_a_users_own_strategy_is_simulated_like_any_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_simulated.py").write_text(
        "class Last:\n    def pick(self, candidates, now, rng, key):\n        return candidates[-1]\n"
    )
    monkeypatch.chdir(tmp_path)

    found = outcome_figures({"strategies": ["own_simulated:Last"]})
    assert (found.strategy, found.tries["a"]) == ("own_simulated:Last", 0)


def test_a_refused_connection_has_the_backend_probed_soon() -> None:
    """With ten minutes between probes only traffic tells that it is gone; three probes a second apart then take it out."""
    world = {"duration_s": 30, "backends": [{"id": "a", "changes": [{"at_s": 2, "state": "down"}]}]}
    found = outcome_figures(world, health={"interval_s": 600}, breaker={"failures": 1_000_000, "min_requests": 1_000_000})

    assert found.errors <= 1
    assert found.retries < 5 * 50, "no more than five seconds of a's share"


def test_a_backend_that_falls_silent_is_asked_no_more_long_before_the_time_out() -> None:
    world = {
        "duration_s": 20,
        "backend": {"probes": "good"},
        "backends": [{"id": "a", "changes": [{"at_s": 5, "state": "hang"}]}],
    }
    found = outcome_figures(world, timeouts={"first_byte_s": 10})

    assert found.statuses == {200: found.requests}
    assert all(value is None or value < 3 for value in found.over_time), "who waits there is asked elsewhere"


@pytest.mark.parametrize("state", ["leaving", "down"])
def test_two_backends_that_restart_one_after_the_other_cost_nobody_anything(state: str) -> None:
    """a is away for a second, b half a second after it: 96 of 432 requests got 503 although one was up at every moment."""
    machines = [
        {"id": name, "changes": [{"at_s": at_s, "state": state}, {"at_s": at_s + 1.0, "state": "up"}]}
        for name, at_s in (("a", 2.0), ("b", 3.5))
    ]
    assert set(outcome({"backends": machines, "arrivals": {"per_s": 80}}).status) == {200}


def test_a_lone_backend_that_restarts_is_waited_for() -> None:
    changes = [{"at_s": 2.0, "state": "leaving"}, {"at_s": 2.8, "state": "up"}]
    result = outcome({"backends": [{"id": "a", "changes": changes}]}, count=1)
    assert set(result.status) == {200}
    assert 0.7 < max(result.took_s) < 0.85
    for options in ({"retry": {"wait_s": 0}}, {"limits": {"queue": 0}}):
        assert 503 in outcome({"backends": [{"id": "a", "changes": changes}]}, count=1, **options).status


def test_who_waits_for_a_backend_that_stays_away_gets_503_after_that_time() -> None:
    result = outcome({"backends": [{"id": "a", "changes": [{"at_s": 9.5, "state": "leaving"}]}]}, count=1)
    assert result.status.count(503) == sum(at >= 9.5 for at in result.at) > 20
    assert 1.0 <= max(result.took_s) < 1.05


@pytest.mark.parametrize("count", [2, 4])
def test_on_the_defaults_equal_backends_have_their_share_in_any_five_seconds(count: int) -> None:
    """`ewma` gave one of them 20 of 2,829 requests in a whole run; here none is a tenth off in any five seconds."""
    service = {"kind": "lognormal", "mean_s": 0.008, "sigma": 0.5}
    world = {"strategies": ["adaptive"], "duration_s": 30, "arrivals": {"per_s": 62.5 * count}, "backend": {"service": service}}
    seen = sorted(zip((found := outcome(world, count=count)).at, found.backend, strict=True))
    for start in range(25):
        asked = Counter(backend for at, backend in seen if start <= at < start + 5)
        assert min(asked.values()) > 0.9 * asked.total() / count
        assert max(asked.values()) < 1.1 * asked.total() / count
