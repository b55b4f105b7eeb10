from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import gevent
import pytest

from smartedge.balancer.cells import private_row
from smartedge.balancer.errors import BackendTimeout, ClientGone, ClientTimeout, EdgeError, NoBackend
from smartedge.balancer.learned import Learned
from smartedge.balancer.strategies.menu import STRATEGIES
from smartedge.balancer.trace import Trace
from smartedge.http.request import Request
from smartedge.observe import decisions as decisions_module
from smartedge.observe.decision_text import fitted
from smartedge.observe.decisions import AT_ONCE, LATE_PER_S, Decisions
from smartedge.workers.ring import RECORDS, ROOM_BYTES
from tests import house
from tests.house import backend, backends, move, pool, until


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.now + 1.7e9


@pytest.fixture
def clock() -> Clock:
    return Clock()


def make(clock: Clock, ratio: float = 1.0, *, may_ask: bool = False) -> Decisions:
    return Decisions(ratio, Random(3), lambda _: may_ask, clock.monotonic, clock.wall, later=lambda call: call())


def request(explain: bytes = b"", target: bytes = b"/shop?secret=1") -> Request:
    return house.request(target=target, fields=explain and b"X-SmartEdge-Explain: %b\r\n" % explain, peer=b"192.0.2.1")


def exchange(trace: Trace | None, request_id: str = "r-1", status: int = 200, error: EdgeError | None = None, **more: Any) -> Any:
    """One that has ended. more: of the exchange, or `request` and `started` of its tries."""
    usual = {"request": request(), "started": 999.5, "tries": 1, "latency_s": 0.1, "request_id": request_id, "trace": trace}
    usual["trace_id"] = None
    attempts = SimpleNamespace(**usual | {name: more.pop(name) for name in usual.keys() & more.keys()})
    whole = {"attempts": attempts, "own_answer": None, "duration_s": 0.2, "route": None, "asked_target": None}
    return SimpleNamespace(**{**whole, "status": status, "error": error, **more})


def sampled(decisions: Decisions, count: int) -> int:
    """How many of so many ordinary requests are sampled."""
    ordinary = request()
    return sum(decisions.begin_trace(ordinary) is not None for _ in range(count))


@pytest.mark.parametrize(("ratio", "least", "most"), [(0.0, 0, 0), (0.01, 150, 250), (0.5, 9800, 10200), (1.0, 20000, 20000)])
def test_ordinary_requests_are_sampled_by_the_ratio(clock: Clock, ratio: float, least: int, most: int) -> None:
    assert least <= sampled(make(clock, ratio), 20000) <= most


def test_a_reload_may_change_the_ratio(clock: Clock) -> None:
    decisions = make(clock, 0.0)
    assert sampled(decisions, 100) == 0
    decisions.set_ratio(1.0)
    assert sampled(decisions, 100) == 100


def test_nobody_can_tell_which_one_is_sampled_next(clock: Clock) -> None:
    """Else a client could fill the ring with its own requests, or keep them out of it."""
    gaps = set()
    decisions = make(clock, 0.1)
    for _ in range(50):
        gap = 1
        while decisions.begin_trace(request()) is None:
            gap += 1
        gaps.add(gap)
    assert len(gaps) > 10


def test_one_that_asks_is_traced_if_it_may(clock: Clock) -> None:
    allowed, refused = make(clock, 0.0, may_ask=True), make(clock, 0.0)
    trace = allowed.begin_trace(request(b"1"))
    assert trace is not None
    assert (trace.asked, trace.why) == (True, ["asked"])
    assert refused.begin_trace(request(b"1")) is None
    refused.set_ratio(1.0)
    again = refused.begin_trace(request(b"1"))  # its turn has come, whatever it asks
    assert again is not None
    assert (again.asked, again.why) == (False, ["sampled"])


def test_a_request_is_found_again_in_full(clock: Clock) -> None:
    decisions = make(clock)
    members = pool([backend("a"), backend("b", probed=False)], STRATEGIES["ewma"]())
    trace = Trace("sampled")
    members.lease(999.5, trace=trace).answered(999.6)
    decisions.record_exchange(exchange(trace))

    assert decisions.find("other") is None
    found = decisions.find("r-1")
    assert found == {
        "request_id": "r-1",
        "trace_id": None,
        "at": 1.7e9 + 999.5,
        "slot": 0,
        "why": ["sampled"],
        "client": "192.0.2.1",
        "method": "GET",
        "path": "/shop",
        "status": 200,
        "outcome": "ok",
        "blame": None,
        "error": None,
        "try_count": 1,
        "latency_s": 0.1,
        "duration_s": 0.2,
        "summary": "a was picked: least cost 0.0001, the only candidate; b left out: unhealthy",
        "tries_left_out": 0,
        "tries": [
            {
                "number": 1,
                "at": 1.7e9 + 999.5,
                "kind": "first",
                "after_s": 0.0,
                "backend": "a",
                "recorded": True,
                "strategy": "ewma",
                "reason": "least cost",
                "where": None,
                "cost": 0.0001,
                "panic": False,
                "candidate_count": 1,
                "candidates": [
                    {
                        "id": "a",
                        "weight": 1,
                        "effective_weight": 1,
                        "in_flight": 0,
                        "ewma_s": 0.0,
                        "pace_s": None,
                        "waiting_s": 0.0,
                        "latency_s": 0.0,
                        "cost": 0.0001,
                        "turns_ratio": None,
                        "picked": True,
                    }
                ],
                "left_out": [{"id": "b", "reason": "unhealthy", "for_s": None, "until": None}],
                "unseen": 0,
                "outcome": "ok",
                "status": 200,
                "latency_s": 0.1,
                "duration_s": 0.5,
                "blame": None,
                "error": None,
            }
        ],
    }


def test_a_breaker_is_open_until_a_unix_time(clock: Clock) -> None:
    decisions = make(clock)
    one = backend("a")
    trace = Trace("sampled")
    trace.add_none([one], (), 999.5)
    trace.tries[0].left_out = [["a", "breaker_open", 3.5]]
    decisions.record_exchange(exchange(trace))
    found = decisions.find("r-1")
    assert found is not None
    assert found["tries"][0]["left_out"] == [{"id": "a", "reason": "breaker_open", "for_s": 3.5, "until": 1.7e9 + 1003.0}]


@pytest.mark.parametrize(
    ("error", "status", "own", "kept"),
    [
        (None, 200, False, False),
        (None, 503, False, False),  # the backend's, and passed on: its lease has failed, so it would have a trace
        (NoBackend("1 unhealthy"), 503, True, True),
        (ClientTimeout("too slow"), 408, True, False),
        (ClientGone("left"), 499, True, False),
    ],
)
def test_what_was_not_traced_is_recorded_if_the_answer_is_an_error_of_ours(
    clock: Clock, error: EdgeError | None, status: int, *, own: bool, kept: bool
) -> None:
    decisions = make(clock, 0.0)
    decisions.record_exchange(exchange(None, status=status, error=error, own_answer=(status, [], b"") if own else None))
    found = decisions.find("r-1")
    assert (found is not None) == kept
    if found is not None:
        assert (found["why"], found["outcome"], found["blame"], found["error"]) == (["error"], "failed", "edge", "1 unhealthy")


def test_how_it_ended_is_told(clock: Clock) -> None:
    decisions = make(clock)
    decisions.record_exchange(exchange(Trace("sampled"), "gone", 499, ClientGone("left")))
    decisions.record_exchange(exchange(Trace("retry"), "slow", 504, BackendTimeout("silent"), own_answer=(504, [], b"")))
    told = {found["request_id"]: (found["why"], found["outcome"], found["blame"]) for found in decisions.newest()}
    assert told == {
        "gone": (["sampled"], "abandoned", "client"),
        "slow": (["retry", "error"], "failed", "backend"),
    }


def test_there_is_a_limit_to_what_is_recorded_when_everything_fails(clock: Clock) -> None:
    decisions = make(clock, 0.0)
    traces = [decisions.begin_late_trace("failed") for _ in range(LATE_PER_S + 5)]
    assert traces.count(None) == 5
    decisions.record_exchange(exchange(None, "lost", 503, NoBackend("none"), own_answer=(503, [], b"")))
    assert decisions.find("lost") is None
    clock.now += 1.0
    assert decisions.begin_late_trace("failed") is not None


def test_a_try_under_way_belongs_to_a_trace_that_begins_late(clock: Clock) -> None:
    lease = pool(backends(1)).lease(999.0)
    trace = make(clock).begin_late_trace("retry", lease)
    assert trace is not None
    assert [(one.backend, one.recorded) for one in trace.tries] == [("a", False)]


def test_sampled_requests_are_written_down_a_few_at_a_time_and_the_others_at_once(clock: Clock, tmp_path: Path) -> None:
    """A text of each would take longer than serving them, and most are never read."""
    calls: list[Callable[[], None]] = []
    busy = Decisions(1.0, Random(3), lambda _: False, clock.monotonic, clock.wall, later=calls.append)
    other = make(clock)
    for slot, worker in enumerate((busy, other)):
        worker.join_workers(tmp_path, slot)
    for number in range(2 * AT_ONCE):
        clock.now += 0.01
        busy.record_exchange(exchange(Trace("sampled"), f"r-{number}"))
    busy.record_exchange(exchange(Trace("failed"), "bad"))
    assert [document["request_id"] for document in other.newest()] == ["bad"]
    assert len(calls) == 1
    calls.pop()()
    assert len(other.newest()) == AT_ONCE + 1
    assert len(calls) == 1
    assert len(busy.newest()) == 2 * AT_ONCE + 1  # whoever is asked himself has all of them
    calls.pop()()
    assert calls == []
    busy.record_exchange(exchange(Trace("sampled"), "again"))
    assert len(calls) == 1
    busy.close()
    assert other.find("again") is not None


def test_what_newer_ones_have_displaced_is_never_written(clock: Clock) -> None:
    decisions = Decisions(1.0, Random(3), lambda _: False, clock.monotonic, clock.wall, later=lambda _: None)
    for number in range(RECORDS + 5):
        clock.now += 0.01
        decisions.record_exchange(exchange(Trace("sampled"), f"r-{number}", started=clock.now))
    found = decisions.newest()
    assert (len(found), found[0]["request_id"], found[-1]["request_id"]) == (RECORDS, f"r-{RECORDS + 4}", "r-5")


def sharing(clock: Clock, directory: Path) -> list[Decisions]:
    """Two workers that count on one board, and never write down what is sampled unless somebody asks."""
    rows, own, shared = [Learned(), Learned()], [private_row(), private_row()], private_row()
    for row, mine, other in zip(rows, own, reversed(own), strict=True):
        move(row, mine, other, shared=shared)
    workers = [Decisions(1.0, Random(3), lambda _: False, clock.monotonic, later=lambda _: None, row=row) for row in rows]
    for slot, worker in enumerate(workers):
        worker.join_workers(directory, slot)
    return workers


def test_whoever_asks_has_the_other_workers_write_theirs_down(clock: Clock, tmp_path: Path) -> None:
    asked, other = sharing(clock, tmp_path)
    for number in range(60):
        other.record_exchange(exchange(Trace("sampled"), f"r-{number}"))

    def looks() -> None:
        while True:
            gevent.sleep(0.001)
            other.look()

    looking = gevent.spawn(looks)
    try:
        for _ in range(2):
            assert len(asked.newest()) == 60
        other.record_exchange(exchange(Trace("sampled"), "later"))
        assert asked.find("later") is not None
    finally:
        looking.kill()


def test_a_worker_that_does_not_hear_it_is_not_waited_for_long(
    clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decisions_module, "LOOKS", 3)
    asked, other = sharing(clock, tmp_path)
    other.record_exchange(exchange(Trace("sampled"), "held"))
    other.record_exchange(exchange(Trace("failed"), "bad"))
    assert [document["request_id"] for document in asked.newest()] == ["bad"]


def test_nobody_waits_for_a_worker_that_holds_nothing(clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gevent, "sleep", lambda *_: pytest.fail("it waited"))
    asked, other = sharing(clock, tmp_path)
    other.record_exchange(exchange(Trace("failed"), "bad"))
    assert asked.find("bad") is not None


def test_in_a_worker_it_is_a_matter_of_moments(clock: Clock, tmp_path: Path) -> None:
    worker, other = Decisions(1.0, Random(3), lambda _: False), make(clock)
    for slot, one in enumerate((worker, other)):
        one.join_workers(tmp_path, slot)
    worker.record_exchange(exchange(Trace("sampled")))
    until(lambda: other.find("r-1") is not None, 20)


def test_any_worker_tells_of_all_of_them_newest_first(clock: Clock, tmp_path: Path) -> None:
    workers = [make(clock) for _ in range(3)]
    for slot, worker in enumerate(workers):
        worker.join_workers(tmp_path, slot)
    for number in range(6):
        clock.now += 1.0
        workers[number % 3].record_exchange(exchange(Trace("sampled"), f"r-{number}", started=clock.now))
    assert [(found["request_id"], found["slot"]) for found in workers[1].newest()] == [
        (f"r-{number}", number % 3) for number in (5, 4, 3, 2, 1, 0)
    ]
    clock.now += 1.0
    workers[2].record_exchange(exchange(Trace("sampled"), "r-0", status=404, started=clock.now))
    newest = workers[0].find("r-0")
    assert newest is not None
    assert newest["status"] == 404
    for worker in workers:
        worker.close()


def test_all_workers_together_tell_of_the_last_thousand(clock: Clock, tmp_path: Path) -> None:
    workers = [make(clock), make(clock)]
    for slot, worker in enumerate(workers):
        worker.join_workers(tmp_path, slot)
    for number in range(RECORDS):
        clock.now += 0.01
        for worker in workers:
            worker.record_exchange(exchange(Trace("sampled"), f"r-{number}", started=clock.now))
    found = workers[0].newest()
    assert len(found) == RECORDS
    assert found[-1]["request_id"] == f"r-{RECORDS // 2}"


def test_without_a_place_in_the_directory_a_worker_goes_on_by_itself(
    clock: Clock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    decisions = make(clock)
    with caplog.at_level(logging.WARNING):
        decisions.join_workers(tmp_path / "gone", 0)
    assert "kept in this process alone" in caplog.text
    decisions.record_exchange(exchange(Trace("sampled")))
    assert decisions.find("r-1") is not None


def test_a_request_may_end_after_the_edge(clock: Clock, tmp_path: Path) -> None:
    decisions = make(clock)
    decisions.join_workers(tmp_path, 0)
    decisions.close()
    decisions.record_exchange(exchange(Trace("sampled")))
    assert not any((tmp_path / "decisions-0.ring").read_bytes())


def test_workers_that_were_forked_do_not_sample_in_step(clock: Clock, tmp_path: Path) -> None:
    rng = Random(3)
    decisions = Decisions(0.001, rng, lambda _: False, clock.monotonic, clock.wall)
    before = decisions._left
    rng.seed(4)
    decisions.join_workers(None, 0)
    assert decisions._left != before


def document(members: int, tries: int, **more: Any) -> dict[str, Any]:
    """A record of picks among so many, where the last one is picked and the best is in the middle."""
    ids = [f"backend-with-a-rather-long-name-{number}" for number in range(members)]
    candidates = [[id_, 1, 1.0, 3, 0.123456, 0.0, 0.123456, abs(number - members // 2)] for number, id_ in enumerate(ids)]
    one = {"backend": ids[-1], "candidates": candidates, "left_out": [[id_, "unhealthy", None] for id_ in ids], "unseen": 0}
    return {"summary": "s" * 300, "error": None, "tries_left_out": 0, "tries": [one] * tries} | more


def test_a_record_that_is_too_long_keeps_the_picked_and_the_best() -> None:
    whole = document(64, 1)
    text = fitted(whole)
    assert len(text) <= ROOM_BYTES
    (one,) = json.loads(text)["tries"]
    kept = [int(row[0].rpartition("-")[2]) for row in one["candidates"]]
    assert len(kept) >= 16
    assert kept[-1] == 63
    assert 32 in kept
    assert kept == sorted(kept)
    assert len(one["left_out"]) + one["unseen"] == 64


def test_of_the_newest_records_those_of_a_trace_are_given_oldest_first(clock: Clock) -> None:
    decisions = make(clock)
    for number in range(6):
        trace_id = f"{number:032x}" if number % 2 else None
        decisions.record_exchange(exchange(Trace("sampled"), f'r-{number} "trace_id":null', trace_id=trace_id))
    assert [record["trace_id"][-1] for record in decisions.newest_traced(10)] == ["1", "3", "5"]
    assert [record["trace_id"][-1] for record in decisions.newest_traced(3)] == ["3", "5"]


def test_a_record_that_fits_is_kept_as_it_is() -> None:
    whole = document(5, 1)
    assert json.loads(fitted(whole)) == whole


def test_a_record_of_many_tries_keeps_the_first_and_the_last() -> None:
    long = "e" * 200
    tries = [document(1, 1)["tries"][0] | {"number": number, "error": long, "reason": long} for number in range(10)]
    text = fitted(document(1, 0) | {"tries": tries})
    assert len(text) <= ROOM_BYTES
    told = json.loads(text)
    numbers = [one["number"] for one in told["tries"]]
    assert (numbers[0], numbers[-1]) == (0, 9)
    assert len(numbers) + told["tries_left_out"] == 10


def test_a_record_that_can_not_be_made_to_fit_keeps_what_identifies_it() -> None:
    told = json.loads(fitted(document(1, 1, summary="é" * 4000, error="x", request_id="r-1")))
    assert (told["request_id"], told["tries"], told["summary"]) == ("r-1", [], "")


def test_a_path_may_be_long_and_of_any_bytes(clock: Clock) -> None:
    decisions = make(clock)
    decisions.record_exchange(exchange(Trace("sampled"), request=request(target=b"/" + bytes(range(128, 256)) * 60)))
    found = decisions.find("r-1")
    assert found is not None
    assert len(found["path"]) == 256


def test_the_route_and_the_service_are_named_and_the_path_is_the_one_that_was_asked_for(clock: Clock) -> None:
    decisions = make(clock)
    route = SimpleNamespace(id="api")
    decisions.record_exchange(exchange(Trace("asked"), "r-1", route=route, routed_to="web", asked_target=b"/api/x?y"))
    decisions.record_exchange(exchange(Trace("asked"), "r-2"))
    first, second = decisions.find("r-1"), decisions.find("r-2")
    assert first is not None
    assert second is not None
    assert (first["route"], first["service"], first["path"]) == ("api", "web", "/api/x")
    assert "route" not in second
