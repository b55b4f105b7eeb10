"""What was learned of a backend: health, breaker, latency, counters. It outlives a reload, and its numbers lie in rows of cells.

A `Learned` stands beside what the operator wrote (`BackendSpec`); a `Backend` holds both, and backends with the same key,
before and after a reload, share one `Learned`. It has two rows (`cells`). In its **own** row this worker alone writes: the
counters, and the window of the breaker. The **shared** row all workers write: what is known of the backend, of which there
is one truth (healthy, ejected, how slow). Its parts (`Health`, `Breaker`, `PeakEwma`, `Pace`, `AdaptiveCap`) are rules over
these cells, made when the rows are known, and keep nothing of their own that another worker would need.

Rows are in this process's memory at first, for `create_app()` opens nothing. When the worker takes its place, and for a
backend that comes with a reload, they are on the board (`move_to`). The edge itself has a `Learned`, too, `edge_row`: for
answers that no backend gave it counts there; a service has one, `Pool.row`, for what concerns all its backends. Who writes: a
lease (answers, failures), the health loop (probes), the operator's pages (state, weight), all in greenlets of one thread; the
pool's lock keeps those apart that belong together.
"""

from __future__ import annotations

from itertools import islice
from operator import add
from typing import Any, Final

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
    NOTED_CELLS,
    NUDGED,
    NUMBERS,
    QUICK,
    QUICK_S,
    REAL_CELLS,
    RECOVERED_AT,
    SILENT_SINCE,
    STATE,
    WAITING_SINCE,
    WEIGHT,
    WINDOW_CELLS,
    BackendRows,
    code_cell,
    duration_cell,
    private_rows,
)
from smartedge.balancer.ewma import PeakEwma
from smartedge.balancer.health import Health, HealthChange, ProbeResult
from smartedge.balancer.pace import Pace
from smartedge.balancer.spec import STATES, BackendSpec

LearnedNote = tuple[bytes, int, float, tuple[float, ...]]
"""What `Learned.note` takes down: cells of the shared row, leases open in all workers, how long a lease of another worker has
waited, and since when the two oldest of our own leases that wait have done so."""

LEARN_EACH_S: Final = 0.001
"""Of more answers than one in this time only one is learned from: means are no better by a thousand more in a second."""

_NEVER_EJECTED: Final = BreakerPolicy(1, 1.0, 1.0, 1, 1.0, 1.0, 0.0, observe=True)
"""The policy of the edge itself and of services, which nobody ejects; nor are they probed."""


class Learned:
    """What was learned of one backend, or of the edge itself; owned by its `Backend`, kept over reloads by the registry.

    spec: whose policies hold; None for the edge, which nobody probes or ejects. cells, reals: our own row. rows: this
    backend's row in every worker's slot, ours first; others: without it. shared, shared_reals: the row of all. waiting: our
    leases that have had no answer yet, oldest first, and since when. notes_room: how many more answers `Evidence`
    wants to note. learn_at: when an answer is next learned from (`learn`), or before that one
    that took longer than usual_s, the mean of the last time.
    """

    __slots__ = (
        "_noted",
        "_others_waited_s",
        "adaptive_cap",
        "adapts",
        "breaker",
        "cells",
        "ewma",
        "health",
        "learn_at",
        "notes_room",
        "others",
        "pace",
        "reals",
        "rows",
        "shared",
        "shared_reals",
        "usual_s",
        "waiting",
    )

    def __init__(self, spec: BackendSpec | None = None) -> None:
        self.adapts = spec is not None and spec.max_in_flight == "adaptive"
        self.waiting: dict[Any, float] = {}
        self.notes_room = 1
        self._others_waited_s = 0.0
        self.learn_at = self.usual_s = 0.0
        if spec is None:
            self._build(private_rows(), None, _NEVER_EJECTED)
        else:
            self._build(private_rows(), spec.health, spec.breaker)

    def _build(self, rows: BackendRows, health: Any, breaker: BreakerPolicy) -> None:
        self.cells, self.reals = rows.own
        self.shared, self.shared_reals = rows.shared
        self._noted = self.shared[:NOTED_CELLS]
        self.rows = rows.everyone
        self.others = rows.everyone[1:]
        self.breaker = Breaker(breaker, rows)
        self.health = Health(health, rows.shared)
        self.ewma = PeakEwma(rows.shared)
        self.pace = Pace(rows.shared)
        self.adaptive_cap = AdaptiveCap(rows.shared)

    def follow_spec(self, spec: BackendSpec, before: BackendSpec | None = None) -> None:
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

    def move_to(self, rows: BackendRows) -> None:
        """Go on in these rows of the board: once, when the worker takes its place, or the backend comes.

        Our own row there goes on from what an earlier worker of the slot counted, but for what is now: its leases (and
        tunnels) died with it. What the shared row says is right, unless no worker has written it yet.
        """
        ints, reals = rows.own
        for cell in (*GAUGES, *WINDOW_CELLS):
            ints[cell] = self.cells[cell]
        for cell in [cell for cell, count in enumerate(self.cells.tolist()) if count]:  # mostly none: nothing has happened yet
            if cell in GAUGES or cell in WINDOW_CELLS:
                continue
            if cell in REAL_CELLS:
                reals[cell] += self.reals[cell]
            else:
                ints[cell] += self.cells[cell]
        shared = rows.shared[0]
        if not shared[KNOWN]:
            shared[:] = self.shared
            shared[KNOWN] = 1
        self._build(rows, self.health.policy, self.breaker.policy)

    def see_workers(self, everyone: tuple[memoryview[int], ...]) -> None:
        """Add up the rows of the workers that have come, too; everyone: see `BackendRows`."""
        self.rows = self.breaker.rows = everyone
        self.others = everyone[1:]

    def add(self, cell: int, amount: int = 1) -> None:
        """Add to one of our own counters."""
        self.cells[cell] += amount

    def count(self, code: int, duration_s: float, bytes_in: int, bytes_out: int) -> None:
        """Count a client's finished request, with the bytes of its body and of the answer's."""
        cells = self.cells
        cells[code_cell(code)] += 1
        cells[QUICK if duration_s <= QUICK_S else duration_cell(duration_s)] += 1
        if bytes_in:
            cells[BYTES_IN] += bytes_in
        cells[BYTES_OUT] += bytes_out
        self.reals[DURATION_SUM] += duration_s

    def learn(self, now: float, latency_s: float) -> bool:
        """Learn from an answer how long they take; return whether the backend was silent until then (`silence`).

        Called for one in LEARN_EACH_S, and those between that take longer.
        """
        self.usual_s = self.ewma.observe(now, latency_s)
        was_silent = self.shared_reals[SILENT_SINCE] > 0.0
        if now < self.learn_at:
            return was_silent
        self.pace.add(latency_s)
        self.shared_reals[HEARD_AT] = now
        if self.adapts:
            self.adaptive_cap.observe(now, latency_s, self.in_flight())
        elif not was_silent:
            self.learn_at = now + LEARN_EACH_S
        return was_silent

    def in_flight(self) -> int:
        """Return the leases open now, in all workers."""
        total = self.cells[IN_FLIGHT]
        for row in self.others:
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

    def note(self) -> LearnedNote:
        """Take down what it is now, unread: `PastLearned` tells it later, if anybody wants to know."""
        oldest = tuple(islice(self.waiting.values(), 2)) if self.waiting else ()
        return self._noted.tobytes(), self.in_flight(), self._others_waited_s, oldest

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

    @property
    def recovered_at(self) -> float:
        """When a probe last was good after a bad one: what was sent before says nothing of who answers now. 0.0 if none was."""
        return self.shared_reals[RECOVERED_AT]

    def returned(self, now: float) -> None:
        """Say that the backend has come into service, or come back: slow start begins."""
        self.shared_reals[IN_SERVICE_SINCE] = now

    def forget(self, now: float) -> None:
        """Say that another server has taken the backend's place: what was learned of the one before says nothing of it."""
        self.health.forget()
        self.breaker.forget(now)
        self.ewma.seed(now, 0.0)

    def probed(self, now: float, ok: bool) -> tuple[HealthChange | BreakerChange, ...]:
        """Take in a probe's result; return what has changed, health and breaker, for the caller to announce.

        One that turns good after bad ones closes the breaker: the process that failed is gone, or sound again.
        """
        readmitted = None
        if ok and self.health.doubted:
            readmitted = self.breaker.replaced(now)
            self.shared_reals[RECOVERED_AT] = now
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

    def keep_probe(self, now: float, result: ProbeResult) -> None:
        """Write down what the latest probe has found, which ended now, for all workers."""
        ints, reals = self.shared, self.shared_reals
        ints[CHECK_OK], ints[CHECK_STATUS] = result.ok, result.status or 0
        reals[CHECK_TOOK] = result.took_s
        room = (CHECK_DETAIL.stop - CHECK_DETAIL.start) * 8
        text = result.detail.encode("utf-8", "replace")[:room]
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
    def last_probe_at(self) -> float:
        """When the latest probe ended; 0.0 for none."""
        return self.shared_reals[CHECK_AT]

    @property
    def last_probe(self) -> ProbeResult | None:
        """What the latest probe found, whichever worker made it."""
        ints, reals = self.shared, self.shared_reals
        if not reals[CHECK_AT]:
            return None
        detail = bytes(ints[CHECK_DETAIL].cast("B")).rstrip(b"\0").decode("utf-8", "ignore")
        return ProbeResult(bool(ints[CHECK_OK]), ints[CHECK_STATUS] or None, detail, reals[CHECK_TOOK])

    def totals(self) -> list[float]:
        """Return each cell added up over all workers; WAITING_SINCE means nothing here."""
        first, *others = self.rows
        totals: list[float] = list(NUMBERS.unpack_from(first))
        for row in others:
            totals = list(map(add, totals, NUMBERS.unpack_from(row)))
        return totals
