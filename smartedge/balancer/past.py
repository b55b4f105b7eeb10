"""Backends as they were at a pick: what is taken down of them then are raw numbers, and what those come to is worked out later.

That is done by the very rules that hold at present (`PeakEwma`, `Pace`, `Learned.latency_s`, a strategy's `score`), for which a
`PastBackend` is a backend like any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from smartedge.balancer.backend import Backend
from smartedge.balancer.ewma import PeakEwma
from smartedge.balancer.learned import Learned, LearnedNote
from smartedge.balancer.pace import Pace

_NOTE: Final = Learned.note


class PastLearned(Learned):
    """What had been learned of a backend when this was noted: latencies, leases, waits; not health, breaker or counters."""

    __slots__ = ()

    def __init__(self, noted: LearnedNote) -> None:
        cells, in_flight, self._others_waited_s, waiting = noted
        whole = memoryview(cells)
        self.shared, self.shared_reals = row = whole.cast("q"), whole.cast("d")
        leases: Any = (in_flight,)  # IN_FLIGHT is the first cell
        self.cells, self.others = leases, ()
        self.waiting = dict(enumerate(waiting))
        self.ewma = PeakEwma(row)
        self.pace = Pace(row)


class PastBackend(Backend):
    """A backend when this was noted of it. weight: the effective one."""

    __slots__ = ()

    def __init__(self, backend: Backend, weight: float, noted: LearnedNote) -> None:
        self.spec, self.id, self.url, self.key, self.labels = backend.spec, backend.id, backend.url, backend.key, backend.labels
        self.weight = weight
        self.learned = PastLearned(noted)


class ShownCandidates:
    """The candidates that a record shows, with their effective weights; made for one pick, or for many from the same ones."""

    __slots__ = ("backends", "learned", "weights")

    def __init__(self, backends: Sequence[Backend]) -> None:
        self.backends = backends
        self.learned = [backend.learned for backend in backends]
        self.weights = [backend.weight for backend in backends]

    def note(self) -> tuple[LearnedNote, ...]:
        """Take down what they are now."""
        return tuple(map(_NOTE, self.learned))  # of what is in it nothing is the garbage collector's business

    def then(self, noted: Sequence[LearnedNote]) -> list[PastBackend]:
        """Return them as they were when this was noted."""
        then = zip(self.backends, self.weights, noted, strict=True)
        return [PastBackend(backend, weight, what) for backend, weight, what in then]
