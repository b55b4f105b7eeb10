"""What a strategy is: it picks one of the candidates, and keeps no more than its own cursor.

A strategy is called under the pool's lock, so it needs none of its own. What it keeps is by backend key, and
survives a reload.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any, ClassVar, Protocol

from smartedge.balancer.backend import Backend


class Strategy(Protocol):
    """What picks one of the candidates; owned and called by a `Pool`.

    `pick` is what it must have; the other methods do nothing unless it wants them.
    """

    name: ClassVar[str]

    reason: str = "its strategy says so"
    """Half a sentence, for people who ask why the last one was picked; it may be another after every pick."""

    scored: bool = True
    """Whether the last pick went by the score, as far as there is one."""

    by_numbers: ClassVar[bool] = False
    """Whether `score` goes by nothing but the weights, leases and latencies of the backends that it is handed, and what it is
    asked of a moment can so be worked out later, from what they were then (`past`). Not to be said of a user's own."""

    def pick(self, candidates: Sequence[Backend], now: float, rng: Random, key: bytes = b"") -> Backend:
        """Return one of the candidates, of which there is at least one; each has a weight above zero.

        now: seconds of a monotonic clock. rng: where chance comes from. key: what the request is known by, as
        the section `hash` has it; empty when nothing is asked for, or the request has no such thing.
        """

    def score(self, backend: Backend, candidates: Sequence[Backend], now: float) -> float | None:
        """Return the number that a pick would go by, the lower the better, or None if there is none; asking changes nothing."""
        return None

    def turns_ratio(self, backend: Backend) -> float | None:
        """Return which part of its turns a candidate takes, or None where there are no turns; asking changes nothing."""
        return None

    def note_figures(self, backends: Sequence[Backend], candidates: Sequence[Backend] | None, now: float) -> Any:
        """Take down, after a pick that is recorded, what `figures` goes by; candidates: None if the strategy was not asked."""
        return None if self.by_numbers else self._figures(backends, candidates, now)

    def figures(
        self, noted: Any, backends: Sequence[Backend], candidates: Sequence[Backend] | None, now: float
    ) -> Sequence[tuple[float | None, float | None]]:
        """Return score and turns_ratio of each as they were at the pick, however much later. backends: as they were then."""
        return self._figures(backends, candidates, now) if self.by_numbers else noted

    def _figures(
        self, backends: Sequence[Backend], candidates: Sequence[Backend] | None, now: float
    ) -> list[tuple[float | None, float | None]]:
        scores = [None if candidates is None else self.score(one, candidates, now) for one in backends]
        return list(zip(scores, map(self.turns_ratio, backends), strict=True))

    def prepare(self, candidates: tuple[Backend, ...]) -> None:
        """Hear that this tuple is what is picked from now on, with these weights; any other sequence is a part of it."""
        return

    def failed(self, backend: Backend) -> None:
        """Hear that a lease of this backend failed."""
        return

    def keep(self, backends: Sequence[Backend]) -> None:
        """Hear that these are now the backends of the pool; forget the others."""
        return
