"""The layout of a row: what each 64-bit cell of one backend's numbers holds.

A backend has a row in every worker's slot of the board, which that worker alone writes (OWN_CELLS, then one cell
for each status code, the parts of the breaker's window, the buckets of two histograms), and one row that all
workers share (SHARED_CELLS), where the last one to write a cell is right. Both are seen twice over the same bytes:
as signed integers ("q") and, for the few cells that say so, as doubles ("d"). A bucket holds its own count,
not the cumulative one, and its bound belongs to it (Prometheus' `le`).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from struct import Struct
from typing import Final

# A worker's own row: every cell counts up, but for those in GAUGES. What each request and each look touches comes first, here and
# in the shared row: eight cells are a line of the processor's cache, and of hundreds of backends each line is a cold one.
IN_FLIGHT: Final = 0
LEASES: Final = 1
OK: Final = 2
BYTES_OUT: Final = 3
LATENCY_SUM: Final = 4  # seconds, double
DURATION_SUM: Final = 5  # seconds, double
OVERDUE: Final = 6  # requests now that wait on it for longer than others take
WAITING_SINCE: Final = 7  # seconds, double: when the oldest lease began that waits for its answer; 0.0 for none
FAILED: Final = 8
ABANDONED: Final = 9
RETRIES: Final = 10
BYTES_IN: Final = 11
CONNECTS: Final = 12
TUNNELS: Final = 13  # open now
EJECTED: Final = 14  # times that this worker ejected it
OBSERVED: Final = 15  # times that it would have, if it were to do more than observe
HEDGES: Final = 16  # tries begun beside one that was late
HEDGES_WON: Final = 17  # those of them whose answer was used
QUEUED: Final = 18  # a service's own row: requests that wait now until a backend is not full
QUEUE_REFUSED: Final = 19  # a service's own row: those that waited in vain, or found the queue full
RATE_LIMITED: Final = 20  # a service's own row, the edge's for routes: requests beyond their client's rate
GENERATION: Final = 21  # the edge's own row: number of the configuration that this worker has applied
BEAT_AT: Final = 22  # the edge's own row, seconds, double: this worker's last heartbeat
STRATEGY_FALLBACKS: Final = 23  # a service's own row: picks by round robin because a user's strategy failed
EXCUSED: Final = 24  # failures that are not held against it: all fail alike, or nobody else was asked
LOG_LINES_LOST: Final = 25  # the edge's own row: lines of log and console that could not be written
MIRRORED: Final = 26  # the edge's own row: copies of requests that were sent to another service
MIRRORS_DROPPED: Final = 27  # the edge's own row: copies that were not: too many under way, or a body that was not kept
OUTRUN: Final = 28  # leases that ended because a try begun later had its answer first
LOOP_LAG: Final = 29  # the edge's own row, seconds, double: how late this worker's loop has lately been at most
TIER_0: Final = 30  # leases that were taken because it was in the nearest tier (`near_first`); the cells behind it, others
TIER_1: Final = 31
TIER_2: Final = 32
TIER_3: Final = 33  # and any farther one
SERIAL: Final = 34  # the edge's own row: counts what this worker has applied, found backends among it
FAILED_CONNECT: Final = 35  # of the failed: no connection came about
FAILED_TIMEOUT: Final = 36  # of the failed: it kept silent for too long
FAILED_CLOSED: Final = 37  # of the failed: it closed the connection before an answer
FAILED_ANSWER: Final = 38  # of the failed: what it answered is not HTTP, or broke off
FAILED_STATUS: Final = 39  # of the failed: it answered with a status that is a failure
CONNECT_SUM: Final = 40  # seconds, double: what connections took to be made, before TLS
QUEUE_WAITS: Final = 41  # a service's own row: requests that have waited until a backend was not full, or was there
QUEUE_WAIT_SUM: Final = 42  # a service's own row, seconds, double: how long, in all
HANDSHAKES: Final = 43  # the edge's own row: TLS handshakes with clients that came about
HANDSHAKES_RESUMED: Final = 44  # those of them that went on with an earlier session
HANDSHAKES_FAILED: Final = 45  # the edge's own row: those that did not
SPANS_SENT: Final = 46  # the edge's own row: spans of traces that a collector has taken
SPANS_LOST: Final = 47  # the edge's own row: spans of traces that none has: no room, no answer, or refused
HTTP2_REQUESTS: Final = 48  # the edge's own row: requests that clients have sent by HTTP/2
EXCESS_RESET: Final = 49  # the edge's own row: connections of HTTP/2 that ended for too many requests taken back; and so on
EXCESS_REFUSED: Final = 50
EXCESS_PING: Final = 51
EXCESS_SETTINGS: Final = 52
EXCESS_PRIORITY: Final = 53
EXCESS_WINDOW_UPDATE: Final = 54
EXCESS_EMPTY_DATA: Final = 55
EXCESS_UNKNOWN: Final = 56
EXCESS_CONTINUATION: Final = 57
EXCESS_HEADER_LIST: Final = 58
EXCESS_SLOW_HEAD: Final = 59
EXCESS_CLOSED_STREAM: Final = 60
EXCESS_GOAWAY: Final = 61
SESSION_REQUESTS: Final = 62  # answers to requests that it got because of their sticky cookie
DECISIONS_HELD: Final = 63  # the edge's own row: 1 while this worker holds records of decisions that it has not written down
DECISIONS_ANSWERED: Final = 64  # the edge's own row: which number of DECISIONS_ASKED it has written all of them down for

OWN_CELLS: Final = {name: cell for name, cell in globals().items() if type(cell) is int}
"""The numbered cells of a worker's own row, by name."""

GAUGES: Final = (
    *(IN_FLIGHT, WAITING_SINCE, TUNNELS, QUEUED, GENERATION, SERIAL, BEAT_AT, OVERDUE, LOOP_LAG),
    *(DECISIONS_HELD, DECISIONS_ANSWERED),
)
"""The cells that say how it is now; they die with their worker, counters outlive it."""

REAL_CELLS: Final = (WAITING_SINCE, LATENCY_SUM, DURATION_SUM, BEAT_AT, LOOP_LAG, CONNECT_SUM, QUEUE_WAIT_SUM)
"""The cells that are doubles."""

# The row that all workers share; zero is what a cell holds at first.
KNOWN: Final = 0  # 1 as soon as a worker has written what it knows
HEALTH: Final = 1  # see health.STATES
BREAKER: Final = 2  # see breaker.STATES
BREAKER_STREAK: Final = 3  # failures in a row
EWMA: Final = 4  # seconds, double: the mean when it was last stored, not decayed
EWMA_AT: Final = 5  # seconds, double: when that was
HEARD_AT: Final = 6  # seconds, double: when an answer last began; 0.0 for none yet
SILENT_SINCE: Final = 7  # seconds, double: since when it leaves requests unanswered that others answer; 0.0 if it does not
BREAKER_UNTIL: Final = 8  # seconds, double: when the next probe may begin; while it is closed, since when
BREAKER_TRIPS: Final = 9  # times that it opened which are not forgotten yet
BREAKER_TICKETS: Final = 10  # the number of the last probe
BREAKER_PROBE: Final = 11  # the number of the probe under way
BREAKER_TICK: Final = 12  # when it last opened, in parts of its window: what is older no longer counts
STATE: Final = 13  # see spec.STATES
WEIGHT: Final = 14  # the operator's, instead of the file's; 0 for the file's, and -1 for a weight of 0
IN_SERVICE_SINCE: Final = 15  # seconds, double: when it came, or came back; slow start counts from here
CHECK_AT: Final = 16  # seconds, double: when the latest probe ended; 0.0 for none
CHECK_TOOK: Final = 17  # seconds, double
CHECK_OK: Final = 18
CHECK_STATUS: Final = 19  # 0 without an HTTP answer
EPOCH: Final = 20  # a service's own row: another number whenever the candidates may be others
DRAINING: Final = 21  # the edge's own row: 1 while it is a lame duck
HEALTH_STREAK: Final = 22  # probes in a row that contradict HEALTH
NUDGED: Final = 23  # changes whenever traffic wants it to be probed soon
FAILED_AT: Final = 24  # seconds, double: when it last failed, until that is forgiven; 0.0 without one
CAP: Final = 25  # double: the adaptive cap of requests in flight; 0.0 before it has moved
CAP_BASE: Final = 26  # seconds, double: the latency without a queue; 0.0 if unknown
CAP_BASE_AT: Final = 27  # seconds, double: when that was measured
CAP_LOOKS_UNTIL: Final = 28  # seconds, double: until when it is measured anew; 0.0 while it is not
EWMA_BEFORE: Final = 29  # seconds, double: the mean before it failed
OUTRUN_SINCE: Final = 30  # seconds, double: when the first of the failures in a row was that it was outrun
PACE: Final = 31  # double: the mean of the latencies' logarithms (`pace`)
PACE_VARIANCE: Final = 32  # double: their variance
PACE_WEIGHT: Final = 33  # double: how many answers that mean was worth at PACE_AT
PACE_AT: Final = 34  # seconds, double: when an answer was last merged into it
PACE_SEEN: Final = 35  # answers since it was last forgotten
DOWN_SINCE: Final = 36  # seconds, double: when its probes last called it unhealthy
DROWNING_SINCE: Final = 37  # a service's own row, seconds, double: since when the pool drowns; 0.0 while it does not
DROWNING_USUAL: Final = 38  # a service's own row, seconds, double: what an answer usually takes
DROWNING_NOW: Final = 39  # a service's own row, seconds, double: what it takes now
EVENTS: Final = 40  # the edge's own row: another number whenever a worker has written an event
RECOVERED_AT: Final = 41  # seconds, double: when a probe last was good after a bad one; 0.0 if none was
DECISIONS_ASKED: Final = 42  # the edge's own row: another number whenever somebody wants to read all decisions

SHARED_CELLS: Final = {name: cell for name, cell in globals().items() if type(cell) is int and name not in OWN_CELLS}
"""The numbered cells of the shared row, by name."""

NOTED_CELLS: Final = PACE_SEEN + 1
"""So many shared cells, from the first on, hold all that a recorded decision says of a backend (`past`)."""

CHECK_DETAIL: Final = slice(len(SHARED_CELLS), len(SHARED_CELLS) + 32)
"""The shared cells that hold the latest probe's one line for people: 256 bytes of UTF-8, filled up with NUL."""

WINDOW_PARTS: Final = 10
"""The breaker's window moves in steps of a tenth."""

CODE_LABELS: Final = (*(str(int(status)) for status in HTTPStatus), "1xx", "2xx", "3xx", "4xx", "5xx")
"""The codes that have a cell, in the order of the cells; "4xx" is any of 400..499 without one of its own."""

LATENCY_BOUNDS_S: Final = tuple(1e-4 * 2 ** (step / 2) for step in range(40))
"""100 µs to 74 s in steps of the square root of two: a quantile is off by a fifth at most."""

DURATION_BOUNDS_S: Final[tuple[float, ...]] = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
"""The bounds that Prometheus' own clients use by default."""

_CODES: Final = len(OWN_CELLS)
WINDOW_TICK: Final = _CODES + len(CODE_LABELS)
WINDOW_REQUESTS: Final = WINDOW_TICK + 1
WINDOW_FAILURES: Final = WINDOW_REQUESTS + WINDOW_PARTS
WINDOW_CELLS: Final = range(WINDOW_TICK, WINDOW_FAILURES + WINDOW_PARTS)
"""The breaker's window: its newest part's number, then requests and failures in each part."""

_LATENCY: Final = WINDOW_FAILURES + WINDOW_PARTS
_DURATION: Final = _LATENCY + len(LATENCY_BOUNDS_S) + 1
ROW_CELLS: Final = _DURATION + len(DURATION_BOUNDS_S) + 1

CODE_CELLS: Final = slice(_CODES, WINDOW_TICK)
LATENCY_CELLS: Final = slice(_LATENCY, _DURATION)
DURATION_CELLS: Final = slice(_DURATION, ROW_CELLS)
"""Where a row's codes and histograms are; the last cell of a histogram is what lies above its last bound."""

LAYOUT: Final = ",".join(
    (
        *OWN_CELLS,
        *CODE_LABELS,
        f"window {WINDOW_PARTS}",
        *(f"latency {bound:g}" for bound in (*LATENCY_BOUNDS_S, float("inf"))),
        *(f"duration {bound:g}" for bound in (*DURATION_BOUNDS_S, float("inf"))),
        *(f"shared {name}" for name in SHARED_CELLS),
        f"detail {CHECK_DETAIL.stop - CHECK_DETAIL.start}",
    )
)
"""The layout's name: two rows with equal names can be added up."""


NUMBERS: Final = Struct("".join("d" if cell in REAL_CELLS else "q" for cell in range(ROW_CELLS)))
"""Reads a worker's own row whole, each cell as what it is."""

Row = tuple["memoryview[int]", "memoryview[float]"]
"""A row's cells, as integers and as doubles over the same bytes."""


@dataclass(frozen=True, slots=True)
class BackendRows:
    """The rows of one backend, or of the edge itself (its answers that no backend gave); given out by `workers.membership`.

    own: the row that this worker alone writes. everyone: the rows of all workers' slots, own first. shared: the row
    that all workers write.
    """

    own: Row
    everyone: tuple[memoryview[int], ...]
    shared: Row


def private_row() -> Row:
    """Return a row of zeros that nobody else sees."""
    row = memoryview(bytearray(ROW_CELLS * 8))
    return row.cast("q"), row.cast("d")


def private_rows() -> BackendRows:
    """Return rows of zeros for a process without other workers, or one that has no place among them yet."""
    own = private_row()
    return BackendRows(own, (own[0],), private_row())


def _cells_of_codes() -> tuple[int, ...]:
    """Return the cell of each code 0..599; below 100 they are invalid."""
    cell = {label: index for index, label in enumerate(CODE_LABELS, start=_CODES)}
    return tuple(cell.get(str(code), cell[f"{code // 100 or 5}xx"]) for code in range(600))


_CELL_OF_CODE: Final = _cells_of_codes()
_INVALID_CODE: Final = _CELL_OF_CODE[0]


def code_cell(code: int) -> int:
    """Return the cell that counts a status code; an invalid one counts as 5xx (RFC 9110 section 15)."""
    return _CELL_OF_CODE[code] if 0 <= code < 600 else _INVALID_CODE


QUICK_S: Final = DURATION_BOUNDS_S[0]
QUICK: Final = DURATION_CELLS.start
"""Most durations are no longer than that, and in this cell: to look a number up takes ten times as long as to compare two."""


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
