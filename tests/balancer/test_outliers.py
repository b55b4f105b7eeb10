from __future__ import annotations

from collections.abc import Sequence

import pytest

from smartedge.balancer.backend import Backend
from smartedge.balancer.cells import FAILED, OK, latency_cell
from smartedge.balancer.outliers import Outlier, OutlierDetector, OutlierPolicy
from tests.house import backends
from tests.policies import outlier_policy

NOW = 1000.0
BOTH = outlier_policy(latency_factor=5.0, failure_ratio=0.3)


def work(backend: Backend, latency_s: float = 0.01, failed: int = 0, requests: int = 100) -> None:
    """Let it have answered so many requests."""
    backend.learned.add(OK, requests - failed)
    backend.learned.add(FAILED, failed)
    backend.learned.add(latency_cell(latency_s), requests)


def looked(members: Sequence[Backend], policy: OutlierPolicy = BOTH, **odd: float) -> list[Outlier]:
    """What is found after an interval in which the first backend was odd and the others were not."""
    detector = OutlierDetector()
    for one in members:
        work(one, 3.0, 50)  # what was before the detector came, it does not count
    assert detector.look(members, policy, NOW) == []
    for index, one in enumerate(members):
        work(one, **(odd if index == 0 else {}))  # type: ignore[arg-type]
    return detector.look(members, policy, NOW + 10.0)


def test_a_backend_that_is_much_slower_than_the_others_is_found() -> None:
    members = backends(1, 1, 1)
    (found,) = looked(members, latency_s=0.1)
    assert (found.backend, found.kind) == (members[0], "latency")
    assert found.value == pytest.approx(0.1, rel=0.2)
    assert found.others == pytest.approx(0.01, rel=0.2)
    assert str(found).startswith("median latency ")


def test_a_backend_that_fails_much_more_than_the_others_is_found() -> None:
    members = backends(1, 1, 1)
    (found,) = looked(members, failed=31)
    assert (found.backend, found.kind, found.value, found.others) == (members[0], "failures", 0.31, 0.0)
    assert str(found) == "31% of its requests failed, 0% of the others'"


@pytest.mark.parametrize("odd", [{}, {"latency_s": 0.04}, {"failed": 30}, {"latency_s": 0.1, "failed": 99, "requests": 19}])
def test_nothing_is_found_where_nothing_stands_out_or_too_little_is_known(odd: dict[str, float]) -> None:
    assert looked(backends(1, 1, 1), **odd) == []


def test_a_factor_of_next_to_nothing_is_none() -> None:
    members = backends(1, 1, 1)
    detector = OutlierDetector()
    detector.look(members, BOTH, NOW)
    for one in members:
        work(one, 0.004 if one is members[0] else 0.0002)
    assert detector.look(members, BOTH, NOW + 10.0) == []


def test_what_fails_everywhere_is_nobodys_fault() -> None:
    members = backends(1, 1, 1)
    detector = OutlierDetector()
    detector.look(members, BOTH, NOW)
    for one in members:
        work(one, 1.0, failed=80)
    assert detector.look(members, BOTH, NOW + 10.0) == []


def test_of_two_nobody_can_say_which_one_is_the_outlier() -> None:
    assert looked(backends(1, 1), latency_s=1.0, failed=99) == []


@pytest.mark.parametrize(
    ("policy", "kinds"),
    [
        (outlier_policy(latency_factor=5.0), ["latency"]),
        (outlier_policy(failure_ratio=0.3), ["failures"]),
        (BOTH, ["failures", "latency"]),
        (outlier_policy(), []),
    ],
)
def test_only_what_the_operator_asks_for_is_looked_at(policy: OutlierPolicy, kinds: list[str]) -> None:
    assert [found.kind for found in looked(backends(1, 1, 1), policy, latency_s=1.0, failed=99)] == kinds


def test_it_looks_once_in_an_interval_and_only_at_what_is_new() -> None:
    members = backends(1, 1, 1)
    detector = OutlierDetector()
    detector.look(members, BOTH, NOW)
    for one in members:
        work(one, 0.1 if one is members[0] else 0.01)
    assert detector.look(members, BOTH, NOW + 9.9) == []
    assert len(detector.look(members, BOTH, NOW + 10.0)) == 1
    assert detector.look(members, BOTH, NOW + 20.0) == []


def test_a_backend_that_has_just_come_is_not_judged_by_what_it_did_before() -> None:
    *old, new = backends(1, 1, 1, 1)
    detector = OutlierDetector()
    detector.look(old, BOTH, NOW)
    for one in (*old, new):
        work(one, 0.1 if one is new else 0.01)
    assert detector.look([*old, new], BOTH, NOW + 10.0) == []
