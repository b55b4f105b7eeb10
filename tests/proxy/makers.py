"""Makes what stands on a request's way, for tests that are about something else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from smartedge.balancer.learned import Learned
from smartedge.balancer.pool import Pool
from smartedge.balancer.retry import RetryPolicy
from smartedge.proxy.forward import Forwarder
from smartedge.proxy.outbound import Hop
from smartedge.proxy.service import Events, Service, ServicePolicy

HOP = Hop(b"smartedge", None, forwarded_header=False)


def policy_of(retry: RetryPolicy | None = None, **changes: Any) -> ServicePolicy:
    """The policy of a service that has nothing but retries, with these changes."""
    usual: dict[str, Any] = {
        "failures": frozenset(range(500, 600)),
        "idle_s": 60.0,
        "tunnel_idle_s": 3600.0,
        "queue": 0,
        "queue_s": 1.0,
        "affinity": None,
        "limiter": None,
    }
    return ServicePolicy(retry or RetryPolicy(), **(usual | changes))


def forwarder_of(
    pool: Pool, policy: ServicePolicy, events: Events, edge_row: Learned | None = None, next_id: Callable[[], str] = lambda: "id"
) -> Forwarder:
    """A forwarder to one pool."""
    row = edge_row or Learned()
    return Forwarder(Service("default", pool, policy, row, events), HOP, row, next_id)
