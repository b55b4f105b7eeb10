"""The strategy in use: made of the configuration, kept over reloads; and what there is to say of a user's own that fails."""

from __future__ import annotations

import logging
from collections.abc import Callable
from math import inf

from smartedge.balancer.cells import STRATEGY_FALLBACKS
from smartedge.balancer.learned import Learned
from smartedge.balancer.strategies.guard import Guarded
from smartedge.balancer.strategies.menu import ConsistentHash, Strategy
from smartedge.config import strategy as config_strategy
from smartedge.config.model import Config, ConfigError, Problem

log = logging.getLogger("smartedge")

TELL_EVERY_S = 60.0
"""One kind of trouble is logged once a minute; the metric counts every pick."""


class Strategist:
    """Makes strategies. own: the edge's own row, which counts what fell back. clock: gives seconds."""

    def __init__(self, own: Learned, clock: Callable[[], float]) -> None:
        self._own = own
        self._clock = clock
        self._told_at: dict[str, float] = {}

    def make(self, config: Config, current: Strategy | None = None) -> Strategy:
        """Return the strategy that a configuration asks for: the current one, if it is that. Raises ConfigError.

        A user's class is not imported again: its code is that of the process's start.
        """
        if current is not None and current.name == config.strategy:
            return current
        try:
            return config_strategy.make(config.strategy, config.hash.bounded_load_ratio, self._clock)
        except ValueError as error:
            raise ConfigError([Problem("strategy", str(error))], status=422) from error

    def retune(self, strategy: Strategy, config: Config) -> None:
        """Let a strategy that goes on follow its other settings."""
        if isinstance(strategy, ConsistentHash):
            strategy.bounded_load_ratio = config.hash.bounded_load_ratio or inf

    def tell(self, strategy: Strategy, now: float) -> None:
        """Count and log what a user's strategy has done wrong; called every second."""
        if not isinstance(strategy, Guarded):
            return
        for trouble in strategy.troubles():
            self._own.add(STRATEGY_FALLBACKS, trouble.picks)
            if now - self._told_at.get(trouble.kind, -inf) >= TELL_EVERY_S:
                self._told_at[trouble.kind] = now
                log.warning("strategy failed: %s: %s (%d picks by round robin)", strategy.name, trouble.detail, trouble.picks)
