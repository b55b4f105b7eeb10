from __future__ import annotations

from http import HTTPStatus
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smartedge.balancer.cells import (
    CHECK_DETAIL,
    CODE_CELLS,
    CODE_LABELS,
    DURATION_BOUNDS_S,
    DURATION_CELLS,
    LATENCY_BOUNDS_S,
    LATENCY_CELLS,
    LAYOUT,
    OWN_CELLS,
    REAL_CELLS,
    ROW_CELLS,
    SHARED_CELLS,
    WINDOW_FAILURES,
    WINDOW_PARTS,
    WINDOW_REQUESTS,
    WINDOW_TICK,
    code_cell,
    duration_cell,
    latency_cell,
    quantile,
)


def label(code: int) -> str:
    return CODE_LABELS[code_cell(code) - CODE_CELLS.start]


def test_every_cell_of_a_row_has_one_meaning_and_a_name_in_the_layout() -> None:
    row = list(range(ROW_CELLS))
    window = [WINDOW_TICK, *(first + part for first in (WINDOW_REQUESTS, WINDOW_FAILURES) for part in range(WINDOW_PARTS))]
    parts = [list(OWN_CELLS.values()), row[CODE_CELLS], window, row[LATENCY_CELLS], row[DURATION_CELLS]]
    assert [int(cell) for part in parts for cell in part] == row
    assert len(set(LAYOUT.split(","))) == ROW_CELLS - len(window) + 1 + len(SHARED_CELLS) + len(["detail"])
    assert list(SHARED_CELLS.values()) == list(range(CHECK_DETAIL.start))
    assert CHECK_DETAIL.start < CHECK_DETAIL.stop <= ROW_CELLS
    assert len(row[CODE_CELLS]) == len(CODE_LABELS)
    assert len(row[LATENCY_CELLS]) == len(LATENCY_BOUNDS_S) + 1
    assert len(row[DURATION_CELLS]) == len(DURATION_BOUNDS_S) + 1


def test_seconds_are_kept_as_doubles() -> None:
    seconds = [name for name, cell in OWN_CELLS.items() if cell in REAL_CELLS]
    assert seconds == ["LATENCY_SUM", "DURATION_SUM", "WAITING_SINCE", "BEAT_AT", "LOOP_LAG", "CONNECT_SUM", "QUEUE_WAIT_SUM"]


def test_every_standard_status_code_has_a_cell_of_its_own() -> None:
    assert [label(status) for status in HTTPStatus] == [str(int(status)) for status in HTTPStatus]


@pytest.mark.parametrize(("code", "counted_as"), [(199, "1xx"), (299, "2xx"), (399, "3xx"), (499, "4xx"), (599, "5xx")])
def test_other_codes_are_counted_by_class(code: int, counted_as: str) -> None:
    assert label(code) == counted_as


@pytest.mark.parametrize("code", [-1, 0, 99, 600, 999])
def test_an_invalid_code_counts_as_5xx(code: int) -> None:
    assert label(code) == "5xx"


def test_latency_bounds_go_from_100_microseconds_to_74_seconds_by_the_square_root_of_two() -> None:
    assert LATENCY_BOUNDS_S[0] == 1e-4
    assert LATENCY_BOUNDS_S[-1] == pytest.approx(74.1, abs=0.1)
    steps = [high / low for low, high in pairwise(LATENCY_BOUNDS_S)]
    assert steps == pytest.approx([2**0.5] * 39)


@pytest.mark.parametrize(
    ("cell", "cells", "bounds"),
    [(latency_cell, LATENCY_CELLS, LATENCY_BOUNDS_S), (duration_cell, DURATION_CELLS, DURATION_BOUNDS_S)],
)
def test_a_bucket_holds_its_bound_and_the_last_one_what_is_above_all(cell, cells, bounds) -> None:  # type: ignore[no-untyped-def]
    assert cell(0.0) == cells.start
    assert [cell(bound) for bound in bounds] == list(range(cells.start, cells.stop - 1))
    assert [cell(bound * 1.0001) for bound in bounds] == list(range(cells.start + 1, cells.stop))
    assert cell(1e9) == cells.stop - 1


def test_there_is_no_quantile_of_nothing() -> None:
    assert quantile(0.5, [0] * 41) is None


def test_a_quantile_is_interpolated_in_its_bucket() -> None:
    bounds = (1.0, 2.0, 4.0)
    assert quantile(0.5, [0, 10, 10, 0], bounds) == 2.0
    assert quantile(0.25, [0, 10, 10, 0], bounds) == 1.5
    assert quantile(0.75, [0, 10, 10, 0], bounds) == 3.0
    assert quantile(0.5, [10, 0, 0, 0], bounds) == 0.5


def test_empty_buckets_are_stepped_over() -> None:
    assert quantile(0.0, [0, 0, 10, 0], (1.0, 2.0, 4.0)) == 2.0
    assert quantile(1.0, [4, 0, 4, 0], (1.0, 2.0, 4.0)) == 4.0


def test_of_the_overflow_nothing_is_known_but_the_last_bound() -> None:
    assert quantile(0.99, [1, 0, 0, 99], (1.0, 2.0, 4.0)) == 4.0


@given(st.lists(st.floats(1.01e-4, 70.0), min_size=1, max_size=200), st.floats(0.0, 1.0))
def test_a_quantile_is_off_by_one_bucket_at_most(latencies: list[float], p: float) -> None:
    counts = [0] * (len(LATENCY_BOUNDS_S) + 1)
    for latency in latencies:
        counts[latency_cell(latency) - LATENCY_CELLS.start] += 1
    estimate = quantile(p, counts)
    assert estimate is not None
    ordered = sorted(latencies)
    rank = p * len(ordered)
    near = [ordered[min(max(int(rank) + step, 0), len(ordered) - 1)] for step in (-1, 0)]
    assert near[0] / 2**0.5 * 0.999 <= estimate <= near[1] * 2**0.5 * 1.001
