"""What we learned of a backend, which outlives a reload, in the rows of all workers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Protocol

from smartedge.balancer.adaptive_cap import AdaptiveCap
from smartedge.balancer.breaker import Breaker, BreakerChange, BreakerPolicy
from smartedge.balancer.cells import (
    BYTES_IN,
    BYTES_OUT,
    CHECK_AT,
    CHECK_DETAIL,
    CHECK_OK,
    CHECK_STATUS,
    CHECK_TOOK,
    DOWN_SINCE,
    DURATION_SUM,
    GAUGES,
    HEARD_AT,
    IN_FLIGHT,
    IN_SERVICE_SINCE,
    KNOWN,
    NUDGED,
    REAL_CELLS,
    ROW_CELLS,
    SILENT_SINCE,
    STATE,
    WAITING_SINCE,
    WEIGHT,
    WINDOW_FAILURES,
    WINDOW_REQUESTS,
    WINDOW_TICK,
    Row,
    code_cell,
    duration_cell,
    private_row,
)
from smartedge.balancer.ewma import PeakEwma
from smartedge.balancer.health import Health, HealthChange, HealthPolicy
from smartedge.balancer.pace import Pace
from smartedge.balancer.spec import STATES, BackendSpec

WINDOW: Final = range(WINDOW_TICK, max(WINDOW_REQUESTS, WINDOW_FAILURES) + 10)


class Check(Protocol):
    """What one probe found: `status` is None without an HTTP answer, `detail` is one line for people."""

    @property
    def ok(self) -> bool: ...  # noqa: D102
    @property
    def status(self) -> int | None: ...  # noqa: D102
    @property
    def detail(self) -> str: ...  # noqa: D102
    @property
    def took_s(self) -> float: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Checked:
    """The latest probe, as all workers know it. at: its end, in seconds of the monotonic clock."""

    at: float
    ok: bool
    status: int | None
    detail: str
    took_s: float


class Learned:
    """What we learned of one backend, or, for the errors that the edge makes itself, of the edge.

    cells, reals: our own row (see `cells`), the only one we write alone. rows: this backend's row in every
    worker's slot, ours too. shared: the integers of the row that all workers write. waiting: our leases that
    have had no answer yet, oldest first, and since when. notes: what our answers tell of their kinds (`evidence`).
    """

    __slots__ = (
        "_others_waited_s",
        "adaptive_cap",
        "adapts",
        "breaker",
        "cells",
        "ewma",
        "health",
        "notes",
        "notes_room",
        "pace",
        "reals",
        "rows",
        "shared",
        "shared_reals",
        "waiting",
    )

    def __init__(self, health: HealthPolicy | None = None, breaker: BreakerPolicy | None = None) -> None:
        self.breaker = Breaker(breaker or BreakerPolicy())
        self.health = Health(health or HealthPolicy())
        self.ewma = PeakEwma()
        self.pace = Pace()
        self.adaptive_cap = AdaptiveCap()
        self.adapts = False
        self.waiting: dict[Any, float] = {}
        self.notes: list[Any] = []
        self.notes_room = 1
        self._others_waited_s = 0.0
        self.cells, self.reals = private_row()
        self.rows: tuple[memoryview[int], ...] = (self.cells,)
        self._share(private_row())

    def follow(self, spec: BackendSpec, before: BackendSpec | None = None) -> None:
        """Go on with the policies of another configuration; what was learned stays, and what the operator has said since.

        before: the spec until now, if there was one. Where the file says another state or weight than it did, that
        is the operator's latest word.
        """
        if spec.state != ("enabled" if before is None else before.state):
            self.shared[STATE] = STATES.index(spec.state)
        if before is not None and spec.weight != before.weight:
            self.shared[WEIGHT] = 0
        self.health.policy = spec.health
        self.breaker.policy = spec.breaker
        self.adapts = spec.max_in_flight == "adaptive"

    def attach(
        self, ints: memoryview[int], reals: memoryview[float], rows: tuple[memoryview[int], ...], shared: Row | None = None
    ) -> None:
        """Go on counting in this row of the board, moving there what was counted so far, and with this shared row.

        Our own row goes on from what an earlier worker of the slot counted, but for what is now: its leases (and
        tunnels) died with it. What the shared row says is right, unless no worker has written it yet.
        """
        counted = self.cells[:ROW_CELLS].tolist()
        summed = self.reals[:ROW_CELLS].tolist()
        for index in range(ROW_CELLS):  # first, for it may be the same row
            self.cells[index] = 0
        for index, count in enumerate(counted):
            if index in GAUGES or index in WINDOW:
                ints[index] = count
            elif index in REAL_CELLS:
                reals[index] += summed[index]
            else:
                ints[index] += count
        self.cells, self.reals, self.rows = ints, reals, rows
        if shared is not None and not shared[0][KNOWN]:
            shared[0][:ROW_CELLS] = self.shared[:ROW_CELLS]
            shared[0][KNOWN] = 1
        self._share(shared or (self.shared, self.shared_reals))

    def meet(self, rows: tuple[memoryview[int], ...]) -> None:
        """Hear that there are more workers: these are the rows of all."""
        self.rows = rows
        self._share((self.shared, self.shared_reals))

    def _share(self, shared: Row) -> None:
        self.shared, self.shared_reals = shared
        self.health.ints = shared[0]
        self.ewma.reals = self.adaptive_cap.reals = shared[1]
        self.pace.use(shared)
        self.breaker.use(shared, self.cells, self.rows)

    def add(self, cell: int, amount: int = 1) -> None:
        """Add to one of our own counters."""
        self.cells[cell] += amount

    def count(self, code: int, duration_s: float, bytes_in: int, bytes_out: int) -> None:
        """Count a client's finished request, with the bytes of its body and of the answer's."""
        cells = self.cells
        cells[code_cell(code)] += 1
        cells[duration_cell(duration_s)] += 1
        cells[BYTES_IN] += bytes_in
        cells[BYTES_OUT] += bytes_out
        self.reals[DURATION_SUM] += duration_s

    def in_flight(self) -> int:
        """Return the leases open now, in all workers."""
        total = 0
        for row in self.rows:
            total += row[IN_FLIGHT]
        return total

    def latency_s(self, now: float) -> float:
        """Return the latency to expect: the mean, or the age of the oldest lease without an answer; 0.0 if unknown.

        That age is a lower bound, by which a backend that hangs loses its good score (nginx's `least_time`
        with `inflight`).
        """
        latency_s = self.ewma.read(now)
        if self.waiting:
            age_s = now - next(iter(self.waiting.values()))
            if age_s > latency_s:
                latency_s = age_s
        return latency_s if latency_s > self._others_waited_s else self._others_waited_s

    def waited_s(self, now: float) -> float:
        """Return the age of the oldest lease without an answer, in any worker; 0.0 if there is none."""
        if not self.waiting:
            return self._others_waited_s
        age_s = now - next(iter(self.waiting.values()))
        return age_s if age_s > self._others_waited_s else self._others_waited_s

    def tell_waiting(self, now: float) -> None:
        """Let the other workers know how long our leases have waited, and hear of theirs; done often."""
        oldest = next(iter(self.waiting.values()), 0.0)
        if oldest != self.reals[WAITING_SINCE]:
            self.reals[WAITING_SINCE] = oldest
        waited_s = 0.0
        for row in self.rows:
            if row is not self.cells and row[WAITING_SINCE]:  # no bit is set in 0.0
                waited_s = max(waited_s, now - row[WAITING_SINCE : WAITING_SINCE + 1].cast("B").cast("d")[0])
        self._others_waited_s = waited_s

    @property
    def heard_at(self) -> float:
        """When an answer last began, in whichever worker; 0.0 for none yet."""
        return self.shared_reals[HEARD_AT]

    @property
    def silent_since(self) -> float:
        """Since when it leaves requests unanswered that others answer (`silence`); 0.0 if it does not."""
        return self.shared_reals[SILENT_SINCE]

    @property
    def down_since(self) -> float:
        """When its probes last called it unhealthy; 0.0 if they never did."""
        return self.shared_reals[DOWN_SINCE]

    def returned(self, now: float) -> None:
        """Say that the backend has come into service, or come back: slow start begins."""
        self.shared_reals[IN_SERVICE_SINCE] = now

    def forget(self, now: float) -> None:
        """Say that another server has taken the backend's place: what was learned of the one before says nothing of it."""
        self.health.forget()
        self.breaker.forget()
        self.ewma.seed(now, 0.0)

    def probed(self, now: float, ok: bool) -> tuple[HealthChange | BreakerChange, ...]:
        """Take in a probe's result; return what has changed, health and breaker, for the caller to announce.

        One that turns good after bad ones closes the breaker: the process that failed is gone, or sound again.
        """
        readmitted = self.breaker.replaced(now) if ok and self.health.doubted else None
        change = self.health.probed(ok)
        if change == "up":
            # What it was like before it went down is no longer known: it starts at the mean of the others again.
            self.ewma.seed(now, 0.0)
            self.pace.forget()
            self.breaker.forgive()
        elif ok:
            self.ewma.forgive(now)
        if change == "up" or readmitted:
            self.returned(now)
        if change == "down":
            self.shared_reals[DOWN_SINCE] = now
        return tuple(one for one in (change, readmitted) if one is not None)

    def checked(self, now: float, check: Check) -> None:
        """Keep what the latest probe has found."""
        ints, reals = self.shared, self.shared_reals
        ints[CHECK_OK], ints[CHECK_STATUS] = check.ok, check.status or 0
        reals[CHECK_TOOK] = check.took_s
        room = (CHECK_DETAIL.stop - CHECK_DETAIL.start) * 8
        text = check.detail.encode("utf-8", "replace")[:room]
        ints[CHECK_DETAIL] = memoryview(text.ljust(room, b"\0")).cast("q")
        reals[CHECK_AT] = now

    def nudge(self) -> None:
        """Ask whichever worker probes to do so soon."""
        self.shared[NUDGED] += 1

    @property
    def nudged(self) -> int:
        """A number that changes with every nudge."""
        return self.shared[NUDGED]

    @property
    def last_check(self) -> Checked | None:
        """The latest probe, whichever worker made it."""
        ints, reals = self.shared, self.shared_reals
        if not reals[CHECK_AT]:
            return None
        detail = bytes(ints[CHECK_DETAIL].cast("B")).rstrip(b"\0").decode("utf-8", "ignore")
        return Checked(reals[CHECK_AT], bool(ints[CHECK_OK]), ints[CHECK_STATUS] or None, detail, reals[CHECK_TOOK])

    def totals(self) -> list[float]:
        """Return each cell added up over all workers; WAITING_SINCE means nothing here."""
        totals: list[float] = [sum(cells) for cells in zip(*self.rows, strict=True)]
        reals = [row.cast("B").cast("d") for row in self.rows]
        for index in REAL_CELLS:
            totals[index] = sum(row[index] for row in reals)
        return totals
