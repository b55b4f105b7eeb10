"""The periodic look at a pool: who has fallen silent (every LOOK_S), who is an outlier, whether the pool drowns (every TIDY_S).

What was found is returned, for the caller to announce. Seconds are those of a monotonic clock.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from smartedge.balancer.breaker import BreakerChange
from smartedge.balancer.cells import OBSERVED
from smartedge.balancer.drowning import DrowningChange, DrowningDetector
from smartedge.balancer.lease import Lease
from smartedge.balancer.outliers import Outlier, OutlierDetector, OutlierPolicy
from smartedge.balancer.pool import Pool
from smartedge.balancer.retry import RetryBudget

LOOK_S: Final = 0.05
"""How often `Pool.look_for_silence` and `leases_to_move` are called."""

TIDY_S: Final = 1.0
"""How often `PoolWatch.look` is called."""


def leases_to_move(pool: Pool, budget: RetryBudget, now: float) -> Iterator[Lease]:
    """Yield the leases that should not wait on silent backends any longer, a backend's oldest first, as far as the budget goes.

    Whoever is given one asks for another try and pays for it before he asks for the next.
    """
    for backend in pool.looked_at:
        if backend.learned.waiting and backend.learned.silent_since:
            for lease in pool.late_leases(backend, now):
                if not budget.left(now):
                    return
                yield lease


@dataclass(frozen=True, slots=True)
class PoolFindings:
    """What a look has found. outliers: each with what its breaker did, None if it may stay. drowning: whether that changed."""

    outliers: Sequence[tuple[Outlier, BreakerChange | None]] = ()
    drowning: DrowningChange | None = None


class PoolWatch:
    """Looks at one pool every TIDY_S; owned by the edge, and by a run of the simulator."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._outliers = OutlierDetector()
        self._drowning = DrowningDetector(pool.row)

    def look(self, now: float, hedge_percentile: float, policy: OutlierPolicy | None) -> PoolFindings:
        """Work out what is late for hedging, eject outliers, or count them if the policy only observes, and look for drowning.

        policy: None in a worker that does not lead: what concerns all workers is found by one.
        """
        pool = self._pool
        pool.learn_kinds(now, hedge_percentile)
        if policy is None:
            return PoolFindings()
        outliers: list[tuple[Outlier, BreakerChange | None]] = []
        for outlier in self._outliers.look(pool.backends, policy, now):
            change = None
            if policy.observe:
                outlier.backend.learned.add(OBSERVED)
            else:
                change = pool.eject(outlier.backend, now, policy.max_ejected_ratio, f"an outlier: {outlier}")
            outliers.append((outlier, change))
        return PoolFindings(outliers, self._drowning.look(pool.backends, now))
