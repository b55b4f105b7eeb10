"""The last 15 minutes of the edge: what the leading worker writes down of every backend and service, and any worker can tell."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from smartedge.balancer.backend import Backend
from smartedge.balancer.cells import LATENCY_CELLS, quantile
from smartedge.balancer.pool import Pool
from smartedge.observe.history_table import EVERY_S, MODULUS, MOST_SPREAD, POINTS, HistoryTable, Sample, Series
from smartedge.observe.recent import Counted, Kept, count_of
from smartedge.proxy.service import Service

log = logging.getLogger(__name__)

LATE_S: Final = 2.0
"""A tick is told when it has been over for so long: then it is written, of however many backends."""

PIECE: Final = 10
"""So many backends are counted at a stretch, about half a millisecond."""

_NOTHING: Final = Counted(0, 0, (0,) * (LATENCY_CELLS.stop - LATENCY_CELLS.start))


class History:
    """Owned by the Edge, which has `look` called once a second; read by the page of the history.

    services: by name. wall, now: Unix time, and that of the monotonic clock. give_way: called between two pieces
    of what takes long.
    """

    def __init__(
        self,
        services: Callable[[], Mapping[str, Service]],
        wall: Callable[[], float],
        now: Callable[[], float],
        give_way: Callable[[], None] = lambda: None,
    ) -> None:
        self._services = services
        self._wall = wall
        self._now = now
        self._give_way = give_way
        self._table: HistoryTable | None = None
        self._row_of: Callable[[str], int | None] = lambda _: None
        self._before: Mapping[str, Kept] | None = None
        self._tick = 0
        self._said = ""

    def join_workers(self, directory: Path | None, row_of: Callable[[str], int | None]) -> None:
        """Keep it in the edge's directory, where all workers find it; in this process alone without one.

        row_of: the number of the row that a backend or service has on the board, None while it has none.
        """
        self._row_of = row_of
        try:
            self._table = HistoryTable(None if directory is None else directory / "history.table")
        except OSError as error:
            self._say(f"no history is kept: {error}")

    def close(self) -> None:
        """Write and tell nothing more."""
        table, self._table = self._table, None
        if table is not None:
            table.close()

    # ---- in the worker that leads ----

    def look(self, *, leading: bool) -> None:
        """Write down the tick that has ended, if one has, and this worker leads.

        One that has just begun to lead knows what was counted until the last tick, but not how quick the answers were.
        """
        if not leading:
            self._before = None
            return
        tick = int(self._wall() // EVERY_S)
        if self._before is not None and tick == self._tick:
            return
        counts: dict[str, Kept] = {}
        before, self._tick = self._before, tick
        for name, service in list(self._services().items()):
            if before is None:
                self._begin(name, service.pool, counts)
            else:
                self._sample(name, service.pool, before, counts)
        self._before = counts

    def _begin(self, name: str, pool: Pool, counts: dict[str, Kept]) -> None:
        """Go on from what was written last; where nothing was, write down what there is, so that the next leader can."""
        now, ran, whole = self._now(), self._told_until(name) is not None, _Whole()
        for number, backend in enumerate(pool.backends):
            base = self._base(backend.key, count_of(backend.learned.rows), ran=ran)
            counts[backend.key] = base.kept()
            if not ran:
                in_flight, state = backend.in_flight(), _state(backend, now)
                whole.add(_NOTHING, in_flight, state)
                self._write(backend.key, _sample_of(base, None, in_flight, state))
            if number % PIECE == PIECE - 1:
                self._give_way()
        own = self._base(name, count_of(pool.row.rows), ran=ran)
        counts[name] = own.kept()
        if not ran:
            self._write(name, _sample_of(own, None, whole.in_flight, whole.state))

    def _base(self, key: str, now: Counted, *, ran: bool) -> Counted:
        """Return what had been counted by the newest tick that was written. ran: there is one of its service, at least."""
        told = self._told_until(key) if ran else None
        if told is not None:
            return Counted(_until(now.requests, told[0]), _until(now.failed, told[1]), now.latencies)
        return Counted(0, 0, now.latencies) if ran else now

    def _told_until(self, key: str) -> tuple[int, int] | None:
        """Return what had been counted by the newest tick that was written lately."""
        row = self._row_of(key)
        if row is None or self._table is None:
            return None
        ticks = (self._tick - back for back in range(1, MOST_SPREAD + 1))
        return next((found for tick in ticks if (found := self._table.counts(row, key, tick)) is not None), None)

    def _sample(self, name: str, pool: Pool, before: Mapping[str, Kept], counts: dict[str, Kept]) -> None:
        """Write down a tick of a service and its backends."""
        now, whole = self._now(), _Whole()
        own = count_of(pool.row.rows)
        counts[name] = own.kept()
        whole.add(gained(own, before.get(name)), 0, None)
        for number, backend in enumerate(pool.backends):
            count = count_of(backend.learned.rows)
            counts[backend.key] = count.kept()
            news, in_flight, state = gained(count, before.get(backend.key)), backend.in_flight(), _state(backend, now)
            whole.add(news, in_flight, state)
            self._write(backend.key, _sample_of(count, news, in_flight, state))
            if number % PIECE == PIECE - 1:
                self._give_way()
        self._write(name, _sample_of(own, whole.news, whole.in_flight, whole.state))
        self._give_way()

    def _write(self, key: str, sample: Sample) -> None:
        row = self._row_of(key)
        if row is None or self._table is None:
            return
        try:
            self._table.write(row, key, self._tick - 1, sample)
        except OSError as error:
            self._say(f"the history cannot be written: {error.strerror}")

    def _say(self, text: str) -> None:
        if text != self._said:
            self._said = text
            log.warning("%s", text)

    # ---- for whoever asks ----

    @property
    def last_tick(self) -> int:
        """The number of the newest tick that is told."""
        return int((self._wall() - LATE_S) // EVERY_S) - 1

    def read(self, key: str, points: int = POINTS, last: int | None = None) -> Series | None:
        """Return the newest `points` ticks of a backend (by its key) or service (by its name); None where nothing is kept."""
        row = self._row_of(key)
        if row is None or self._table is None:
            return None
        try:
            return self._table.read(row, key, self.last_tick if last is None else last, points)
        except OSError as error:
            self._say(f"the history cannot be read: {error.strerror}")
            return None


class _Whole:
    """What the backends of a service, and its own row, make together; made for each tick."""

    def __init__(self) -> None:
        self.news = _NOTHING
        self.in_flight = 0
        self._states: Counter[str] = Counter()

    def add(self, news: Counted, in_flight: int, state: str | None) -> None:
        self.in_flight += in_flight
        if state is not None:
            self._states[state] += 1
        if news is _NOTHING:
            return
        latencies = [one + other for one, other in zip(self.news.latencies, news.latencies, strict=True)]
        self.news = Counted(self.news.requests + news.requests, self.news.failed + news.failed, latencies)

    @property
    def state(self) -> str:
        """Available if any backend is, else what most of them are."""
        if self._states["available"] or not self._states:
            return "available"
        return self._states.most_common(1)[0][0]


def gained(now: Counted, before: Kept | None) -> Counted:
    """Return what has come since; all of it where there was nothing before, or the row has begun anew."""
    if before is None:
        return now
    if now == before:
        return _NOTHING
    requests_before, failed_before, latencies_before, _ = before
    requests, failed = now.requests - requests_before, now.failed - failed_before
    latencies = [count - old for count, old in zip(now.latencies, latencies_before, strict=True)]
    return now if min(requests, failed, *latencies) < 0 else Counted(requests, failed, latencies)


def _until(now: float, told: int) -> float:
    """Return the count that was written as `told`: the latest before `now` that is like it modulo MODULUS."""
    since = (int(now) - told) % MODULUS
    return now - since if since < MODULUS // 2 else now


def _state(backend: Backend, now: float) -> str:
    return backend.why_not(now) or "available"


def _sample_of(count: Counted, news: Counted | None, in_flight: int, state: str) -> Sample:
    """Make the sample of a tick. news: what came in it; None where nobody has counted before."""
    requests, failed = int(count.requests), int(count.failed)
    if news is None:
        return Sample(requests, failed, None, None, None, None, in_flight, state)
    p50_s, p99_s = (quantile(p, news.latencies) for p in (0.5, 0.99))
    return Sample(requests, failed, int(news.requests), int(news.failed), p50_s, p99_s, in_flight, state)
