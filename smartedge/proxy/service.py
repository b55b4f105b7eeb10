"""A service at run time: what one pool needs so that requests can be forwarded to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from smartedge.balancer.backend import Backend
from smartedge.balancer.learned import Learned
from smartedge.balancer.pool import Pool
from smartedge.balancer.retry import RetryBudget, RetryPolicy
from smartedge.balancer.watch import leases_to_move
from smartedge.proxy.affinity import Affinity
from smartedge.proxy.hedge import Hedges
from smartedge.proxy.left import MOST as MOST_LEFT
from smartedge.proxy.limiter import ClientLimiter
from smartedge.proxy.queue import Queue


class Events(Protocol):
    """Who is told of what happens to backends on a request's way; the edge."""

    def breaker_changed(self, backend: Backend, change: str) -> None:
        """Tell that a backend's breaker ejected or readmitted it."""

    def unreachable(self, backend: Backend) -> None:
        """Tell that a backend could not be connected to, so that it is probed soon."""


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

    policy: replaced whole by a reload (`adapt_to`); a request keeps the one that it began with. budget, queue, hedges: live as
    long as the service does. edge_row: counts who waits and who is refused. events: is told what happens to backends.
    """

    def __init__(self, name: str, pool: Pool, policy: ServicePolicy, edge_row: Learned, events: Events) -> None:
        self.name = name
        self.pool = pool
        self.events = events
        self.budget = RetryBudget(policy.retry.budget_ratio, policy.retry.budget_per_s)
        self.queue = Queue(edge_row, pool)
        self.hedges = Hedges(pool.evidence)
        self.adapt_to(policy)

    def __repr__(self) -> str:
        return f"<Service {self.name} {len(self.pool.backends)} backends, {len(self.queue.places)} waiting>"

    def adapt_to(self, policy: ServicePolicy) -> None:
        """Treat requests that begin from now on by another policy; what was learned, paid in and who waits stay."""
        self.policy = policy
        self.budget.apply(policy.retry.budget_ratio, policy.retry.budget_per_s)
        self.queue.size, self.queue.wait_s, self.queue.back_s = policy.queue, policy.queue_s, policy.retry.wait_s
        self.pool.evidence.hedging = policy.retry.hedge

    def leave_silent(self, now: float) -> None:
        """Have requests that wait on silent backends tried elsewhere."""
        for lease in leases_to_move(self.pool, self.budget, now):
            lease.holder.move(lease)

    def may_leave(self, backend: Backend) -> bool:
        """Whether one more try may be left waiting there."""
        left: int = sum(lease.left for lease in backend.learned.waiting)
        return left < MOST_LEFT
