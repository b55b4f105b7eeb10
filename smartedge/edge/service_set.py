"""The services of one worker, kept over configurations: made, handed their setups, let go, and looked at now and then."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from random import Random
from typing import Any

import gevent
from gevent.lock import BoundedSemaphore
from gevent.monkey import get_original

from smartedge.balancer.backend import Backend
from smartedge.balancer.learned import Learned
from smartedge.balancer.pool import Pool
from smartedge.balancer.strategies.guard import Guarded
from smartedge.balancer.strategies.menu import Strategy
from smartedge.edge import collector
from smartedge.edge.announce import Announcer
from smartedge.edge.backend_builder import SPARED
from smartedge.edge.backends import BackendRegistry
from smartedge.edge.setup import ServiceSetup, Setup, follow_bound
from smartedge.edge.watch import Watch
from smartedge.proxy.events import Events
from smartedge.proxy.mirror import Mirror
from smartedge.proxy.router import Router
from smartedge.proxy.service import Service
from smartedge.proxy.silent import leave_silent
from smartedge.workers.periodic import give_way


def lock_for(strategy: Strategy) -> Any:
    """Make the lock under which a pool with this strategy decides: the interpreter's own, which takes 3,000 instructions less.

    Who holds that must not wait, for all greenlets would, for ever. Nothing of ours waits there. A user's own strategy may, for a
    log line to be written, so its pool has gevent's lock, which has the others wait and the loop go on.
    """
    return BoundedSemaphore() if isinstance(strategy, Guarded) else get_original("_thread", "allocate_lock")()


def _prepare_picks(pool: Pool, now: float) -> None:
    """Work the candidates out, in a round of its own."""
    give_way()
    pool.candidates(now)


class ServiceSet:
    """Owned by the `Edge`, which hands it each setup that is put to use. services: by name, those in use, the default's first.

    events: hears of what their backends do. next_request_id: for copies of requests.
    """

    def __init__(
        self,
        setup: Setup,
        registry: BackendRegistry,
        edge_row: Learned,
        rng: Random,
        events: Events,
        next_request_id: Callable[[], str],
        announcer: Announcer,
    ) -> None:
        self._registry = registry
        self._edge_row = edge_row
        self._rng = rng
        self._events = events
        self._announcer = announcer
        self._mirror = Mirror(edge_row, next_request_id)
        self._watches: dict[str, Watch] = {}
        self._in_use: Mapping[str, ServiceSetup] = {}
        self._come = 0
        self.services = {name: self._make_service(name, one) for name, one in setup.services.items()}

    def backends(self) -> Iterator[Backend]:
        """Give the backends of all services."""
        for service in self.services.values():
            yield from service.pool.backends

    def clients_host(self, service: str) -> bytes | None:
        """Return the Host that the clients of a service ask for; None if that is not known."""
        return self.services[service].clients_host if service in self.services else None

    def use_setup(self, setup: Setup, now: float, *, leads: bool) -> None:
        """Have the services of this setup, and these alone. leads: see `BackendRegistry.use_backends`."""
        deadline = now + setup.config.drain_s
        gone = [service for name, service in self.services.items() if name not in setup.services]
        self.services = {name: self.services.get(name) or self._make_service(name, one) for name, one in setup.services.items()}
        self._watches = {
            name: self._watches.get(name) or self._watch(name, service.pool) for name, service in self.services.items()
        }
        for service in gone:
            self._registry.let_go(service.pool.backends, (), deadline)
            self._registry.let_service_go(service.name)
        for name, one in setup.services.items():
            if self._in_use.get(name) is one:
                continue
            self._registry.use_row(name, one.row)
            pool, before = self.services[name].pool, self.services[name].pool.backends
            known = set(map(id, before)) if name in self._in_use else ()
            fresh = [backend for backend in one.backends if id(backend) not in known]
            self._registry.use_backends(fresh, setup.files, now, leads=leads)
            self.services[name].adapt_to(one.policy)
            pool.replace_backends(one.backends, one.strategy, one.panic, one.near, lock_for(one.strategy))
            for strategy in pool.strategies():
                follow_bound(strategy, one.bounded_load_ratio)
            self._registry.let_go(before, one.backends, deadline)
            self._come += len(fresh)
            if len(fresh) >= SPARED:
                gevent.spawn(_prepare_picks, pool, now)  # else the next request would, for as long as ten take
        self._in_use = setup.services

    def spare_collector(self) -> None:
        """Have the garbage collector spared what has come with new backends since: their first probes. Called once a second."""
        if self._come >= SPARED:
            self._come = 0
            collector.spare()

    def make_router(self, setup: Setup) -> Router | None:
        """Make what sends requests to these services; None without routes."""
        if not setup.routes:
            return None
        return Router(setup.routes, self.services, self._rng, setup.hop.is_trusted, self._mirror)

    def look_for_silence(self, now: float) -> None:
        """Announce backends that answer nothing, which comes as no event, and have requests leave them."""
        for service in self.services.values():
            for fallen in service.pool.look_for_silence(now):
                self._announcer.silence(fallen)
            if len(self._edge_row.rows) > 1:
                for backend in service.pool.looked_at:  # all, but of very many a part each time
                    backend.learned.tell_waiting(now)
            leave_silent(service, now)

    def look(self, setup: Setup, now: float, *, leading: bool) -> None:
        """Announce what shows of a service over time only; outliers are looked for by the worker that leads."""
        for name, watch in self._watches.items():
            outliers = setup.services[name].outliers if leading else None
            watch.look(now, self.services[name].policy.retry.hedge_percentile, outliers)
            watch.log_strategy_troubles(now)

    def _watch(self, name: str, pool: Pool) -> Watch:
        return Watch(name, pool, self._announcer)

    def _make_service(self, name: str, setup: ServiceSetup) -> Service:
        pool = Pool(setup.backends, setup.strategy, self._rng, setup.panic, setup.row, setup.near, lock_for(setup.strategy))
        return Service(name, pool, setup.policy, self._events)
