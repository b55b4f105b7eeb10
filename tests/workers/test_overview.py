"""What each worker is and does, as any of them tells it."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path
from time import monotonic

from smartedge.balancer.cells import GAUGES, IN_FLIGHT, LAYOUT, LOOP_LAG, ROW_CELLS, code_cell
from smartedge.workers.membership import Membership, open_membership
from smartedge.workers.overview import overview

log = logging.getLogger("test")

OTHER = """
import logging, sys
from smartedge.balancer.cells import GAUGES, IN_FLIGHT, LAYOUT, ROW_CELLS, code_cell
from smartedge.workers.membership import open_membership
membership = open_membership("gunicorn-1", ROW_CELLS, LAYOUT, {"SMARTEDGE_STATE_DIR": sys.argv[1]}, logging.getLogger(), GAUGES)
membership.row_for("b").own[0][code_cell(200)] += 7
membership.row_for("b").own[0][IN_FLIGHT] += 2
membership.row_for("").own[0][code_cell(503)] += 1
membership.confirm(3, 9)
membership.beat(1.0)
print(membership.lead(), flush=True)
sys.stdin.read()
"""


def membership_in(directory: Path, identity: str = "gunicorn-1") -> Membership:
    return open_membership(identity, ROW_CELLS, LAYOUT, {"SMARTEDGE_STATE_DIR": str(directory)}, log, GAUGES)


def test_every_worker_is_told_of_by_any(tmp_path: Path) -> None:
    membership = membership_in(tmp_path)
    assert membership.lead()
    membership.row_for("b").own[0][code_cell(404)] += 5
    membership.confirm(4, 9)
    membership.edge_reals(0)[LOOP_LAG] = 0.25
    with subprocess.Popen(
        [sys.executable, "-c", OTHER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "False\n"
        first, second = overview(membership, monotonic())
        assert membership.last_beats() == {0: 0.0, 1: 1.0}
        assert membership.leader_slot() == 0
        assert (first["slot"], first["pid"], first["leader"], first["generation"]) == (0, os.getpid(), True, 4)
        assert (second["slot"], second["pid"], second["leader"], second["generation"]) == (1, other.pid, False, 3)
        assert (first["requests"], first["in_flight"]) == (5, 0)
        assert (second["requests"], second["in_flight"]) == (8, 2)
        assert (first["loop_lag_s"], second["loop_lag_s"]) == (0.25, 0.0)
        assert first["uptime_s"] >= second["uptime_s"] >= 0
        assert all(worker["memory_bytes"] > 1024**2 for worker in (first, second))
        assert 0.0 < first["cpu_s"] <= sum(os.times()[:2]) + 0.02  # the system counts in hundredths
        assert 0.0 <= second["cpu_s"] < 60.0
        other.kill()
        other.wait()
        assert [worker["slot"] for worker in overview(membership, monotonic())] == [0]
    assert membership.refresh()
    assert membership.row_for("b").everyone[1][code_cell(200)] == 7, "its counts stay"
    assert membership.row_for("b").everyone[1][IN_FLIGHT] == 0, "its leases do not"
    membership.close()


def test_a_slot_is_cleaned_up_again_after_each_worker_that_died_in_it(tmp_path: Path) -> None:
    membership = membership_in(tmp_path)
    for _ in range(2):
        with subprocess.Popen(
            [sys.executable, "-c", OTHER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as other:
            assert other.stdout is not None
            other.stdout.readline()
            membership.refresh()
            rows = membership.row_for("b").everyone
            assert rows[1][IN_FLIGHT] == 2
            other.kill()
            other.wait()
        membership.refresh()
        assert rows[1][IN_FLIGHT] == 0
    assert rows[1][code_cell(200)] == 14
    membership.close()


def test_a_worker_alone_is_told_of_too(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    membership = membership_in(tmp_path / "file", "edge-1")  # no directory can be made there: the board is in memory
    assert membership.state is None
    (only,) = overview(membership, monotonic())
    assert (only["slot"], only["pid"], only["leader"], only["requests"]) == (0, os.getpid(), True, 0)
    assert only["uptime_s"] >= 0
    membership.close()


def test_when_a_worker_started_is_told_alike_however_often_it_is_asked_and_however_the_clocks_jitter(tmp_path: Path) -> None:
    """Each scrape gave another time, by a millisecond: the alert that workers start again and again was always on."""
    membership = membership_in(tmp_path)
    told = set()
    for step in range(50):
        now = 5000.0 + step * 0.25
        jitter = step % 7 * 1e-4
        (one,) = overview(membership, now, lambda now=now, jitter=jitter: 1.75e9 + 0.1 + now + jitter)  # type: ignore[misc]
        told.add(one["started_at"])
    (started_at,) = told
    since = next(iter(membership.live_since().values()))[1]
    assert abs(started_at - (1.75e9 + 0.1 + since)) < 0.6


def test_requests_are_those_of_rows_that_this_worker_holds_and_of_those_that_it_does_not(tmp_path: Path) -> None:
    """A backend that another worker has from a newer generation has a row that is in nobody's hands here yet."""
    membership = membership_in(tmp_path)
    membership.row_for("held").own[0][code_cell(200)] += 3
    with subprocess.Popen(
        [sys.executable, "-c", OTHER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        assert membership.refresh()
        first, second = overview(membership, monotonic())
        assert (first["requests"], first["in_flight"]) == (3, 0)
        assert (second["requests"], second["in_flight"]) == (8, 2)
        other.kill()
    membership.close()


def test_what_is_counted_is_left_out_for_who_does_not_ask(tmp_path: Path) -> None:
    membership = membership_in(tmp_path)
    membership.row_for("b").own[0][code_cell(200)] += 3
    (only,) = overview(membership, monotonic(), counted=False)
    assert not {"requests", "in_flight"} & only.keys()
    assert overview(membership, monotonic())[0]["requests"] == 3
    membership.close()
