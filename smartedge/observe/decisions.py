"""Decisions: which requests are recorded, where the records lie, and how they are read back for the whole edge.

Ordinary requests are sampled; one that is tried again, hedged, failed, or answered with an error of ours is always
recorded, within a limit. Each worker has a ring of its own; whoever is asked reads them all. Of sampled requests most are
only held, and written into the ring when somebody asks: he says so on the board, and the other workers look there.
"""

from __future__ import annotations

import json
import logging
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from time import monotonic, time
from typing import Any, Final

import gevent
from gevent import get_hub

from smartedge.balancer.cells import DECISIONS_ANSWERED, DECISIONS_ASKED, DECISIONS_HELD
from smartedge.balancer.learned import Learned
from smartedge.balancer.pool import Lease
from smartedge.balancer.trace import CANDIDATE, LEFT_OUT, Trace
from smartedge.http.request import Request
from smartedge.observe.decision_text import Document, record_text
from smartedge.observe.sampling import gap
from smartedge.proxy.explain import Explain
from smartedge.workers.periodic import Pauses
from smartedge.workers.ring import RECORD_BYTES, RECORDS, Ring, newest_texts, texts, written_part

log = logging.getLogger(__name__)

SAMPLED: Final = ["sampled"]

AT_ONCE: Final = 2
MOMENT_S: Final = 0.02
"""A worker writes down so many sampled requests in so much time at most, 100 in a second, for making a text of one takes twice as
long as serving it. The others are only held, until somebody asks or newer ones take their place (docs/performance.md)."""

LOOKS: Final = 100
LOOK_AGAIN_S: Final = 0.01
"""Whoever asks looks so often, with so much time between, whether the other workers have written theirs down."""

LATE_PER_S: Final = 200
"""When everything fails, recording all of it would only make room for the last five seconds by taking time from serving."""

NOT_TRACED: Final = b'"trace_id":null'
"""What stands in a record without a trace id: its paths are escaped, so that no client can write this."""


def _in_a_moment(call: Callable[[], None]) -> None:
    timer = get_hub().loop.timer(MOMENT_S, ref=False)
    timer.start(_call_and_close, timer, call)


def _call_and_close(timer: Any, call: Callable[[], None]) -> None:
    timer.close()
    call()


class Decisions(Explain):
    """What was decided about requests: which are recorded, this worker's records, and those of all; owned by its Edge.

    The Forwarder begins a trace and has an exchange recorded; the admin pages read.
    ratio: of ordinary requests to be recorded. may_ask: whether a request asks for its decision, and may hear it. client_of:
    gives the address of a request's client. on_sampled: told of each ordinary request that is sampled. later: calls back soon.
    row: the edge's, by which workers hear that somebody asks.
    """

    def __init__(
        self,
        ratio: float,
        rng: Random,
        may_ask: Callable[[Request], bool],
        clock: Callable[[], float] = monotonic,
        wall: Callable[[], float] = time,
        client_of: Callable[[Request], bytes] = lambda request: request.peer,
        on_sampled: Callable[[Request], None] = lambda _: None,
        later: Callable[[Callable[[], None]], None] = _in_a_moment,
        row: Learned | None = None,
    ) -> None:
        self._row = row or Learned()
        self._rng = rng
        self._may_ask = may_ask
        self._client_of = client_of
        self._on_sampled = on_sampled
        self._clock = clock
        self._wall = wall
        self._second = 0
        self._late_left = 0
        self._slot = 0
        self._directory: Path | None = None
        self._ring = Ring.private()
        self._pending: deque[tuple[Any, ...]] = deque(maxlen=RECORDS)
        self._writes = False
        self._answered = 0
        self._later = later
        self.set_ratio(ratio)

    def set_ratio(self, ratio: float) -> None:
        """Sample with this ratio from now on."""
        self._ratio = ratio
        self._left = gap(self._ratio, self._rng)

    def join_workers(self, directory: Path | None, slot: int) -> None:
        """Keep the records in the edge's directory, where all workers find them; in this process alone without one."""
        if directory is not None:
            try:
                ring = Ring.open(directory / f"decisions-{slot}.ring")
            except OSError as error:
                log.warning("decisions of requests are kept in this process alone: %s", error)
                return
            self._ring.close()
            self._directory, self._slot, self._ring = directory, slot, ring
        self._left = gap(self._ratio, self._rng)  # with --preload all workers would have drawn the same

    # ---- on a request's way ----

    def begin_trace(self, request: Request) -> Trace | None:
        """Give the trace of a request that is sampled, or that asks to be explained and may. Raises as `may_ask`."""
        self._left -= 1  # ordinary requests until the next one that is sampled
        sampled = self._left < 0
        if sampled:
            self._left = gap(self._ratio, self._rng)
            self._on_sampled(request)
        if request.said.for_edge and self._may_ask(request):
            return Trace("asked")
        return Trace("sampled") if sampled else None

    def begin_late_trace(self, why: str, lease: Lease | None = None) -> Trace | None:
        """Give the trace of a request that has become worth recording; None when there are too many of them now.

        lease: the one under way, whose pick was not recorded.
        """
        second = int(self._clock())
        if second != self._second:
            self._second, self._late_left = second, LATE_PER_S
        if self._late_left <= 0:
            return None
        self._late_left -= 1
        trace = Trace(why)
        if lease is not None:
            lease.record = trace.add_missed(lease.opened_at, lease.backend.id)
        return trace

    def record_exchange(self, exchange: Any) -> None:
        """Write down a request that has ended, if it is to be."""
        attempts, error = exchange.attempts, exchange.error
        trace = attempts.trace
        if exchange.own_answer is not None and exchange.status >= 500:
            if trace is None:
                trace = self.begin_late_trace("error")
            else:
                trace.because("error")
        if trace is None:
            return
        now, status = self._clock(), exchange.status
        if error is None:
            outcome = trace.end_well(now, status)
        else:
            outcome = "abandoned" if error.blame == "client" else "failed"
            trace.close(now, outcome, status, error)
        request, route = attempts.request, exchange.route
        started = attempts.started
        ended = (
            self._wall() - (now - started),
            trace,
            outcome,
            self._client_of(request),
            request.method,
            exchange.asked_target or request.target,
            status,
            None if error is None else (error.blame, error.detail),
            attempts.request_id,
            attempts.trace_id,
            started,
            attempts.tries,
            attempts.latency_s,
            exchange.duration_s,
            None if route is None else (route.id, exchange.routed_to),
        )
        if trace.why == SAMPLED:
            self._pending.append(ended)
            if not self._writes:
                self._writes = True
                self._row.cells[DECISIONS_HELD] = 1
                self._later(self._write_some)
        else:
            self._ring.write(record_text(self._slot, *ended))

    def _write_some(self) -> None:
        """Write down some of what has ended, the oldest first, and the rest later (called in the hub)."""
        for _ in range(min(len(self._pending), AT_ONCE)):
            self._write_oldest()
        self._writes = bool(self._pending)
        if self._writes:
            self._later(self._write_some)
        else:
            self._row.cells[DECISIONS_HELD] = 0

    def look(self) -> None:
        """Hear whether somebody asks another worker for the decisions of all; called often."""
        asked = self._row.shared[DECISIONS_ASKED]
        if asked != self._answered:
            self._answered = asked
            gevent.spawn(self._answer, asked)

    def _answer(self, asked: int) -> None:
        self._write_all()
        self._row.cells[DECISIONS_ANSWERED] = asked

    def _write_all(self) -> None:
        """Write down what is held now, in pieces."""
        pause = Pauses()
        for _ in range(len(self._pending)):
            if self._pending:  # others may have written them meanwhile
                self._write_oldest()
            pause()

    def _write_oldest(self) -> None:
        self._ring.write(record_text(self._slot, *self._pending.popleft()))

    # ---- for whoever asks ----

    def newest(self) -> list[Document]:
        """Return the last 1,000 records of the whole edge, newest first. The other workers have a second to write theirs down."""
        shared = self._row.shared
        self._answered = shared[DECISIONS_ASKED] = shared[DECISIONS_ASKED] + 1
        self._answer(self._answered)
        for _ in range(LOOKS):
            if all(not row[DECISIONS_HELD] or row[DECISIONS_ANSWERED] >= self._answered for row in self._row.others):
                break
            gevent.sleep(LOOK_AGAIN_S)
        kept = (text for content in self._rings() for text in texts(content))
        found = sorted(map(json.loads, kept), key=lambda document: document["at"], reverse=True)
        return found[:RECORDS]

    def newest_traced(self, most: int) -> Iterator[Document]:
        """Give, worker by worker and oldest first, those of the newest `most` records of each that have a trace id."""
        for content in self._rings():
            yield from (json.loads(text) for text in newest_texts(content, most) if NOT_TRACED not in text)

    def find(self, wanted: str) -> Document | None:
        """Return the newest record of a request, in full; None if there is none. wanted: its id, or that of its trace."""
        newest = self.newest()
        for key in ("request_id", "trace_id"):
            for document in newest:
                if document.get(key) == wanted:
                    return expanded(document)
        return None

    def close(self) -> None:
        """Let go of the edge's directory; what ends after that is nobody's to ask for."""
        while self._pending:
            self._write_oldest()
        self._ring.close()
        self._directory, self._ring = None, Ring.private(1)

    def _rings(self) -> Iterator[bytes]:
        """Give the rings of all workers, as they are now."""
        if self._directory is None:
            yield self._ring.content()
        else:
            yield from (written_part(path, RECORD_BYTES) for path in sorted(self._directory.glob("decisions-*.ring")))


def expanded(document: Document) -> Document:
    """Return a record as it is shown: its rows with their names, and Unix times."""
    tries = []
    for number, one in enumerate(document["tries"], 1):
        at = document["at"] + one["after_s"]
        candidates = [dict(zip(CANDIDATE, row, strict=True)) for row in one["candidates"]]
        left_out = [dict(zip(LEFT_OUT, row, strict=True)) for row in one["left_out"]]
        tries.append(
            {"number": number, "at": round(at, 6)}
            | one
            | {
                "candidates": [candidate | {"picked": candidate["id"] == one["backend"]} for candidate in candidates],
                "left_out": [
                    other | {"until": None if other["for_s"] is None else round(at + other["for_s"], 3)} for other in left_out
                ],
            }
        )
    return document | {"tries": tries}
