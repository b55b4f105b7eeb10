from __future__ import annotations

import itertools
import random
from dataclasses import replace

import pytest

from smartedge.balancer.backend import Backend
from smartedge.balancer.health import ProbeResult
from smartedge.balancer.learned import Learned
from smartedge.balancer.spec import TlsSpec
from smartedge.health.schedule import SYNCED, Schedule, ScheduledProbe
from tests.policies import backend_spec, health_policy

POLICY = health_policy(interval_s=10.0)


def member(label: str = "a", **spec: object) -> Backend:
    made = backend_spec(**{"id": label, "url": f"http://{label}", "health": POLICY} | spec)  # type: ignore[arg-type]
    backend = Backend(made, Learned(made))
    backend.learned.health.probed(True)  # settled: the full interval applies
    return backend


def again(backend: Backend, **changes: object) -> Backend:
    """The same backend after a reload: another spec, the same learned things."""
    return Backend(replace(backend.spec, **changes), backend.learned)  # type: ignore[arg-type]


def taken(schedule: Schedule, now: float) -> list[str]:
    return [entry.backend.id for entry in iter(lambda: schedule.take_due(now), None)]


def take(schedule: Schedule, now: float) -> ScheduledProbe:
    entry = schedule.take_due(now)
    assert entry is not None
    return entry


@pytest.fixture
def schedule() -> Schedule:
    return Schedule(random.Random(1))


def test_an_empty_schedule_is_never_due(schedule: Schedule) -> None:
    schedule.sync([], 0.0)
    assert schedule.next_due() == float("inf")
    assert schedule.take_due(1e9) is None


def test_new_backends_are_due_at_once_in_their_order_and_each_only_once(schedule: Schedule) -> None:
    schedule.sync([member("a"), member("b"), member("c")], 5.0)
    assert schedule.next_due() == 5.0
    assert taken(schedule, 5.0) == ["a", "b", "c"]
    assert schedule.next_due() == float("inf")


def test_intervals_count_from_start_to_start_with_a_jitter_of_ten_percent(schedule: Schedule) -> None:
    schedule.sync([member()], 0.0)
    gaps = []
    start = 0.0
    for _ in range(300):
        entry = take(schedule, start)
        schedule.done(entry, start + 0.7)
        gaps.append(schedule.next_due() - start)
        start = schedule.next_due()
    assert min(gaps) >= 9.0
    assert max(gaps) <= 11.0
    assert max(gaps) - min(gaps) > 1.5


def test_many_that_begin_together_are_spread_over_the_first_interval(schedule: Schedule) -> None:
    schedule.sync([member(f"b{number}") for number in range(1000)], 0.0)
    while entry := schedule.take_due(0.0):
        schedule.done(entry, 0.0)
    dues = []
    while (due := schedule.next_due()) < 10.0:
        dues.append(due)
        schedule.done(take(schedule, due), due)
    in_each = [sum(second <= due < second + 1 for due in dues) for second in range(9)]
    assert min(in_each) > 60
    assert max(in_each) < 140


def test_a_probe_that_took_longer_than_the_interval_is_followed_at_once(schedule: Schedule) -> None:
    schedule.sync([member()], 0.0)
    schedule.done(take(schedule, 0.0), 42.0)
    assert schedule.next_due() == 42.0


@pytest.mark.parametrize(("interval_s", "longest"), [(10.0, 1.1), (0.2, 0.22)])
def test_a_backend_between_states_is_probed_at_least_every_second(interval_s: float, longest: float) -> None:
    schedule = Schedule(random.Random(1))
    backend = member(health=health_policy(interval_s=interval_s))
    schedule.sync([backend], 0.0)
    entry = take(schedule, 0.0)
    backend.learned.health.probed(False)
    schedule.done(entry, 0.0)
    assert longest * 0.8 < schedule.next_due() <= longest


def test_a_removed_backend_is_out_also_while_it_is_probed(schedule: Schedule) -> None:
    a, b = member("a"), member("b")
    schedule.sync([a, b], 0.0)
    probed = take(schedule, 0.0)
    schedule.sync([], 1.0)
    assert not schedule.knows(probed)
    schedule.done(probed, 1.0)
    assert schedule.next_due() == float("inf")
    assert schedule.take_due(100.0) is None


def test_a_reload_that_leaves_the_health_settings_keeps_the_due_time_and_takes_the_new_backend(
    schedule: Schedule,
) -> None:
    old = member()
    schedule.sync([old], 0.0)
    entry = take(schedule, 0.0)
    schedule.done(entry, 0.0)
    due = schedule.next_due()
    new = again(old, weight=7)
    schedule.sync([new], 1.0)
    assert schedule.next_due() == due
    assert schedule.knows(entry)
    assert entry.backend is new


@pytest.mark.parametrize("changes", [{"health": health_policy(path="/up")}, {"tls": TlsSpec(verify=False)}])
def test_a_backend_that_is_now_asked_something_else_is_due_at_once_and_an_old_answer_does_not_count(
    schedule: Schedule, changes: dict[str, object]
) -> None:
    old = member()
    schedule.sync([old], 0.0)
    asked = take(schedule, 0.0)
    schedule.sync([again(old, **changes)], 0.3)
    assert not schedule.knows(asked)
    assert schedule.next_due() == 0.3
    schedule.done(asked, 0.4)
    assert taken(schedule, 0.4) == ["a"]


def test_a_nudge_brings_the_next_probe_forward_once(schedule: Schedule) -> None:
    backend = member()
    schedule.sync([backend], 0.0)
    schedule.done(take(schedule, 0.0), 0.1)
    assert schedule.nudge(backend)
    assert schedule.next_due() == 0.5
    assert not schedule.nudge(backend), "it is on its way already"
    entry = take(schedule, 0.6)
    assert schedule.take_due(0.6) is None
    schedule.done(entry, 0.7)
    assert schedule.next_due() > 9.0, "and then the pace is the old one"
    assert schedule.nudge(backend)
    assert schedule.next_due() == 1.1


def test_nudges_without_end_cause_no_more_than_two_probes_a_second(schedule: Schedule) -> None:
    backend = member()
    schedule.sync([backend], 0.0)
    started = []
    for tick in range(1000):
        now = tick / 100
        schedule.nudge(backend)
        if entry := schedule.take_due(now):
            started.append(now)
            schedule.nudge(backend)
            schedule.done(entry, now)
    assert len(started) == 20
    assert all(later - earlier >= 0.5 for earlier, later in itertools.pairwise(started))


def test_a_nudge_during_a_probe_brings_the_one_after_it(schedule: Schedule) -> None:
    backend = member()
    schedule.sync([backend], 0.0)
    entry = take(schedule, 0.0)
    assert not schedule.nudge(backend), "nothing waits for it yet"
    schedule.done(entry, 0.2)
    assert schedule.next_due() == 0.5


def test_a_nudge_delays_nothing(schedule: Schedule) -> None:
    backend = member(health=health_policy(interval_s=0.1))
    schedule.sync([backend], 0.0)
    schedule.done(take(schedule, 0.0), 0.0)
    due = schedule.next_due()
    assert not schedule.nudge(backend)
    assert schedule.next_due() == due < 0.12


def test_a_nudge_for_an_unknown_backend_is_ignored(schedule: Schedule) -> None:
    assert not schedule.nudge(member("stranger"))


def test_each_backend_follows_its_own_interval(schedule: Schedule) -> None:
    quick, slow = member("quick", health=health_policy(interval_s=1)), member("slow")
    schedule.sync([quick, slow], 0.0)
    counts = {"quick": 0, "slow": 0}
    while (now := schedule.next_due()) < 100:
        entry = take(schedule, now)
        counts[entry.backend.id] += 1
        schedule.done(entry, now)
    assert 91 <= counts["quick"] <= 111
    assert 10 <= counts["slow"] <= 12


def test_whoever_takes_over_goes_on_where_the_other_one_stopped(schedule: Schedule) -> None:
    lately, long_ago, never = member("lately"), member("long_ago"), member("never")
    for backend, at in ((lately, 95.0), (long_ago, 20.0)):
        backend.learned.keep_probe(at, ProbeResult(True, 200, "status 200", 0.001))
    schedule.sync([lately], 0.0)  # it may have led before
    schedule.resume([lately, long_ago, never], 100.0)
    assert sorted(taken(schedule, 100.0)) == ["long_ago", "never"]
    assert 104.0 <= schedule.next_due() <= 106.0
    assert [backend.id for backend in schedule.backends()] == ["lately", "long_ago", "never"]


def test_backends_that_are_gone_are_not_held_until_they_would_have_been_due(schedule: Schedule) -> None:
    """With an hour between probes, and fifty others each second, they were 180,000."""
    for round_ in range(50):
        schedule.sync([member(f"b{round_}-{number}") for number in range(10)], float(round_))
        while (entry := schedule.take_due(float(round_))) is not None:
            schedule.done(entry, float(round_))

    assert len(schedule._heap) <= 2 * 10 + 10
    assert len(list(schedule.backends())) == 10


def test_members_are_taken_over_in_pieces_and_what_comes_between_goes_by_those_of_before(schedule: Schedule) -> None:
    stays, goes = member("stays"), member("goes")
    schedule.sync([stays, goes], 0.0)
    first, second = take(schedule, 0.0), take(schedule, 0.0)
    turns: list[bool] = []

    def pause() -> None:
        turns.append(schedule.knows(second))
        if turns[-1]:
            schedule.done(first, 0.5)  # its probe has ended just now
            assert schedule.next_due() > 1.0  # and nothing new is due before all of it is there

    others = [member(f"b{number}") for number in range(2 * SYNCED)]
    schedule.sync([stays, *others], 1.0, pause)
    assert turns == [True, True, False]
    assert not schedule.knows(second)
    assert taken(schedule, 1.0) == [one.id for one in others]
    assert schedule.next_due() > 9.0
    assert schedule.take_due(20.0) is first
