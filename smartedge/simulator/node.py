"""One edge of a simulation: what it alone has and learns, beside others in front of the same machines."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from random import Random

from smartedge.balancer.backend import Backend
from smartedge.balancer.learned import Learned
from smartedge.balancer.near_first import NearFirst
from smartedge.balancer.pool import Pool
from smartedge.balancer.watch import LOOK_S, TIDY_S, PoolWatch
from smartedge.config import strategy as config_strategy
from smartedge.config.model import Config
from smartedge.config.zones import place_of_zone, places_of
from smartedge.simulator.figures import RunRecord
from smartedge.simulator.forwarding import Forwarding
from smartedge.simulator.machine import At, Machine
from smartedge.simulator.probes import Prober
from smartedge.simulator.scenario import SimulateConfig


class Node:
    """An edge with its own Pool, Forwarding, Prober and PoolWatch; made by Run, which has requests arrive.

    farther: how much longer the way to each backend is than one within a zone, by id. number: 0 is the first, whose chance is
    that of an edge alone. start_s: when its loops begin, and second 0 of the scenario. forwarding: what requests come to, and
    where machines tell what became of them.
    """

    def __init__(
        self,
        number: int,
        world: SimulateConfig,
        config: Config,
        machines: Mapping[str, Machine],
        at: At,
        record: RunRecord,
        start_s: float,
        farther: Mapping[str, float],
    ) -> None:
        name = f" of {number}" if number else ""
        rng = Random(f"{world.seed} edge{name}")
        backends = [Backend(spec, Learned(spec)) for spec in config.specs()]
        # A user's own strategy is timed on a clock that stands still: whether it is quick must not change the result.
        strategy = config_strategy.make(config.strategy, config.hash.bounded_load_ratio or inf, lambda: start_s)
        places = places_of(config.zones)
        priorities = [backend.priority for backend in config.backends]
        locality = config.locality.locality(place_of_zone(config.zone, places), places, priorities)
        near = None
        if locality is not None:
            near = NearFirst(
                locality, lambda: config_strategy.make(config.strategy, config.hash.bounded_load_ratio or inf, lambda: start_s)
            )
        self._pool = Pool(backends, strategy, rng, config.panic, near=near)
        self._at = at
        self._config = config
        self._watch = PoolWatch(self._pool)
        chance = Random(f"{world.seed} tries{name}")
        self.forwarding = Forwarding(world, config, self._pool, machines, at, chance, record, start_s + world.warmup_s, farther)
        self.forwarding.prober = Prober(self._pool, machines, rng, world.network.backend_s, at, start_s, farther)
        at(start_s + LOOK_S, self._look, None)
        at(start_s + TIDY_S, self._tidy, None)

    def is_busy(self) -> bool:
        """Whether some request has not ended."""
        return bool(self.forwarding.queue.waiters) or any(backend.in_flight() for backend in self._pool.backends)

    def _look(self, now: float, _: None) -> None:
        """Look for backends that answer nothing any more, as often as the edge does."""
        self._pool.look_for_silence(now)
        self.forwarding.leave_silent(now)
        self._at(now + LOOK_S, self._look, None)

    def _tidy(self, now: float, _: None) -> None:
        """Do once a second what the edge does then."""
        self._watch.look(now, self._config.retry_policy.hedge_percentile, self._config.outlier_policy)
        self._at(now + TIDY_S, self._tidy, None)
