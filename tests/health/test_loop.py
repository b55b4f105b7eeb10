"""The health loop, in greenlets of this process, against real servers in threads."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable

import gevent
import pytest
from gevent.event import Event

from smartedge.balancer.backend import Backend
from smartedge.balancer.health import ProbeResult
from smartedge.health.loop import BEGUN_AT_ONCE, HealthLoop
from smartedge.health.probe import HttpProbe
from tests.house import member, until
from tests.live.peers import Script, closes_without_answer, drips, endless_head, garbage, never_answers, never_reads
from tests.policies import health_policy

GOOD = ProbeResult(True, 200, "status 200", 0.001)
BAD = ProbeResult(False, None, "connection refused", 0.001)
RARELY = health_policy(interval_s=3600.0)


class Edge:
    """A running loop, the members it sees, and the changes it announced."""

    def __init__(self, *members: Backend, probe: Callable[[Backend], ProbeResult]) -> None:
        self.members = list(members)
        self.changes: list[tuple[str, str, str]] = []
        self.loop = HealthLoop(self.ask, probe, self.changed, random.Random(1))

    def ask(self) -> list[Backend]:
        return self.members

    def changed(self, backend: Backend, change: str, result: ProbeResult) -> None:
        self.changes.append((backend.id, change, result.detail))

    def __enter__(self) -> Edge:
        self.loop.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.loop.stop()


# --- the loop ---


def test_all_backends_are_probed_at_the_start_at_the_same_time() -> None:
    members = [member(f"http://{i}", str(i), health=RARELY) for i in range(20)]
    asked: set[str] = set()
    everybody = Event()

    def probe(backend: Backend) -> ProbeResult:
        asked.add(backend.id)
        if len(asked) == len(members):
            everybody.set()
        assert everybody.wait(5), "the others are not asked while one waits"
        return GOOD

    with Edge(*members, probe=probe) as edge:
        until(lambda: len(edge.changes) == 20)
    assert {change for _, change, _ in edge.changes} == {"up"}


def test_hundreds_of_mute_backends_hold_up_nobody_elses_probes() -> None:
    """64 probes at a time were waited for: with 320 mute backends the death of a sound one was noticed after 8.4 s."""
    members = [member(f"http://{i}", str(i), health=RARELY) for i in range(320)]
    sound = member("http://sound", "sound", health=health_policy(interval_s=0.02))
    mute: set[str] = set()
    asked = 0

    def probe(backend: Backend) -> ProbeResult:
        nonlocal asked
        if backend is sound:
            asked += 1
            return GOOD
        mute.add(backend.id)
        gevent.sleep(3600)
        return BAD

    with Edge(*members, sound, probe=probe):
        until(lambda: len(mute) == 320)
        before = asked
        until(lambda: asked > before + 5)


def test_when_thousands_are_due_the_event_loop_comes_round_in_between() -> None:
    members = [member(f"http://{i}", str(i), health=RARELY) for i in range(1000)]
    lots: list[int] = []
    round_of = 0

    def probe(_: Backend) -> ProbeResult:
        lots.append(round_of)
        return GOOD

    def count() -> None:
        nonlocal round_of
        round_of += 1

    watch = gevent.get_hub().loop.check()
    watch.start(count)
    try:
        with Edge(*members, probe=probe) as edge:
            until(lambda: len(edge.changes) == 1000)
    finally:
        watch.stop()
    assert max(map(lots.count, set(lots))) <= 4 * BEGUN_AT_ONCE  # a lot may be begun in one round and run in the next


def test_a_change_is_announced_once_and_the_latest_result_is_kept() -> None:
    results = iter([GOOD] * 5 + [BAD] * 6 + [GOOD] * 4)
    done = Event()

    def probe(backend: Backend) -> ProbeResult:
        result = next(results, None)
        if result is None:
            done.set()
            gevent.sleep(3600)
        assert result is not None
        return result

    backend = member()
    with Edge(backend, probe=probe) as edge:
        assert done.wait(5)
    assert edge.changes == [
        ("a", "up", "status 200"),
        ("a", "down", "connection refused"),
        ("a", "up", "status 200"),
    ]
    assert backend.learned.last_probe == GOOD
    assert edge.loop.last_run >= backend.learned.last_probe_at - 1


def test_a_backend_that_is_down_at_the_start_is_announced_at_once() -> None:
    backend = member(health=RARELY)
    with Edge(backend, probe=lambda _: BAD) as edge:
        until(lambda: edge.changes)
    assert edge.changes == [("a", "down", "connection refused")]
    assert backend.learned.health.state == "unhealthy"


def test_a_new_backend_is_probed_on_waking_and_a_removed_one_no_more() -> None:
    asked: list[str] = []

    def probe(backend: Backend) -> ProbeResult:
        asked.append(backend.id)
        return GOOD

    old, new = member(label="old"), member("http://b", "new", health=RARELY)
    with Edge(old, probe=probe) as edge:
        until(lambda: len(asked) > 2)
        edge.members = [new]
        edge.loop.wake()
        until(lambda: "new" in asked)
        del asked[:]
        gevent.sleep(0.1)  # five of its intervals
        assert asked == []


def test_the_answer_of_a_backend_that_was_removed_meanwhile_counts_for_nothing() -> None:
    asked, answer = Event(), Event()

    def probe(_: Backend) -> ProbeResult:
        asked.set()
        answer.wait()
        return BAD

    backend = member(health=RARELY)
    with Edge(backend, probe=probe) as edge:
        assert asked.wait(5)
        edge.members = []
        edge.loop.wake()
        gevent.sleep(0.01)
        answer.set()
        gevent.sleep(0.01)
    assert edge.changes == []
    assert backend.learned.health.state == "unknown"
    assert backend.learned.last_probe is None


def test_a_nudge_is_followed_by_a_probe_long_before_the_interval_ends() -> None:
    asked = 0

    def probe(_: Backend) -> ProbeResult:
        nonlocal asked
        asked += 1
        return GOOD

    backend = member(health=RARELY)
    with Edge(backend, probe=probe) as edge:
        until(lambda: edge.changes)
        for _ in range(100):
            edge.loop.nudge(backend)
        until(lambda: asked == 2)
        gevent.sleep(0.05)
        assert asked == 2


def test_nudging_and_waking_a_loop_that_does_not_run_is_harmless() -> None:
    edge = Edge(member(), probe=lambda _: GOOD)
    edge.loop.nudge(edge.members[0])
    edge.loop.wake()
    edge.loop.stop()
    assert edge.changes == []


def test_only_the_one_that_leads_probes_and_whoever_takes_over_goes_on() -> None:
    backend, leader, asked = member(health=health_policy(interval_s=0.3)), [0], ([], [])  # type: ignore[var-annotated]

    def worker(number: int) -> HealthLoop:
        def probe(_: Backend) -> ProbeResult:
            asked[number].append(time.monotonic())
            return GOOD

        leads = lambda _: leader[0] == number  # noqa: E731
        return HealthLoop(lambda: [backend], probe, lambda *_: None, random.Random(1), leads=leads)

    loops = [worker(0), worker(1)]
    for loop in loops:
        loop.start()
    until(lambda: len(asked[0]) >= 3)
    assert asked[1] == []
    leader[0] = 1
    until(lambda: len(asked[1]) >= 2)
    assert asked[1][0] - asked[0][-1] >= 0.3 * 0.85, "due an interval after the last probe, whoever made it"
    assert [loop.leading for loop in loops] == [False, True]
    for loop in loops:
        loop.stop()


def test_a_nudge_by_one_that_does_not_lead_reaches_the_one_that_does() -> None:
    backend, asked = member(health=RARELY), []

    def probe(_: Backend) -> ProbeResult:
        asked.append(1)
        return GOOD

    leading = HealthLoop(lambda: [backend], probe, lambda *_: None, random.Random(1))
    other = HealthLoop(lambda: [backend], probe, lambda *_: None, random.Random(1), leads=lambda _: False)
    leading.start()
    other.start()
    until(lambda: asked)
    other.nudge(backend)
    until(lambda: len(asked) == 2)
    leading.stop()
    other.stop()


def test_a_probe_during_which_this_process_was_stopped_says_nothing() -> None:
    """Its deadline ran while nobody was there to read the answer."""
    clock, asked = [100.0], []

    def probe(_: Backend) -> ProbeResult:
        asked.append(1)
        if len(asked) > 1:
            return GOOD
        clock[0] += 60.0
        return BAD

    backend, changes = member(health=health_policy(interval_s=0.02)), []
    loop = HealthLoop(lambda: [backend], probe, lambda _, change, __: changes.append(change), random.Random(1), lambda: clock[0])
    loop.start()
    until(lambda: asked)
    clock[0] += 1.0  # the next one is due
    until(lambda: changes)
    assert changes == ["up"]
    loop.stop()


def test_a_stopped_loop_probes_no_more_and_can_be_started_again() -> None:
    asked = 0
    stuck = Event()

    def probe(_: Backend) -> ProbeResult:
        nonlocal asked
        asked += 1
        if asked == 3:
            stuck.wait()
        return GOOD

    edge = Edge(member(), probe=probe)
    edge.loop.start()
    edge.loop.start()  # says nothing new
    until(lambda: asked == 3)
    edge.loop.stop()
    gevent.sleep(0.1)
    assert asked == 3
    edge.loop.start()
    until(lambda: asked > 4)
    edge.loop.stop()


def test_a_probe_that_breaks_leaves_the_standing_and_the_next_one_comes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    asked = 0

    def probe(_: Backend) -> ProbeResult:
        nonlocal asked
        asked += 1
        if 2 <= asked <= 10:
            raise RuntimeError("a bug of ours")
        return GOOD

    backend = member(health=health_policy(interval_s=0.01, fall=2))
    with Edge(backend, probe=probe) as edge:
        until(lambda: asked > 12)
    assert edge.changes == [("a", "up", "status 200")]
    assert "the health check of a broke off" in caplog.text
    assert "a bug of ours" in caplog.text


@pytest.mark.parametrize("how", ["raises", "is killed"])
def test_a_loop_that_dies_is_logged_and_starts_again(how: str, caplog: pytest.LogCaptureFixture) -> None:
    asked = 0

    class Fragile(Edge):
        def ask(self) -> list[Backend]:
            nonlocal asked
            asked += 1
            if asked == 2:
                if how == "raises":
                    raise RuntimeError("a bug of ours")
                raise gevent.GreenletExit
            return self.members

    with Fragile(member(health=RARELY), probe=lambda _: GOOD) as edge, caplog.at_level(logging.ERROR):
        until(lambda: edge.changes)
        edge.members = [member("http://b", "b", health=RARELY)]
        edge.loop.wake()
        until(lambda: ("b", "up", "status 200") in edge.changes)
    assert asked == 3
    assert "the health loop died and starts again" in caplog.text


def test_a_probe_that_turns_good_readmits_an_ejected_backend_and_that_is_told() -> None:
    results = iter([GOOD, GOOD, BAD, GOOD])
    done = Event()

    def probe(backend: Backend) -> ProbeResult:
        result = next(results, None)
        if result is BAD:
            backend.learned.breaker.eject(time.monotonic(), random.Random(1))
        if result is None:
            done.set()
            gevent.sleep(3600)
        assert result is not None
        return result

    backend = member()
    with Edge(backend, probe=probe) as edge:
        assert done.wait(5)
    assert [change for _, change, _ in edge.changes] == ["up", "closed"]
    assert backend.learned.breaker.state == "closed"


def test_whom_nobody_asks_is_healthy_and_nobody_asks_him() -> None:
    asked: list[str] = []

    def probe(backend: Backend) -> ProbeResult:
        asked.append(backend.id)
        return BAD

    silent, other = member(label="silent", health=health_policy(type="none")), member("http://b", "b")
    with Edge(silent, other, probe=probe) as edge:
        until(lambda: len(asked) > 3)
        edge.loop.nudge(silent)
        until(lambda: len(asked) > 6)
    assert set(asked) == {"b"}
    assert silent.why_not(time.monotonic()) is None
    assert silent.learned.health.state == "healthy"


def test_a_server_that_goes_down_and_comes_back_is_seen_both_times() -> None:
    with Script() as server, Edge(member(server.url), probe=HttpProbe()) as edge:
        until(lambda: len(edge.changes) == 1)
        server.refuse()
        until(lambda: len(edge.changes) == 2)
        server.accept()
        until(lambda: len(edge.changes) == 3)
    assert [change for _, change, _ in edge.changes] == ["up", "down", "up"]
    assert edge.changes[1][2] == "connection refused"


def test_hostile_answers_change_nothing_but_their_own_backends_standing() -> None:
    hostile = [drips(), endless_head(), never_answers(), never_reads(), garbage(), closes_without_answer()]
    quick = health_policy(interval_s=0.02, timeout_s=0.2)
    servers = [Script(act, health=None) for act in hostile]
    good = Script()
    try:
        members = [member(server.url, f"bad{i}", health=quick) for i, server in enumerate(servers)]
        with Edge(member(good.url, "good"), *members, probe=HttpProbe()) as edge:
            until(lambda: len(edge.changes) == 7)
            seen = good.probes
            until(lambda: good.probes > seen + 5)
        assert sorted((label, change) for label, change, _ in edge.changes) == [
            *((f"bad{i}", "down") for i in range(6)),
            ("good", "up"),
        ]
    finally:
        for server in (*servers, good):
            server.close()


def test_a_probe_whose_greenlet_ended_before_it_began_is_made_again() -> None:
    """Regression: without memory a greenlet ends before its first line, and its backend was never probed again."""
    asked: list[str] = []

    def probe(backend: Backend) -> ProbeResult:
        asked.append(backend.id)
        return GOOD

    with Edge(member("http://a", "a", health=health_policy(interval_s=0.02)), probe=probe) as edge:
        spawn, begun = edge.loop._probes.spawn, []

        def end_at_once(*call: object) -> gevent.Greenlet[..., object]:
            begun.append(call)
            if len(begun) > 1:
                return spawn(*call)
            ended = gevent.spawn(lambda: None)
            ended.join()
            return ended

        edge.loop._probes.spawn = end_at_once
        until(lambda: asked == ["a"])
        assert len(begun) == 2
