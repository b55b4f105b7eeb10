"""The last 15 minutes, written by the worker that leads, told alike by all, and outliving any of them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from smartedge.balancer.backend import Backend
from smartedge.balancer.cells import FAILED, IN_FLIGHT, latency_cell
from smartedge.balancer.pool import Pool
from smartedge.observe.history import History
from smartedge.observe.history_table import EVERY_S, POINTS, Series
from tests import house
from tests.house import set_state


class Workers:
    """Workers of one edge, whose backends a and b count on one row each, and a clock. The first one leads."""

    def __init__(self, directory: Path | None, count: int = 2) -> None:
        self.now = 1.75e9
        self.pool = house.pool([house.backend("a", service="web"), house.backend("b", service="web")])
        self.rows = {key: row for row, key in enumerate(["", "web", *(backend.key for backend in self.pool.backends)])}
        self.directory = directory
        self.leader = 0
        self.given_way = 0
        self.all = [self.worker() for _ in range(count)]
        self.look()

    def worker(self) -> History:
        services: Any = lambda: {"web": SimpleNamespace(pool=self.pool)}  # noqa: E731
        history = History(services, lambda: self.now, lambda: 1000.0, self.give_way)
        history.join_workers(self.directory, self.rows.get)
        return history

    def give_way(self) -> None:
        self.given_way += 1

    @property
    def a(self) -> Backend:
        return self.pool.backends[0]

    def serve(self, requests: int, failed: int = 0, latency_s: float = 0.01, backend: int = 0) -> None:
        learned = self.pool.backends[backend].learned
        learned.add(latency_cell(latency_s), requests)
        learned.add(FAILED, failed)
        for _ in range(requests):
            learned.count(200, latency_s, 0, 0)

    def look(self) -> None:
        for number, history in enumerate(self.all):
            history.look(leading=number == self.leader)

    def tick(self, count: int = 1) -> None:
        """Let five seconds pass, so many times."""
        for _ in range(count):
            self.now += EVERY_S
            self.look()

    def series(self, key: str | None = None, points: int = 4, worker: int = 0) -> Series:
        """What one worker tells, of the ticks up to the last one that has ended."""
        self.now += 2.5
        found = self.all[worker].read(key or self.a.key, points)
        self.now -= 2.5
        assert found is not None
        return found


@pytest.fixture
def workers(tmp_path: Path) -> Workers:
    return Workers(tmp_path)


def test_each_tick_tells_what_came_in_it_and_how_it_was_at_its_end(workers: Workers) -> None:
    workers.serve(10, failed=2)
    workers.tick()
    workers.serve(5, latency_s=0.5)
    workers.a.learned.add(IN_FLIGHT, 3)
    set_state(workers.a, "draining")
    workers.tick()
    series = workers.series()
    assert series.requests == [None, None, 10, 5]
    assert series.failed == [None, None, 2, 0]
    assert series.in_flight == [None, 0, 0, 3]
    assert series.state == [None, "available", "available", "draining"]
    assert series.p50_s[2] == pytest.approx(0.01, rel=0.2)
    assert series.p99_s[3] == pytest.approx(0.5, rel=0.2)


def test_without_requests_there_are_none_and_no_latency(workers: Workers) -> None:
    workers.tick()
    series = workers.series(points=1)
    assert series == Series([0], [0], [None], [None], [0], ["available"])


def test_every_worker_tells_the_same(workers: Workers) -> None:
    workers.serve(10)
    workers.tick(3)
    assert workers.series(worker=0) == workers.series(worker=1)


def test_all_that_was_counted_is_there_whichever_worker_dies(workers: Workers) -> None:
    """The next one goes on from what was written last, in the middle of a tick."""
    workers.serve(10, failed=1)
    workers.tick()
    workers.serve(4, failed=1)
    workers.now += 2.0
    workers.all[0].close()
    del workers.all[0]
    workers.look()
    workers.serve(3)
    workers.now -= 2.0
    workers.tick()
    series = workers.series()
    assert (series.requests, series.failed) == ([None, None, 10, 7], [None, None, 1, 1])


def test_a_leader_that_dies_before_its_first_tick_has_ended_takes_nothing_with_it(workers: Workers) -> None:
    workers.serve(10)
    new = house.backend("c", service="web")
    workers.rows[new.key] = 9
    workers.pool.replace_backends((*workers.pool.backends, new), workers.pool.strategy)
    workers.serve(4, backend=2)
    workers.all[0].close()
    del workers.all[0]
    workers.look()
    workers.serve(1)
    workers.tick()
    assert [workers.series(key).requests[-1] for key in (workers.a.key, new.key, "web")] == [11, 4, 15]


def test_what_came_while_nobody_led_is_spread_evenly(workers: Workers) -> None:
    workers.serve(10)
    workers.tick()
    workers.leader = 7
    workers.look()
    workers.serve(7)
    workers.now += EVERY_S
    workers.leader = 1
    workers.tick()
    workers.tick()
    series = workers.series()
    assert series.requests == [10, 2, 2, 3]
    assert series.state == ["available", None, None, "available"]
    assert workers.series(points=2).requests == [2, 3]


def test_where_nobody_led_for_long_nobody_knows(workers: Workers) -> None:
    workers.tick()
    workers.serve(7)
    workers.now += EVERY_S * 4
    workers.tick()
    assert workers.series(points=6).requests == [0, None, None, None, None, 7]


def test_a_service_is_the_sum_of_its_backends(workers: Workers) -> None:
    workers.serve(10, backend=0)
    workers.serve(20, failed=3, backend=1, latency_s=0.1)
    workers.tick()
    series = workers.series("web", points=1)
    assert (series.requests, series.failed, series.state) == ([30], [3], ["available"])
    assert series.p50_s[0] == pytest.approx(0.1, rel=0.3)
    for backend in workers.pool.backends:
        set_state(backend, "disabled")
    workers.pool.row.count(503, 0.0, 0, 0)  # answered by the edge
    workers.tick()
    assert (workers.series("web").requests[-1], workers.series("web").state[-1]) == (1, "disabled")


def test_fifteen_minutes_are_told_and_no_more_are_kept(workers: Workers, tmp_path: Path) -> None:
    for number in range(POINTS + 30):
        workers.serve(number)
        workers.tick()
    assert workers.series(points=POINTS).requests == list(range(30, POINTS + 30))
    assert (tmp_path / "history.table").stat().st_size <= len(workers.rows) * 7680


def test_the_row_of_one_that_is_gone_tells_nothing_of_the_next(workers: Workers) -> None:
    workers.serve(10)
    workers.tick()
    gone = workers.a
    other = house.backend("c", service="web")
    workers.pool = Pool((other,), workers.pool.strategy, workers.pool._rng)
    workers.rows[other.key] = workers.rows.pop(gone.key)
    assert workers.series(other.key).requests == [None] * 4
    workers.tick()
    assert workers.series(other.key).requests == [None, None, None, 0]
    assert workers.all[0].read(gone.key) is None


def test_a_backend_that_comes_is_told_from_its_first_tick(workers: Workers) -> None:
    workers.tick()
    new = house.backend("c", service="web")
    workers.rows[new.key] = 9
    workers.pool.replace_backends((*workers.pool.backends, new), workers.pool.strategy)
    workers.serve(3, backend=2)
    workers.tick()
    assert workers.series(new.key, 2).requests == [None, 3]


def test_counts_that_begin_anew_are_no_negative_numbers(workers: Workers) -> None:
    workers.serve(10)
    workers.tick()
    workers.a.learned.cells[:] = memoryview(bytearray(len(workers.a.learned.cells) * 8)).cast("q")
    workers.serve(2)
    workers.tick()
    assert workers.series(points=2).requests == [10, 2]


def test_more_than_four_billion_requests_are_no_trouble(workers: Workers) -> None:
    workers.a.learned.add(FAILED, 2**32 - 3)
    workers.tick()
    workers.serve(1, failed=5)
    workers.tick()
    assert workers.series(points=1).failed == [5]
    workers.leader = 1
    workers.look()
    workers.serve(1, failed=5)
    workers.tick()
    assert workers.series(points=1).failed == [5]


def test_a_process_alone_keeps_it_in_memory() -> None:
    workers = Workers(None, count=1)
    workers.serve(10)
    workers.tick()
    assert workers.series(points=1).requests == [10]


def test_where_it_cannot_be_kept_nothing_is_told_and_nothing_fails(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    workers = Workers(tmp_path / "gone", count=1)
    workers.tick()
    assert workers.all[0].read(workers.a.key) is None
    assert caplog.messages == [f"no history is kept: [Errno 2] No such file or directory: '{tmp_path}/gone/history.table'"]


def test_many_backends_are_counted_in_pieces(workers: Workers) -> None:
    workers.pool = house.pool([house.backend(f"n{number}", service="web") for number in range(100)])
    workers.tick()
    workers.given_way = 0
    workers.tick()
    assert workers.given_way == 11


def test_a_cut_file_gives_what_is_left(workers: Workers, tmp_path: Path) -> None:
    workers.serve(3)
    workers.tick()
    file = tmp_path / "history.table"
    with file.open("r+b") as opened:
        opened.truncate(7680 * 2 + 10)
    assert workers.series().requests == [None] * 4
