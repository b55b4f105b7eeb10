"""What one worker looks for, for all: backends that are much worse than the others, and a pool that can't keep up."""

from __future__ import annotations

import logging

from smartedge.balancer.cells import OBSERVED
from smartedge.balancer.drowning import DrowningDetector, drowning, sentence
from smartedge.balancer.learned import Learned
from smartedge.balancer.outliers import OutlierDetector
from smartedge.balancer.pool import Pool
from smartedge.config.model import Config
from smartedge.edge import announce

log = logging.getLogger("smartedge")


class Watch:
    """Looks at a pool once a second, in the worker that leads; owned by the edge. edge_row: the edge's own."""

    def __init__(self, pool: Pool, edge_row: Learned) -> None:
        self._pool = pool
        self._edge_row = edge_row
        self._outliers = OutlierDetector()
        self._drowning = DrowningDetector(edge_row)

    def look(self, config: Config, now: float) -> None:
        """Eject outliers, if the operator wants that, and say when the backends can't keep up."""
        policy = config.outlier_policy
        for found in self._outliers.look(self._pool.backends, policy, now):
            if policy.observe:
                found.backend.learned.add(OBSERVED)
                announce.outlier(found.backend, found)
            elif change := self._pool.eject(found.backend, now, policy.max_ejected_ratio, f"an outlier: {found}"):
                announce.breaker_changed(found.backend, change)
        if self._drowning.look(self._pool.backends, now):
            log.warning(sentence(drowning(self._edge_row), capped=config.limits.in_flight_per_backend is not None))
