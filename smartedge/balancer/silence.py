"""Silence: which backends leave requests unanswered that others answer, long before a time-out says so.

A breaker hears of a request at its end, and one that hangs ends when its time is over: until then every strategy that does
not go by latency sends more after it. Here, waiting counts, and like is compared with like. A request is **overdue** when it
has waited for ten times as long as its kind usually takes (on whatever backend that was measured), and 0.1 s at least, while
its backend has answered no other of the kind, and another backend has answered, in the usual time, one that began later. A
backend with three of them is silent; so is one with two that have waited twice as long, or one four times. A kind that is not
known, and whatever still goes up or is a tunnel, is never overdue; nor is anything while nobody answers.

Silence is no sentence: who is silent gets no new requests, and what waits there may go elsewhere, but the first overdue
answer ends it, and so does a probe that turns good after bad ones (`forget_lost`). Seconds are those of a monotonic clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any, Final

from smartedge.balancer.backend import Backend
from smartedge.balancer.cells import OVERDUE, SILENT_SINCE
from smartedge.balancer.evidence import Evidence
from smartedge.balancer.kinds import LEAST_ANSWERS, WIDE, Holder, Kind
from smartedge.balancer.learned import Learned

LEAST_S: Final = 0.1
"""Nothing is overdue sooner: a moment without CPU is over by then."""

TIMES: Final = 10.0
"""So many times as long as usual is overdue."""

SEVERAL: Final = 3
"""So many overdue requests, of all workers together, make a backend silent."""

FEW: Final = ((2, 2.0), (1, 4.0))
"""Fewer of them do if they have waited for so many times as long: where little is asked, three never come together."""

OTHERS: Final = 3
"""So many like it must others have answered meanwhile for one or two to be enough."""

BEYOND: Final = 1.2
"""And it has taken so many times as long as any of its kind did of late: some kinds are slow now and then."""

PATIENCE: Final = 2.0
"""What waits on a silent backend goes elsewhere after so many times as long as usual."""

LEAST_PATIENCE_S: Final = 0.02

LATER_S: Final = 1.0
"""A request of a kind that is not known is looked at again after this time."""


@dataclass(slots=True)
class Overdue:
    """A backend's overdue requests in this worker, as `overdue` finds them.

    ages: how many times longer than allowed the certain ones have waited.
    """

    count: int = 0
    oldest_s: float = 0.0
    ages: list[float] = field(default_factory=list)

    def enough(self, total: int, tried: bool) -> bool:
        """Whether they make the backend silent. total: in all workers. tried: its breaker lets one through, to see what comes."""
        if total >= SEVERAL or (tried and self.count):
            return True
        return any(sum(age >= times for age in self.ages) >= count for count, times in FEW)


def overdue(backend: Backend, evidence: Evidence, now: float) -> Overdue:
    """Find a backend's requests of this worker that are overdue."""
    found = Overdue()
    learned = backend.learned
    for lease in learned.waiting:
        age_s = now - lease.sent_at
        if age_s < LEAST_S:
            break  # all others are younger
        if now < lease.quiet_until or not is_due(lease.holder):
            continue
        kind = evidence.kind_of(lease.holder)
        limit_s = limit_of(kind, now)
        if age_s < limit_s:
            lease.quiet_until = now + LATER_S if limit_s == _NEVER else lease.sent_at + limit_s
            continue
        if kind.heard.get(learned, 0.0) > lease.sent_at:
            continue
        others = sum(1 for begun, who in kind.well if who is not learned and begun >= lease.sent_at)
        if not others:
            continue
        found.count += 1
        found.oldest_s = max(found.oldest_s, age_s)
        if others >= OTHERS and age_s >= BEYOND * kind.peak(now):
            found.ages.append(age_s / limit_s)
    return found


_NEVER: Final = float("inf")


def limit_of(kind: Kind, now: float) -> float:
    """Return how long a request of a kind may wait before it is overdue; infinite for a kind that is not known."""
    if kind.count < LEAST_ANSWERS:
        return _NEVER
    limit_s = max(LEAST_S, TIMES * kind.usual_s)
    return max(limit_s, BEYOND * kind.peak(now)) if kind.wide > WIDE else limit_s


def forget_lost(learned: Learned, now: float) -> None:
    """Let what was sent before a probe turned good say nothing more, a second later: who would answer it has done so by then.

    A machine that was switched off and on again knows nothing of it, and until its time is over it would speak against who is
    there now. In that second what may go elsewhere does so.
    """
    recovered_at = learned.recovered_at
    if now < recovered_at + LATER_S:
        return
    old = takewhile(lambda lease: lease.sent_at < recovered_at, learned.waiting)
    for lease in [one for one in old if is_due(one.holder)]:
        del learned.waiting[lease]


def is_due(holder: Holder | None) -> bool:
    """Whether the backend owes the holder of a lease an answer: not while his upload goes on."""
    return holder is None or bool(holder.is_due)


def late(backend: Backend, evidence: Evidence, now: float) -> list[Any]:
    """Return the leases that wait on a silent backend and should go elsewhere, the oldest first."""
    found = []
    for lease in backend.learned.waiting:
        age_s = now - lease.sent_at
        if age_s < LEAST_PATIENCE_S:
            break
        if lease.left or lease.holder is None or not lease.holder.is_due:
            continue
        kind = evidence.kind_of(lease.holder)
        if kind.count >= LEAST_ANSWERS and age_s >= PATIENCE * kind.usual_s:
            found.append(lease)
    return found


@dataclass(frozen=True, slots=True)
class Fallen:
    """A backend whose silence has begun or ended; returned by `Silence.look`, announced by the edge.

    change: "silent"; "heard", it answers again; "observed", it would be silent if its breaker were to do more than observe.
    """

    backend: Backend
    change: str
    overdue: int = 0
    oldest_s: float = 0.0

    def __str__(self) -> str:
        """One line for people."""
        if self.change == "heard":
            return f"{self.backend.spec.name} {self.backend.url} answers again"
        what = f"{self.overdue} requests overdue, the oldest for {self.oldest_s:.2f} s"
        return f"{self.backend.spec.name} {self.backend.url} ({what})"


class Silence:
    """Which backends one worker has called silent; owned by the pool, called under its lock."""

    def __init__(self) -> None:
        self._told: dict[str, Backend] = {}
        self._observed: set[str] = set()

    def look(self, seen: Sequence[Backend], backends: Sequence[Backend], evidence: Evidence, now: float) -> list[Fallen]:
        """Mark who of `seen` has fallen silent, and unmark who has nothing overdue any more; return what is new. Called often.

        The marks are in the row that all workers share; a worker tells of those that it has seen come or go itself.
        """
        changes: list[Fallen] = []
        for backend in seen:
            learned = backend.learned
            cells, reals = learned.cells, learned.shared_reals
            is_silent = reals[SILENT_SINCE] > 0.0
            if not (learned.waiting or is_silent or cells[OVERDUE]):
                if backend.key in self._told:
                    self._back(backend, changes)
                continue  # as with most of many: nothing else of it needs to be looked at
            if learned.waiting and learned.recovered_at:
                forget_lost(learned, now)
            found = overdue(backend, evidence, now) if learned.waiting and len(backends) > 1 else Overdue()
            if cells[OVERDUE] != found.count:
                cells[OVERDUE] = found.count
            total = sum(row[OVERDUE] for row in learned.rows)
            if is_silent:
                if not total:
                    reals[SILENT_SINCE] = 0.0
                    is_silent = False
            elif found.count and found.enough(total, learned.breaker.state != "closed"):
                is_silent = self._fallen(backend, backends, found, total, now, changes)
            elif not found.count:
                self._observed.discard(backend.key)
            if not is_silent and backend.key in self._told:
                self._back(backend, changes)
        return changes

    def _fallen(
        self, backend: Backend, backends: Sequence[Backend], found: Overdue, total: int, now: float, changes: list[Fallen]
    ) -> bool:
        if not any(other.learned is not backend.learned and other.available(now) for other in backends):
            return False
        if backend.spec.breaker.observe:
            if backend.key not in self._observed:
                self._observed.add(backend.key)
                changes.append(Fallen(backend, "observed", total, found.oldest_s))
            return False
        backend.learned.shared_reals[SILENT_SINCE] = now
        self._told[backend.key] = backend
        changes.append(Fallen(backend, "silent", total, found.oldest_s))
        return True

    def _back(self, backend: Backend, changes: list[Fallen]) -> None:
        del self._told[backend.key]
        changes.append(Fallen(backend, "heard"))
