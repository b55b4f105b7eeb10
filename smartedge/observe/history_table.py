"""The last 15 minutes of every backend and service, in steps of five seconds, in a file that all workers of the edge have.

    row 0, row 1, ...    that of a backend or service on the board, 192 cells each
    cell                 at the place of its tick (Unix time / 5): tick, whose it is, counts, quantiles, and how it was

The worker that leads writes a cell for each of them when a tick has ended; any worker reads, so all tell the same, and who
leads next goes on from the counts in the newest cells. A cell counts only if it has the tick that is asked for, and is of the
backend that is asked for: nobody has to clear a row that another backend gets. It is written with pwrite, for a store into a
mapped file on a full disk is a SIGBUS.
"""

from __future__ import annotations

import math
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

EVERY_S: Final = 5
POINTS: Final = 180
CELLS: Final = 192
"""A little more than are told: while the newest is written, the oldest may be read."""

MOST_SPREAD: Final = 3
"""What was counted over so many ticks, of which but the last were not written, is spread evenly over them."""

STATES: Final = (
    "available",
    "disabled",
    "draining",
    "zero_weight",
    "unhealthy",
    "unprobed",
    "breaker_open",
    "silent",
    "full",
)
"""How a backend may have been: `available`, or why it took nothing (`Backend.why_not`)."""

_CELL: Final = struct.Struct("<IIIIIIffII")
ROW_BYTES: Final = CELLS * _CELL.size
MODULUS: Final = 1 << 32
"""Counts in all are kept modulo this."""

_UNKNOWN: Final = MODULUS - 1


class Sample(NamedTuple):
    """One tick of a backend or service. requests, failed: in all until then; *_gained: in this tick, None if unknown; seconds."""

    requests: int
    failed: int
    requests_gained: int | None
    failed_gained: int | None
    p50_s: float | None
    p99_s: float | None
    in_flight: int
    state: str


class Series(NamedTuple):
    """What is told of a backend or service, tick by tick, oldest first; None where nobody knows."""

    requests: Sequence[int | None]
    failed: Sequence[int | None]
    p50_s: Sequence[float | None]
    p99_s: Sequence[float | None]
    in_flight: Sequence[int | None]
    state: Sequence[str | None]


class HistoryTable:
    """The file; owned by the worker's `History`. Raises OSError where it cannot be opened.

    path: None for a process without other workers, which keeps it in memory.
    """

    def __init__(self, path: Path | None) -> None:
        if path is None:
            self._fd = os.memfd_create("smartedge-history", os.MFD_CLOEXEC)
        else:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)

    def write(self, row: int, key: str, tick: int, sample: Sample) -> None:
        """Write down one tick. Raises OSError where there is no room."""
        cell = _CELL.pack(
            tick,
            _whose(key),
            sample.requests % MODULUS,
            sample.failed % MODULUS,
            _UNKNOWN if sample.requests_gained is None else min(sample.requests_gained, _UNKNOWN - 1),
            _UNKNOWN if sample.failed_gained is None else min(sample.failed_gained, _UNKNOWN - 1),
            math.nan if sample.p50_s is None else sample.p50_s,
            math.nan if sample.p99_s is None else sample.p99_s,
            min(sample.in_flight, MODULUS - 1),
            STATES.index(sample.state),
        )
        os.pwrite(self._fd, cell, row * ROW_BYTES + tick % CELLS * _CELL.size)

    def counts(self, row: int, key: str, tick: int) -> tuple[int, int] | None:
        """Return requests and failed of a tick, modulo MODULUS; None where it was not written."""
        content = os.pread(self._fd, _CELL.size, row * ROW_BYTES + tick % CELLS * _CELL.size)
        if len(content) < _CELL.size:
            return None
        found, whose, requests, failed, *_ = _CELL.unpack(content)
        return (requests, failed) if (found, whose) == (tick, _whose(key)) else None

    def read(self, row: int, key: str, last: int, points: int = POINTS) -> Series:
        """Return the `points` ticks up to `last`."""
        first, whose = last - points + 1, _whose(key)
        columns: list[list[Any]] = [[None] * points for _ in Series._fields]
        before = first - MOST_SPREAD - 1
        for cell in self._cells(row, first - MOST_SPREAD, last):
            tick = cell[0]
            if cell[1] == whose and before < tick <= last:
                span = tick - before if before >= first - MOST_SPREAD else 1
                _fill(columns, cell, tick - first, span if span <= MOST_SPREAD else 1)
                before = tick
        return Series(*columns)

    def _cells(self, row: int, first: int, last: int) -> Iterator[tuple[Any, ...]]:
        """Yield the cells at the places of these ticks, in order; what they hold may be of others."""
        size, row_at = _CELL.size, row * ROW_BYTES
        start, stop = first % CELLS * size, (last % CELLS + 1) * size
        if start < stop:
            content = os.pread(self._fd, stop - start, row_at + start)
        else:
            content = os.pread(self._fd, ROW_BYTES - start, row_at + start)
            content = content.ljust(ROW_BYTES - start, b"\0") + os.pread(self._fd, stop, row_at)
        yield from _CELL.iter_unpack(content[: len(content) // size * size])

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._fd)


def _whose(key: str) -> int:
    return zlib.crc32(key.encode("utf-8", "surrogatepass"))


def _fill(columns: Sequence[list[Any]], cell: Sequence[Any], place: int, span: int) -> None:
    """Put a cell into the series, at this place of them. span: how many ticks it is of, the last of which it has written."""
    _, _, _, _, *gained, p50_s, p99_s, in_flight, state = cell
    for column, count in zip(columns[:2], gained, strict=True):
        if count == _UNKNOWN:
            continue
        for step in range(min(span, place + 1)):
            column[place - step] = count if span == 1 else count // span + (step < count % span)
    if place >= 0:
        _, _, of_p50, of_p99, of_in_flight, of_state = columns
        of_p50[place], of_p99[place] = _known(p50_s), _known(p99_s)
        of_in_flight[place], of_state[place] = in_flight, STATES[state]


def _known(seconds: float) -> float | None:
    return None if math.isnan(seconds) else round(seconds, 6)
