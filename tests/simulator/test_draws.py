from __future__ import annotations

from collections import Counter
from itertools import pairwise
from random import Random
from statistics import fmean, pstdev
from typing import Any

import pytest

from smartedge.simulator.draws import Arrival, arrivals, rate_of, work_of
from smartedge.simulator.scenario import ArrivalsConfig, ServiceTimeConfig


def drawn(duration_s: float = 100.0, seed: str = "1", **config: Any) -> list[Arrival]:
    return list(arrivals(ArrivalsConfig.model_validate(config), duration_s, Random(seed)))


def test_a_poisson_process_has_its_rate_and_gaps_as_wide_as_they_vary() -> None:
    times = [arrival.at for arrival in drawn(per_s=100)]
    gaps = [later - earlier for earlier, later in pairwise(times)]

    assert len(times) == pytest.approx(10_000, rel=0.05)
    assert pstdev(gaps) == pytest.approx(fmean(gaps), rel=0.05)
    assert max(times) < 100


def test_constant_arrivals_come_at_even_distances() -> None:
    assert [arrival.at for arrival in drawn(3.0, per_s=2, kind="constant")] == [0.5, 1.0, 1.5, 2.0, 2.5]


def test_the_same_seed_draws_the_same_requests_and_another_seed_others() -> None:
    assert drawn(per_s=10) == drawn(per_s=10)
    assert drawn(per_s=10) != drawn(per_s=10, seed="2")


def test_at_night_there_are_fewer_and_over_the_day_as_many_as_said() -> None:
    config = ArrivalsConfig(per_s=1.0, night_ratio=0.25)
    rate = rate_of(config)

    assert rate(4 * 3600.0) == pytest.approx(0.25 * rate(16 * 3600.0))
    assert len(drawn(86_400.0, per_s=1, night_ratio=0.25)) == pytest.approx(86_400, rel=0.02)


def test_a_share_of_the_requests_may_be_repeated() -> None:
    assert fmean(arrival.idempotent for arrival in drawn(per_s=100, idempotent_ratio=0.3)) == pytest.approx(0.3, abs=0.03)


def test_keys_are_asked_for_alike_or_the_first_ones_more() -> None:
    even = Counter(arrival.key for arrival in drawn(per_s=100, keys=4))
    skewed = Counter(arrival.key for arrival in drawn(per_s=100, keys=4, skew=1))

    assert all(count == pytest.approx(2_500, rel=0.1) for count in even.values())
    assert skewed[0] / skewed[3] == pytest.approx(4, rel=0.15)
    assert set(even) == set(skewed) == {0, 1, 2, 3}


@pytest.mark.parametrize("kind", ["fixed", "exponential", "lognormal"])
def test_every_distribution_has_its_mean(kind: str) -> None:
    work = work_of(ServiceTimeConfig.model_validate({"kind": kind, "mean_s": 0.02, "sigma": 0.5}))
    spots = [(n + 0.5) / 20_000 for n in range(20_000)]

    assert fmean(map(work, spots)) == pytest.approx(0.02, rel=0.01)


def test_the_spread_of_a_lognormal_one_is_that_of_its_logarithm() -> None:
    from math import log

    work = work_of(ServiceTimeConfig(kind="lognormal", mean_s=0.02, sigma=0.5))

    assert pstdev(log(work((n + 0.5) / 20_000)) for n in range(20_000)) == pytest.approx(0.5, rel=0.01)
    assert work(0.0) > 0


def test_some_requests_take_many_times_as_long() -> None:
    work = work_of(ServiceTimeConfig(kind="fixed", mean_s=0.01, slow_ratio=0.25, slow_factor=50))

    assert [work(spot) for spot in (0.0, 0.74, 0.75, 0.99)] == [0.01, 0.01, 0.5, 0.5]


def test_more_work_in_a_request_is_more_on_any_machine() -> None:
    for kind in ("exponential", "lognormal"):
        work = work_of(ServiceTimeConfig.model_validate({"kind": kind, "slow_ratio": 0.1}))
        quick = [work(n / 100) for n in range(1, 90)]
        assert quick == sorted(quick)
