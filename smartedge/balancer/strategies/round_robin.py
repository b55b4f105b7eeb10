"""In turn, by weight."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Final

from smartedge.balancer.backend import Backend
from smartedge.balancer.strategies.base import Strategy

ANYWHERE: Final = 1 << 62
"""In place of the next one's place: chance says where to begin."""


class Turn:
    """A backend's place in a round robin: its current weight, and what failures took off it."""

    __slots__ = ("current", "lost")

    def __init__(self) -> None:
        self.current = 0.0
        self.lost = 0.0


class RoundRobin(Strategy):
    """Smooth weighted round robin, as in nginx (`ngx_http_upstream_get_peer`).

    In every pick each candidate's current weight grows by its effective weight; the largest wins, and loses
    the sum of what was added: weights 5, 1, 1 give a a b a c a a. A failure takes weight/failures off the
    effective weight, where `failures` in a row would open the breaker; every pick gives 1 back.

    While all weights are equal and whole this is plain rotation, which needs no look at the others. A retry
    is picked from what it has left without moving the rotation: else, of three, the one after a failing one
    would only ever see its retries.

    The first of all picks is the first backend. After that, when all candidates are others than before, it begins anywhere:
    many edges in front of the same backends hear of those in the same moment, and would all begin with the first.
    """

    name = "round_robin"
    reason = "next in turn"
    by_numbers = True

    def __init__(self) -> None:
        self._turns: dict[str, Turn] = {}
        self._whole: tuple[Backend, ...] = ()
        self._count = 0
        self._rotates = False
        self._began = False
        self._next = 0

    def pick(self, candidates: Sequence[Backend], now: float, rng: Random, key: bytes = b"") -> Backend:
        """Return the next in turn."""
        if not self._rotates or candidates is not self._whole:
            if self._next == ANYWHERE:
                self._begin_anywhere(rng)
            return self._smooth(candidates)
        place = self._next
        if place >= self._count:
            place = int(rng.random() * self._count) if place == ANYWHERE else 0
        self._next = place + 1
        return self._whole[place]

    def prepare(self, candidates: tuple[Backend, ...]) -> None:
        """Go on after the one that was picked last; if it left, after the one before it; if all did, anywhere."""
        places = {backend.key: place for place, backend in enumerate(candidates)}
        picked = reversed(self._whole[: self._next])
        anew = self._began and not any(backend.key in places for backend in self._whole)
        self._next = next((places[backend.key] + 1 for backend in picked if backend.key in places), ANYWHERE if anew else 0)
        self._began = self._began or bool(candidates)
        self._whole, self._count = candidates, len(candidates)
        self._rotates = self._is_even()

    def failed(self, backend: Backend) -> None:
        """Take a part off the effective weight."""
        turn = self._turn(backend)
        turn.lost = min(turn.lost + backend.weight / backend.spec.breaker.failures, backend.weight)
        self._rotates = False

    def keep(self, backends: Sequence[Backend]) -> None:
        """Forget the places of backends that are gone."""
        keys = {backend.key for backend in backends}
        self._turns = {key: turn for key, turn in self._turns.items() if key in keys}

    def _begin_anywhere(self, rng: Random) -> None:
        """Give each some part of a round to begin with."""
        self._next = 0
        total = sum(backend.weight for backend in self._whole)
        for backend in self._whole:
            self._turn(backend).current = rng.random() * total

    def _smooth(self, candidates: Sequence[Backend]) -> Backend:
        """Let every current weight grow; return the largest, less the sum."""
        total = 0.0
        best = candidates[0]
        best_turn = self._turn(best)
        for backend in candidates:
            turn = self._turn(backend)
            effective: float = backend.weight
            if turn.lost:
                effective = max(effective - turn.lost, 0.0)
                turn.lost = max(turn.lost - 1.0, 0.0)
            turn.current += effective
            total += effective
            if turn.current > best_turn.current:
                best, best_turn = backend, turn
        best_turn.current -= total
        if candidates is self._whole:
            self._rotates = self._is_even()
        return best

    def _turn(self, backend: Backend) -> Turn:
        turn = self._turns.get(backend.key)
        if turn is None:
            turn = self._turns[backend.key] = Turn()
        return turn

    def _is_even(self) -> bool:
        """Whether rotation gives what the weights ask for: all are equal, and none is diminished."""
        first = self._whole[0].weight if self._whole else 0
        turns = self._turns
        for backend in self._whole:
            turn = turns.get(backend.key)
            if backend.weight != first or (turn is not None and turn.lost):
                return False
        return True
