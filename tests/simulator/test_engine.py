from __future__ import annotations

from collections import Counter
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from smartedge.simulator.engine import compare
from tests.simulator.makers import outcome, outcome_figures, scenario


@pytest.mark.long
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


def test_a_breaker_ejects_a_backend_that_fails_and_lets_it_back() -> None:
    world = {
        "duration_s": 30,
        "backend": {"probes": "good"},
        "backends": [{"id": "a", "fail_ratio": 1, "changes": [{"at_s": 8, "fail_ratio": 0}]}],
    }
    found = outcome_figures(world, retry={"statuses": [500, 502, 503, 504]}, breaker={"failures": 5, "open_s": 2})

    assert 5 <= found.retries <= 12, "five, and the one probe of each half-open round"
    assert found.tries["a"] > 500, "since it was readmitted"


def test_weights_share_the_requests_out() -> None:
    written = [{"url": "http://a:1", "id": "a", "weight": 3}, {"url": "http://b:1", "id": "b"}]
    found = outcome_figures(backends=written)

    assert found.shares["a"] == pytest.approx(0.75, abs=0.01)


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


def test_a_backend_that_falls_silent_is_asked_no_more_long_before_the_time_out() -> None:
    world = {
        "duration_s": 20,
        "backend": {"probes": "good"},
        "backends": [{"id": "a", "changes": [{"at_s": 5, "state": "hang"}]}],
    }
    found = outcome_figures(world, timeouts={"first_byte_s": 10})

    assert found.statuses == {200: found.requests}
    assert all(value is None or value < 3 for value in found.over_time), "who waits there is asked elsewhere"


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
