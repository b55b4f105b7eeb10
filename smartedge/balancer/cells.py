"""The layout of a row: what each 64-bit cell of one backend's numbers holds.

A row is a run of ROW_CELLS cells in a worker's slot of the board, seen twice over the same bytes: as signed
integers ("q") and, for the few cells in REAL_CELLS, as doubles ("d"). First come the cells of Cell, then one
for each status code, then the buckets of two histograms. A bucket holds its own count, not the cumulative
one, and its bound belongs to it (Prometheus' `le`).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from enum import IntEnum
from http import HTTPStatus
from typing import Final


class Cell(IntEnum):
    """The numbered cells; every one counts up, but for IN_FLIGHT, EWMA and TUNNELS."""

    IN_FLIGHT = 0
    LEASES = 1
    OK = 2
    FAILED = 3
    ABANDONED = 4
    RETRIES = 5
    BYTES_IN = 6
    BYTES_OUT = 7
    CONNECTS = 8
    EWMA = 9  # seconds, double: the mean when it was last stored, not decayed
    LATENCY_SUM = 10  # seconds, double
    DURATION_SUM = 11  # seconds, double
    TUNNELS = 12  # open now


REAL_CELLS: Final = (int(Cell.EWMA), int(Cell.LATENCY_SUM), int(Cell.DURATION_SUM))

CODE_LABELS: Final = (*(str(int(status)) for status in HTTPStatus), "1xx", "2xx", "3xx", "4xx", "5xx")
"""The codes that have a cell, in the order of the cells; "4xx" is any of 400..499 without one of its own."""

LATENCY_BOUNDS_S: Final = tuple(1e-4 * 2 ** (step / 2) for step in range(40))
"""100 µs to 74 s in steps of the square root of two: a quantile is off by a fifth at most."""

DURATION_BOUNDS_S: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
"""The bounds that Prometheus' own clients use by default."""

_CODES = len(Cell)
_LATENCY = _CODES + len(CODE_LABELS)
_DURATION = _LATENCY + len(LATENCY_BOUNDS_S) + 1
ROW_CELLS: Final = _DURATION + len(DURATION_BOUNDS_S) + 1

CODE_CELLS: Final = slice(_CODES, _LATENCY)
LATENCY_CELLS: Final = slice(_LATENCY, _DURATION)
DURATION_CELLS: Final = slice(_DURATION, ROW_CELLS)
"""Where a row's codes and histograms are; the last cell of a histogram is what lies above its last bound."""

LAYOUT: Final = ",".join(
    (
        *(cell.name for cell in Cell),
        *CODE_LABELS,
        *(f"latency {bound:g}" for bound in (*LATENCY_BOUNDS_S, float("inf"))),
        *(f"duration {bound:g}" for bound in (*DURATION_BOUNDS_S, float("inf"))),
    )
)
"""The layout's name: two rows with equal names can be added up."""


def _cells_of_codes() -> tuple[int, ...]:
    """Return the cell of each code 0..599; below 100 they are invalid."""
    cell = {label: index for index, label in enumerate(CODE_LABELS, start=_CODES)}
    return tuple(cell.get(str(code), cell[f"{code // 100 or 5}xx"]) for code in range(600))


_CELL_OF_CODE = _cells_of_codes()
_INVALID_CODE = _CELL_OF_CODE[0]


def code_cell(code: int) -> int:
    """Return the cell that counts a status code; an invalid one counts as 5xx (RFC 9110 section 15)."""
    return _CELL_OF_CODE[code] if 0 <= code < 600 else _INVALID_CODE


def latency_cell(latency_s: float) -> int:
    """Return the index of the latency bucket."""
    return _LATENCY + bisect_left(LATENCY_BOUNDS_S, latency_s)


def duration_cell(duration_s: float) -> int:
    """Return the index of the duration bucket."""
    return _DURATION + bisect_left(DURATION_BOUNDS_S, duration_s)


def quantile(p: float, bucket_counts: Sequence[float], bounds_s: Sequence[float] = LATENCY_BOUNDS_S) -> float | None:
    """Return the p-quantile (0 <= p <= 1) in seconds, interpolated in its bucket; None for no counts.

    bucket_counts: one for each bound, and the overflow, of which nothing better is known than the last bound
    (as Prometheus' `histogram_quantile` has it).
    """
    total = sum(bucket_counts)
    if not total:
        return None
    rank = p * total
    below = 0.0
    low = 0.0
    for bound, count in zip(bounds_s, bucket_counts, strict=False):
        if count and below + count >= rank:
            return low + (bound - low) * (rank - below) / count
        below += count
        low = bound
    return low
