"""What shows of a service only over time: backends much worse than the others, too much to do, a strategy that fails."""

from __future__ import annotations

import logging
from math import inf

from smartedge.balancer.cells import STRATEGY_FALLBACKS
from smartedge.balancer.drowning import drowning, sentence
from smartedge.balancer.outliers import OutlierPolicy
from smartedge.balancer.pool import Pool
from smartedge.balancer.spec import DEFAULT_SERVICE
from smartedge.balancer.strategies.guard import Guarded
from smartedge.balancer.watch import PoolWatch
from smartedge.edge.announce import Announcer

log = logging.getLogger("smartedge")

TELL_EVERY_S = 60.0
"""One kind of trouble with a strategy is logged once a minute; the metric counts every pick."""


class Watch:
    """Says what a `PoolWatch` has found; owned by the `Edge`, one for each service."""

    def __init__(self, service: str, pool: Pool, announcer: Announcer) -> None:
        self._service = service
        self._of = "" if service == DEFAULT_SERVICE else f" of {service}"
        self._pool = pool
        self._announcer = announcer
        self._pool_watch = PoolWatch(pool)
        self._told_at: dict[str, float] = {}

    def look(self, now: float, hedge_percentile: float, policy: OutlierPolicy | None) -> None:
        """Look at the pool and announce what was found; see `PoolWatch.look`."""
        found = self._pool_watch.look(now, hedge_percentile, policy)
        for outlier, change in found.outliers:
            if change:
                self._announcer.breaker_changed(outlier.backend, change)
            elif policy is not None and policy.observe:
                self._announcer.outlier(outlier.backend, outlier)
        if found.drowning:
            capped = any(backend.spec.max_in_flight is not None for backend in self._pool.backends)
            text = sentence(drowning(self._pool.row), capped=capped, of=self._of)
            self._announcer.overloaded(self._service, text, ended=found.drowning == "ended")

    def log_strategy_troubles(self, now: float) -> None:
        """Count and log what a user's strategy has done wrong in this worker."""
        for strategy in self._pool.strategies():
            if isinstance(strategy, Guarded):
                self._log_troubles(strategy, now)

    def _log_troubles(self, strategy: Guarded, now: float) -> None:
        for trouble in strategy.troubles():
            self._pool.row.add(STRATEGY_FALLBACKS, trouble.picks)
            if now - self._told_at.get(trouble.kind, -inf) >= TELL_EVERY_S:
                self._told_at[trouble.kind] = now
                text = "strategy%s failed: %s: %s (%d picks by round robin)"
                log.warning(text, self._of, strategy.name, trouble.detail, trouble.picks)
