"""A service at run time: what one pool needs so that requests can be forwarded to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import gevent

from smartedge.balancer.pool import Pool
from smartedge.balancer.retry import RetryBudget, RetryPolicy
from smartedge.balancer.waiting_line import WaitPolicy
from smartedge.proxy.affinity import Affinity
from smartedge.proxy.events import Events
from smartedge.proxy.limiter import ClientLimiter
from smartedge.proxy.queue import Queue

MANY: Final = 100
RENEW_EACH_S: Final = 25e-6
"""Of MANY backends and more so much is waited for each before their candidates are worked out again: 25 ms with a thousand."""


@dataclass(frozen=True, slots=True)
class ServicePolicy:
    """How a service's requests are treated: made whole by the edge at start and at reload, read by each request.

    failures: statuses of answers that are failures of their backend. idle_s, tunnel_idle_s: see TimeoutsConfig.
    queue, queue_s: see LimitsConfig. affinity: what requests are known by, None for nothing. limiter: keeps clients to their
    rate, None for no limit.
    """

    retry: RetryPolicy
    failures: frozenset[int]
    idle_s: float
    tunnel_idle_s: float
    queue: int
    queue_s: float
    affinity: Affinity | None
    limiter: ClientLimiter | None
    remarkable: frozenset[int] = field(init=False)
    """Statuses that are more than an answer: a failure, or a reason for another try."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "remarkable", self.failures | self.retry.statuses)


class Service:
    """Backends that do the same, and how they are used; owned by the edge, found by the Forwarder, used by each Attempts.

    policy: replaced whole by a reload (`adapt_to`); a request keeps the one that it began with. budget, queue: live as
    long as the service does. events: is told what happens to backends.
    clients_host: the Host of a request that came lately and is recorded, or found no backend: all others cost nothing for what
    hardly ever matters (health/probe.py).
    """

    def __init__(self, name: str, pool: Pool, policy: ServicePolicy, events: Events) -> None:
        self.name = name
        self.pool = pool
        self.events = events
        self.budget = RetryBudget(policy.retry.budget_ratio, policy.retry.budget_per_s)
        self.queue = Queue(pool, _waits(policy), events)
        self.clients_host: bytes | None = None
        self._renewal: Any = None
        self.adapt_to(policy)

    def renew_candidates_soon(self) -> None:
        """Have the pool work out its candidates again, for a backend's health has changed; at once, if it has few backends.

        With a thousand that takes milliseconds, and where one comes many may: those of a moment are worked out together.
        """
        if len(self.pool.backends) < MANY:
            self.pool.renew_candidates()
        elif self._renewal is None:
            self._renewal = gevent.spawn_later(len(self.pool.backends) * RENEW_EACH_S, self._renew_candidates)

    def _renew_candidates(self) -> None:
        self._renewal = None
        self.pool.renew_candidates()

    def __repr__(self) -> str:
        return f"<Service {self.name} {len(self.pool.backends)} backends, {len(self.queue.waiters)} waiting>"

    def adapt_to(self, policy: ServicePolicy) -> None:
        """Treat requests that begin from now on by another policy; what was learned, paid in and who waits stay."""
        self.policy = policy
        self.budget.set_rates(policy.retry.budget_ratio, policy.retry.budget_per_s)
        self.queue.line.policy = _waits(policy)
        self.pool.evidence.hedging = policy.retry.hedge


def _waits(policy: ServicePolicy) -> WaitPolicy:
    return WaitPolicy(policy.queue, policy.queue_s, policy.retry.wait_s)
