"""Several workers, one knowledge: what is shared between the pools of an edge, each with its own rows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from random import Random

import pytest

from smartedge.balancer.backend import Backend
from smartedge.balancer.breaker import TAKEN
from smartedge.balancer.cells import IN_FLIGHT, IN_SERVICE_SINCE, KNOWN, Row, private_row
from smartedge.balancer.errors import NoBackend, SessionFull
from smartedge.balancer.health import ProbeResult
from smartedge.balancer.learned import Learned
from smartedge.balancer.pool import Lease, Pool
from smartedge.balancer.strategies.round_robin import RoundRobin
from tests.house import move, names
from tests.policies import backend_spec, breaker_policy

NOW = 1000.0


class Memory:
    """The board of an edge: a row for each worker and one for all, by key."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._rows: dict[str, list[Row]] = {}

    def attach(self, key: str, learned: Learned, worker: int) -> None:
        rows = self._rows.setdefault(key, [private_row() for _ in range(self.workers + 1)])
        ours = rows[worker]
        move(learned, ours, *(row for row in rows[:-1] if row is not ours), shared=rows[-1])


def workers(count: int, *ids: str, healthy: bool = True, **spec: object) -> list[Pool]:
    """The pools of so many workers over the same backends."""
    memory = Memory(count)
    pools = []
    for worker in range(count):
        members = []
        for id_ in ids:
            made = backend_spec(id=id_, url=f"http://{id_}", **spec)  # type: ignore[arg-type]
            learned = Learned(made)
            memory.attach(made.key, learned, worker)
            members.append(Backend(made, learned))
        edge = Learned()
        memory.attach("", edge, worker)
        pools.append(Pool(members, RoundRobin(), Random(worker), row=edge))
    if healthy:
        for member in pools[0].backends:
            member.learned.health.probed(True)
        pools[0].renew_candidates()
    return pools


def fail(pool: Pool, id_: str) -> str | None:
    """Have one request to a backend fail in a worker; return what its breaker did."""
    others = [backend for backend in pool.backends if backend.id != id_]
    return pool.lease(NOW, others).close(NOW, "failed")


def test_a_flip_of_health_is_in_force_at_the_next_pick_of_every_worker() -> None:
    one, other = workers(2, "a", "b")
    assert names(other.candidates(NOW)) == "a b"
    for _ in range(3):
        one.backends[0].learned.health.probed(False)
    one.renew_candidates()
    assert names(other.candidates(NOW)) == "b"


def test_what_the_operator_wants_of_one_worker_all_do() -> None:
    one, other = workers(2, "a", "b")
    other.candidates(NOW)
    one.set_state("a", "draining")
    assert other.backends[0].state == "draining"
    assert names(other.candidates(NOW)) == "b"
    one.set_state("a", "enabled")
    one.set_weight("b", 7)
    assert [(backend.id, backend.weight) for backend in other.candidates(NOW)] == [("a", 1), ("b", 7)]
    one.set_weight("b", None)
    assert [backend.weight for backend in other.candidates(NOW)] == [1, 1]


@pytest.mark.parametrize("change", [lambda pool: pool.set_state("z", "disabled"), lambda pool: pool.set_weight("z", 1)])
def test_a_backend_that_is_not_there_has_no_state(change: object) -> None:
    (pool,) = workers(1, "a")
    with pytest.raises(KeyError):
        change(pool)  # type: ignore[operator]


def test_failures_in_a_row_are_counted_over_all_workers_and_eject_in_all_of_them() -> None:
    one, other = workers(2, "a", "b")
    other.candidates(NOW)
    assert [fail(pool, "a") for pool in (one, other, one, other)] == [None] * 4
    assert fail(one, "a") == "opened"
    assert other.backends[0].learned.breaker.state == "open"
    assert names(other.candidates(NOW)) == "b"


def test_the_share_of_failures_is_that_of_all_workers() -> None:
    one, other = workers(2, "a", "b", breaker=breaker_policy(failures=1000))
    changes = []
    for turn in range(20):
        pool = (one, other)[turn // 2 % 2]
        if turn % 2:
            changes.append(fail(pool, "a"))
        else:
            pool.lease(NOW, [pool.backends[1]]).close(NOW, "ok")
    assert changes == [None] * 9 + ["opened"]


def test_after_it_has_closed_again_no_worker_counts_what_was_before() -> None:
    one, other = workers(2, "a", "b", breaker=breaker_policy(failures=1000, min_requests=4))
    breaker = one.backends[0].learned.breaker
    for _ in range(4):
        change = fail(other, "a")
    assert change == "opened"
    now = breaker.next_change_at(NOW)
    assert breaker.succeeded(now, breaker.take_ticket(now)) == "closed"
    assert [breaker.failed(now, Random(1)) for _ in range(3)] == [None] * 3
    assert breaker.counted(now) == (3, 3)


def test_half_open_admits_one_probe_in_the_whole_edge() -> None:
    one, other = workers(2, "a", "b")
    for _ in range(5):
        fail(one, "a")
    now = other.backends[0].learned.breaker.next_change_at(NOW)
    leases = [pool.lease(now) for pool in (one, other) for _ in range(4)]
    assert sum(lease.backend.id == "a" for lease in leases) == 1
    probe = next(lease for lease in leases if lease.backend.id == "a")
    assert probe.close(now, "ok") == "closed"
    assert names(other.candidates(now)) == names(one.candidates(now)) == "a b"


def test_a_probe_that_another_worker_begins_in_the_same_moment_is_left_to_it() -> None:
    (pool,) = workers(1, "a", "b")

    @contextmanager
    def not_alone() -> Iterator[bool]:
        yield False

    a = pool.backends[0]
    for _ in range(5):
        fail(pool, "a")
    a.learned.breaker.try_exclusive = not_alone
    now = a.learned.breaker.next_change_at(NOW)
    assert a.learned.breaker.take_ticket(now) == TAKEN
    assert [pool.lease(now).backend.id for _ in range(3)] == ["b"] * 3
    with pytest.raises(NoBackend):
        pool.lease(now, [pool.backends[1]])
    assert pool.lease(now, prefer="a").backend.id == "b"


def test_two_workers_that_see_the_last_failure_at_once_eject_once() -> None:
    one, other = workers(2, "a", "b")
    for _ in range(4):
        fail(one, "a")
    late = other.backends[0].learned.breaker

    @contextmanager
    def first_the_other() -> Iterator[bool]:
        assert fail(one, "a") == "opened"
        yield True

    late.try_exclusive = first_the_other
    assert late.failed(NOW, Random(1)) is None


def test_latencies_are_known_to_all() -> None:
    one, other = workers(2, "a", "b")
    lease = one.lease(NOW, [one.backends[1]])
    lease.answered(NOW + 0.25)
    assert other.backends[0].latency_s(NOW + 0.25) == 0.25
    assert lease.backend.in_flight() == other.backends[0].in_flight() == 1


def test_a_backend_that_hangs_in_one_worker_is_slow_for_the_others_too() -> None:
    one, other = workers(2, "a", "b")
    lease = one.lease(NOW, [one.backends[1]])
    hung, seen = lease.backend, other.backends[0]
    assert hung.latency_s(NOW + 2.0) == 2.0
    assert seen.latency_s(NOW + 2.0) == 0.0
    hung.learned.tell_waiting(NOW + 2.0)
    seen.learned.tell_waiting(NOW + 2.0)
    assert seen.latency_s(NOW + 2.0) == 2.0
    lease.close(NOW + 3.0, "abandoned")
    hung.learned.tell_waiting(NOW + 3.0)
    seen.learned.tell_waiting(NOW + 3.0)
    assert seen.latency_s(NOW + 3.0) == 0.0


def test_a_worker_that_comes_later_knows_what_is_known() -> None:
    memory = Memory(2)
    first, late = Learned(backend_spec()), Learned(backend_spec())
    memory.attach("a", first, 0)
    first.health.probed(True)
    first.keep_probe(NOW, ProbeResult(True, 204, "status 204", 0.002))
    late.health.probed(False)
    memory.attach("a", late, 1)
    assert late.health.state == "healthy"
    assert (late.last_probe_at, late.last_probe) == (NOW, ProbeResult(True, 204, "status 204", 0.002))


def test_the_first_worker_brings_along_what_it_knew_before() -> None:
    memory = Memory(1)
    first = Learned(backend_spec())
    first.health.probed(True)
    memory.attach("a", first, 0)
    assert first.health.state == "healthy"
    assert first.shared[KNOWN] == 1


@pytest.mark.parametrize(
    ("found", "kept"),
    [
        (ProbeResult(False, None, "connection refused", 0.002), "connection refused"),
        (ProbeResult(False, 503, "é" * 200, 0.002), "é" * 128),
        (ProbeResult(False, None, "x" + "é" * 200, 0.002), "x" + "é" * 127),
        (ProbeResult(True, 200, "", 0.002), ""),
    ],
)
def test_the_latest_probe_is_kept_with_its_line_as_far_as_there_is_room(found: ProbeResult, kept: str) -> None:
    learned = Learned(backend_spec())
    assert learned.last_probe is None
    learned.keep_probe(NOW, found)
    assert learned.last_probe == replace(found, detail=kept)


def test_a_good_probe_forgives_a_failure_and_a_backend_that_comes_up_starts_anew() -> None:
    (pool,) = workers(1, "a", "b")
    learned = pool.backends[0].learned
    learned.ewma.observe(NOW, 0.02)
    fail(pool, "a")
    assert learned.probed(NOW + 1.0, False) == ()
    assert learned.latency_s(NOW + 1.0) > 4.0
    assert learned.probed(NOW + 2.0, True) == ()
    assert learned.latency_s(NOW + 2.0) == 0.02
    assert [learned.probed(NOW + 3.0, False) for _ in range(3)] == [(), (), ("down",)]
    assert [learned.probed(NOW + 4.0, True) for _ in range(2)] == [(), ("up",)]
    assert learned.latency_s(NOW + 4.0) == 0.0
    assert learned.shared_reals[IN_SERVICE_SINCE] == NOW + 4.0


# slow start


def weights(pool: Pool, now: float) -> list[float]:
    return [backend.weight for backend in pool.candidates(now)]


def test_a_backend_that_comes_back_grows_to_its_weight_from_a_tenth_of_it() -> None:
    (pool,) = workers(1, "a", "b", slow_start_s=10.0, weight=10)
    assert weights(pool, NOW) == [10, 10]
    pool.backends[0].learned.returned(NOW)
    pool.renew_candidates()
    assert [weights(pool, NOW + after)[0] for after in (0.0, 0.9, 5.0, 9.0, 10.0, 99.0)] == [1.0, 1.0, 5.0, 9.0, 10, 10]
    assert weights(pool, NOW + 99.0) == [10, 10]


def test_a_readmitted_backend_starts_slowly() -> None:
    (pool,) = workers(1, "a", "b", slow_start_s=10.0)
    for _ in range(5):
        fail(pool, "a")
    now = pool.backends[0].learned.breaker.next_change_at(NOW)
    probe = pool.lease(now, [pool.backends[1]])
    assert probe.close(now, "ok") == "closed"
    assert weights(pool, now) == [0.1, 1]


def test_slow_start_shares_requests_out_by_what_a_backend_can_take() -> None:
    (pool,) = workers(1, "a", "b", slow_start_s=10.0)
    pool.backends[0].learned.returned(NOW)
    pool.renew_candidates()
    picked = [pool.lease(NOW).backend.id for _ in range(110)]
    assert picked.count("a") == 10


# sticky sessions


def preferred(pool: Pool, id_: str, now: float = NOW) -> str:
    lease: Lease = pool.lease(now, prefer=id_)
    lease.close(now, "ok")
    return lease.backend.id


def test_a_session_stays_with_its_backend_while_that_can_serve() -> None:
    (pool,) = workers(1, "a", "b", "c")
    assert [preferred(pool, "b") for _ in range(5)] == ["b"] * 5
    pool.set_state("b", "draining")
    assert preferred(pool, "b") == "b"
    assert "b" not in {pool.lease(NOW).backend.id for _ in range(6)}
    pool.set_state("b", "disabled")
    assert preferred(pool, "b") != "b"


def test_a_backend_without_weight_keeps_its_sessions_and_gets_no_others_in_every_worker() -> None:
    """HAProxy's `weight 0`: a way to have a server run empty."""
    one, other = workers(2, "a", "b")
    one.set_weight("b", 0)
    assert other.backends[1].why_not(NOW) == "zero_weight"
    assert {other.lease(NOW).backend.id for _ in range(6)} == {"a"}
    assert preferred(other, "b") == "b"
    for _ in range(3):
        one.backends[1].learned.health.probed(False)
    assert preferred(other, "b") == "a"
    one.set_weight("a", 0)
    with pytest.raises(NoBackend) as caught:
        other.lease(NOW)
    assert (caught.value.status, caught.value.detail) == (503, "2 zero_weight")
    one.set_weight("a", None)
    assert other.lease(NOW).backend.id == "a"


def test_a_session_moves_when_its_backend_is_gone_down_or_was_tried_and_waits_while_it_is_full() -> None:
    (pool,) = workers(1, "a", "b", max_in_flight=1)
    assert preferred(pool, "z") in "ab"
    b = pool.backends[1]
    assert pool.lease(NOW, [b], prefer="b").backend.id == "a"
    held = pool.lease(NOW, prefer="b")
    assert held.backend is b
    pool.backends[0].learned.cells[0] = 0
    with pytest.raises(SessionFull):
        pool.lease(NOW, prefer="b")
    pool.set_state("b", "draining")
    with pytest.raises(SessionFull):
        pool.lease(NOW, prefer="b")
    held.close(NOW, "ok")
    assert preferred(pool, "b") == "b"
    for _ in range(3):
        b.learned.health.probed(False)
    assert preferred(pool, "b") == "a"


# what limits ejecting


def test_no_more_are_ejected_than_the_ceiling_allows() -> None:
    policy = breaker_policy(failures=1, max_ejected_ratio=0.5)
    (pool,) = workers(1, "a", "b", "c", "d", breaker=policy)
    assert [fail(pool, id_) for id_ in "abc"] == ["opened", "opened", None]


def test_a_breaker_that_only_observes_says_so_and_stays_closed() -> None:
    (pool,) = workers(1, "a", "b", breaker=breaker_policy(failures=2, observe=True))
    assert [fail(pool, "a") for _ in range(4)] == [None, "observed", None, "observed"]
    assert pool.backends[0].learned.breaker.state == "closed"
    assert names(pool.candidates(NOW)) == "a b"


def test_a_backend_can_be_ejected_for_what_somebody_else_has_found() -> None:
    one, other = workers(2, "a", "b")
    a, b = one.backends
    assert one.eject(a, NOW, 0.5) == "opened"
    assert one.eject(a, NOW, 0.5) is None
    assert one.eject(b, NOW, 0.5) is None
    assert names(other.candidates(NOW)) == "b"


def test_workers_that_come_later_are_counted_too() -> None:
    memory = Memory(2)
    first, late = Learned(backend_spec()), Learned(backend_spec())
    memory.attach("a", first, 0)
    first.see_workers(first.rows[:1])
    memory.attach("a", late, 1)
    late.breaker.failed(NOW, Random(1))
    late.add(IN_FLIGHT)
    assert (first.in_flight(), first.breaker.counted(NOW)) == (0, (0, 0))
    first.see_workers((first.cells, late.cells))
    assert (first.in_flight(), first.breaker.counted(NOW)) == (1, (1, 1))
