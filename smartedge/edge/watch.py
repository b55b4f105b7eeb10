"""What shows of a service only over time: backends much worse than the others, too much to do, a strategy that fails."""

from __future__ import annotations

import logging
from math import inf

from smartedge.balancer.cells import OBSERVED, STRATEGY_FALLBACKS
from smartedge.balancer.drowning import DrowningDetector, drowning, sentence
from smartedge.balancer.learned import Learned
from smartedge.balancer.outliers import OutlierDetector, OutlierPolicy
from smartedge.balancer.pool import Pool
from smartedge.balancer.strategies.guard import Guarded
from smartedge.edge import announce

log = logging.getLogger("smartedge")

TELL_EVERY_S = 60.0
"""One kind of trouble with a strategy is logged once a minute; the metric counts every pick."""


class Watch:
    """Looks at one pool once a second; owned by the `Edge`. edge_row: the edge's own, which counts what fell back."""

    def __init__(self, pool: Pool, edge_row: Learned) -> None:
        self._pool = pool
        self._edge_row = edge_row
        self._outliers = OutlierDetector()
        self._drowning = DrowningDetector(edge_row)
        self._told_at: dict[str, float] = {}

    def look(self, policy: OutlierPolicy, now: float, *, capped: bool) -> None:
        """Eject outliers, if the operator wants that, and say when the backends can't keep up; one worker does it for all.

        capped: whether there is a limit on what is in flight.
        """
        for found in self._outliers.look(self._pool.backends, policy, now):
            if policy.observe:
                found.backend.learned.add(OBSERVED)
                announce.outlier(found.backend, found)
            elif change := self._pool.eject(found.backend, now, policy.max_ejected_ratio, f"an outlier: {found}"):
                announce.breaker_changed(found.backend, change)
        if self._drowning.look(self._pool.backends, now):
            log.warning(sentence(drowning(self._edge_row), capped=capped))

    def log_strategy_troubles(self, now: float) -> None:
        """Count and log what a user's strategy has done wrong in this worker."""
        strategy = self._pool.strategy
        if not isinstance(strategy, Guarded):
            return
        for trouble in strategy.troubles():
            self._edge_row.add(STRATEGY_FALLBACKS, trouble.picks)
            if now - self._told_at.get(trouble.kind, -inf) >= TELL_EVERY_S:
                self._told_at[trouble.kind] = now
                log.warning("strategy failed: %s: %s (%d picks by round robin)", strategy.name, trouble.detail, trouble.picks)
