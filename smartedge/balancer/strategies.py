"""Strategies: each picks one of the candidates, and keeps no more than its own cursor.

A strategy is called under the pool's lock, so it needs none of its own. What it keeps is by backend key, and
survives a reload.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import ClassVar, Final, Protocol

from smartedge.balancer.backend import Backend


class Strategy(Protocol):
    """One method, and three hooks that do nothing unless a strategy wants them."""

    name: ClassVar[str]

    def pick(self, candidates: Sequence[Backend], now: float, rng: Random) -> Backend:
        """Return one of the candidates, of which there is at least one."""
        ...

    def prepare(self, candidates: tuple[Backend, ...]) -> None:
        """Hear that this tuple is what is picked from now on; any other sequence is a part of it."""

    def failed(self, backend: Backend) -> None:
        """Hear that a lease of this backend failed."""

    def keep(self, backends: Sequence[Backend]) -> None:
        """Hear that these are now the backends of the pool; forget the others."""


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
    """

    name = "round_robin"

    def __init__(self) -> None:
        self._turns: dict[str, Turn] = {}
        self._whole: tuple[Backend, ...] = ()
        self._rotates = False
        self._next = 0

    def pick(self, candidates: Sequence[Backend], now: float, rng: Random) -> Backend:
        """Return the next in turn."""
        if not self._rotates or candidates is not self._whole:
            return self._smooth(candidates)
        place = self._next
        if place >= len(self._whole):
            place = 0
        self._next = place + 1
        return self._whole[place]

    def prepare(self, candidates: tuple[Backend, ...]) -> None:
        """Go on after the one that was picked last; if it left, after the one before it."""
        places = {backend.key: place for place, backend in enumerate(candidates)}
        picked = reversed(self._whole[: self._next])
        self._next = next((places[backend.key] + 1 for backend in picked if backend.key in places), 0)
        self._whole = candidates
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

    def _smooth(self, candidates: Sequence[Backend]) -> Backend:
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


class PeakEwmaStrategy(Strategy):
    """The least cost: expected latency times the leases there would be with this one, by weight.

    The expected latency is the peak-EWMA, or the age of the oldest lease that still waits for its first byte:
    a lower bound, by which a backend that hangs loses its good score (nginx's `least_time` with `inflight`).
    Up to 16 candidates the least of all is taken, above that the better of two distinct random ones
    (Mitzenmacher, "The Power of Two Choices", 2001).
    """

    name = "ewma"

    ALL_UP_TO: Final = 16

    FLOOR_S: Final = 1e-4
    """Latencies below are alike: after a quiet night all means have decayed to nothing, and leases decide."""

    def pick(self, candidates: Sequence[Backend], now: float, rng: Random) -> Backend:
        """Return the one with the least cost; chance decides between equals."""
        count = len(candidates)
        if count > self.ALL_UP_TO:
            first = int(rng.random() * count)
            second = int(rng.random() * (count - 1))
            pair = candidates[first], candidates[second + (second >= first)]
            one, other = (self._cost(backend, candidates, now) for backend in pair)
            return pair[other < one]
        best = candidates[0]
        least = self._cost(best, candidates, now)
        equals = 1
        for index in range(1, count):
            cost = self._cost(candidates[index], candidates, now)
            if cost < least:
                best, least, equals = candidates[index], cost, 1
            elif cost == least:
                equals += 1
                if rng.random() * equals < 1.0:
                    best = candidates[index]
        return best

    def _cost(self, backend: Backend, candidates: Sequence[Backend], now: float) -> float:
        learned = backend.learned
        latency_s = learned.ewma.read(now) or self._seed(backend, candidates, now)
        waiting = learned.waiting
        if waiting:
            age_s = now - next(iter(waiting.values()))
            if age_s > latency_s:
                latency_s = age_s
        if latency_s < self.FLOOR_S:
            latency_s = self.FLOOR_S
        return latency_s * (learned.in_flight() + 1) / backend.weight

    def _seed(self, newcomer: Backend, candidates: Sequence[Backend], now: float) -> float:
        """Start a backend of which nothing is known at the mean of the others; 0.0 if those are too."""
        known = [mean_s for backend in candidates if (mean_s := backend.learned.ewma.read(now))]
        if not known:
            return 0.0
        mean_s = sum(known) / len(known)
        newcomer.learned.ewma.seed(now, mean_s)
        return mean_s


STRATEGIES: Final[dict[str, type[Strategy]]] = {strategy.name: strategy for strategy in (RoundRobin, PeakEwmaStrategy)}
