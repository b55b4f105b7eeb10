"""A strategy of the user's own, kept from doing harm: what it fails to pick, round robin picks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from random import Random
from typing import Any, Final, Literal

from smartedge.balancer.backend import Backend
from smartedge.balancer.strategies.base import Strategy
from smartedge.balancer.strategies.round_robin import RoundRobin

TroubleKind = Literal["raised", "no candidate", "slow"]

SLOW_S: Final = 0.01
"""A pick that takes longer is slow: meanwhile no other request gets a backend."""

SLOW_IN_ROW: Final = 3
PAUSE_S: Final = 30.0
"""After three slow picks in a row the strategy is left alone for half a minute; then one more slow pick is enough."""

_FAILURES: Final = (Exception, SystemExit)
"""What a user's code may raise: `sys.exit()` is meant for a script, and must not end the edge."""

_FELL_BACK: Final = "next in turn: the strategy failed"


@dataclass(frozen=True, slots=True)
class Trouble:
    """What a strategy did wrong since that was last asked. picks: how many fell back. detail: the first, in one line."""

    kind: TroubleKind
    picks: int
    detail: str


class Guarded(Strategy):
    """Asks a user's strategy, and round robin in its place when that raises, gives no candidate, or is too slow.

    name: what the configuration calls it. clock: gives seconds, to time a pick by. A pick that never returns is beyond
    help: it is under the pool's lock, as every pick is.
    """

    name = "guarded"
    reason = ""

    def __init__(self, strategy: Any, name: str, clock: Callable[[], float]) -> None:
        self.name = name  # type: ignore[misc]
        self.strategy = strategy
        self._clock = clock
        self._fallback = RoundRobin()
        self._slow_in_row = 0
        self._paused_until = 0.0
        self._troubles: dict[TroubleKind, Trouble] = {}

    def troubles(self) -> list[Trouble]:
        """Give what went wrong since this was last called: at most one of each kind."""
        troubles, self._troubles = self._troubles, {}
        return list(troubles.values())

    def pick(self, candidates: Sequence[Backend], now: float, rng: Random, key: bytes = b"") -> Backend:
        """Return what the strategy picks, if it does so as it should."""
        self.reason = _FELL_BACK
        started = self._clock()
        if started < self._paused_until:
            self._note("slow", "it is left alone because its last picks were slow")
            return self._fallback.pick(candidates, now, rng, key)
        try:
            picked = self.strategy.pick(candidates, now, rng, key)
        except _FAILURES as error:
            self._time(started, self._clock())
            self._note("raised", f"pick raised {_described(error)}")
        else:
            self._time(started, self._clock())
            # Not `in` alone, which would believe an object that calls itself equal to everything.
            if isinstance(picked, Backend) and picked in candidates:
                self.reason = self._its_reason()
                return picked
            self._note("no candidate", f"pick returned {_shown(picked)}, which is none of the candidates")
        return self._fallback.pick(candidates, now, rng, key)

    def score(self, backend: Backend, candidates: Sequence[Backend], now: float) -> float | None:
        """Return what the strategy says, if it has a `score` and that gives a number: infinity and NaN are none in JSON."""
        try:
            score = getattr(self.strategy, "score", None)
            number = None if score is None else float(score(backend, candidates, now))
        except _FAILURES:
            return None
        return number if number is not None and isfinite(number) else None

    def prepare(self, candidates: tuple[Backend, ...]) -> None:
        """Tell both."""
        self._fallback.prepare(candidates)
        self._tell("prepare", candidates)

    def failed(self, backend: Backend) -> None:
        """Tell both."""
        self._fallback.failed(backend)
        self._tell("failed", backend)

    def keep(self, backends: Sequence[Backend]) -> None:
        """Tell both."""
        self._fallback.keep(backends)
        self._tell("keep", backends)

    def _its_reason(self) -> str:
        try:
            return str(getattr(self.strategy, "reason", f"{self.name} says so"))
        except Exception:
            return f"{self.name} says so"

    def _tell(self, hook: str, what: object) -> None:
        """Call a hook that a strategy may have."""
        try:
            call = getattr(self.strategy, hook, None)
            if call is not None:
                call(what)
        except _FAILURES as error:
            self._note("raised", f"{hook} raised {_described(error)}", picks=0)

    def _time(self, started: float, ended: float) -> None:
        took_s = ended - started
        if took_s <= SLOW_S:
            self._slow_in_row = 0
            return
        self._slow_in_row += 1
        if self._slow_in_row >= SLOW_IN_ROW:
            self._slow_in_row = SLOW_IN_ROW - 1
            self._paused_until = ended + PAUSE_S
            took = f"{took_s * 1000:.0f} ms, its last {SLOW_IN_ROW} picks each more than {SLOW_S * 1000:.0f} ms"
            self._note("slow", f"pick took {took}; it is left alone for {PAUSE_S:.0f} s", picks=0)

    def _note(self, kind: TroubleKind, detail: str, *, picks: int = 1) -> None:
        known = self._troubles.get(kind) or Trouble(kind, 0, detail)
        self._troubles[kind] = replace(known, picks=known.picks + picks)


def _described(error: BaseException) -> str:
    """An error in one line, with the place it comes from."""
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    where = f" at {place.tb_frame.f_code.co_filename}:{place.tb_lineno}" if place is not None else ""
    return f"{type(error).__name__}{where}: {_shown(error)}"


def _shown(value: object) -> str:
    """A value as one short line; a user's class may not even have a proper repr."""
    try:
        text = str(value) if isinstance(value, BaseException) else repr(value)
    except Exception:
        text = f"a {type(value).__name__}"
    return " ".join(text.split())[:200]
