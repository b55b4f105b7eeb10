"""Drowning: a pool that takes in more than it can do, so that every answer takes longer than the one before.

Nothing is done about it here: a cap on requests in flight keeps what is answered quick by refusing the rest, and who must be
refused nobody but the operator knows (docs/overload.md has what was tried). But nobody should have to find out from their users.
Seconds are those of a monotonic clock, or of time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp
from typing import Final, Literal

from smartedge.balancer.backend import Backend
from smartedge.balancer.cells import DROWNING_NOW, DROWNING_SINCE, DROWNING_USUAL
from smartedge.balancer.learned import Learned

TIMES: Final = 10.0
LEAST_S: Final = 1.0
"""Even the quickest quarter takes so many times as long as usual, and so long."""

LASTING: Final = 5
"""Looks in a row; a burst is over by then."""

FORGOTTEN: Final = 1.001
"""What a second makes of the usual time: after some ten minutes twice as much is usual, too."""

DrowningChange = Literal["began", "ended"]


@dataclass(frozen=True, slots=True)
class Drowning:
    """How far a pool is behind; read by status, metrics and log. since: by the clock.

    usual_s, now_s: how long an answer of the quickest quarter of its backends usually takes, and takes now.
    """

    since: float
    usual_s: float
    now_s: float

    def __str__(self) -> str:
        """One line for people."""
        times = self.now_s / self.usual_s
        return f"answers take {self.now_s:.1f} s on all backends, {times:,.0f} times as long as usual"


class DrowningDetector:
    """Looks at the paces of all backends once a second, in the worker that leads; owned by a PoolWatch.

    row: the service's own, where all workers see what was found. The pace (`pace.Pace`) is a geometric mean, so that a few
    reports and long polls do not look like a queue; the quickest quarter is looked at, so that one slow backend does not.
    """

    def __init__(self, row: Learned) -> None:
        self._row = row
        self._usual_s = 0.0
        self._in_row = 0

    def look(self, backends: Sequence[Backend], now: float) -> DrowningChange | None:
        """Return what has begun or ended, for the caller to announce."""
        paces = [backend.learned.pace for backend in backends]
        for pace in paces:
            pace.settle(now)
        known = sorted(pace.log_mean for pace in paces if pace.known and now - pace.at < LASTING)
        reals = self._row.shared_reals
        if not known:
            return self._end()
        now_s = exp(known[(len(known) - 1) // 4])
        self._usual_s = min(self._usual_s * FORGOTTEN, now_s) if self._usual_s else now_s
        is_slow = now_s >= max(TIMES * self._usual_s, LEAST_S)
        if reals[DROWNING_SINCE]:
            reals[DROWNING_NOW] = now_s
            return None if is_slow else self._end()
        self._in_row = self._in_row + 1 if is_slow else 0
        if self._in_row < LASTING:
            return None
        reals[DROWNING_SINCE], reals[DROWNING_USUAL], reals[DROWNING_NOW] = now, self._usual_s, now_s
        return "began"

    def _end(self) -> DrowningChange | None:
        self._in_row = 0
        reals = self._row.shared_reals
        was = reals[DROWNING_SINCE]
        reals[DROWNING_SINCE] = 0.0
        return "ended" if was else None


def drowning(row: Learned) -> Drowning | None:
    """Return what any worker has found; None while all is well."""
    reals = row.shared_reals
    return Drowning(reals[DROWNING_SINCE], reals[DROWNING_USUAL], reals[DROWNING_NOW]) if reals[DROWNING_SINCE] else None


def sentence(found: Drowning | None, *, capped: bool, of: str = "") -> str:
    """Say what has begun or ended, and what helps. capped: requests in flight are capped already. of: whose backends they are."""
    if found is None:
        return f"the backends{of} keep up again"
    hint = "" if capped else '; limits.in_flight_per_backend "adaptive" keeps answers quick and refuses what is too much'
    return f"the backends{of} can't keep up: {found}{hint} (docs/overload.md)"
