"""Who waits for a lease, in virtual time."""

from __future__ import annotations

import pytest

from tests.simulator.makers import outcome


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
