"""The catch-all view's other half: what forwards requests, and what it needs of the configuration.

Every request gets an `Exchange` of its own (exchange.py); here is what they share.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from smartedge.balancer.backend import Backend, Cell, Learned
from smartedge.balancer.errors import EdgeError
from smartedge.balancer.pool import Pool
from smartedge.balancer.retry import RetryBudget, RetryPolicy
from smartedge.proxy.exchange import Exchange
from smartedge.proxy.request import Request
from smartedge.proxy.tunnel import Tunnels

_RETRIES = int(Cell.RETRIES)


class Events(Protocol):
    """Who is told of what happens on a request's way."""

    def breaker_changed(self, backend: Backend, change: str) -> None:
        """Tell that a backend's breaker ejected or readmitted it."""

    def unreachable(self, backend: Backend) -> None:
        """Tell that a backend could not be connected to, so that it is probed soon."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a request's way needs of the configuration, worked out at reload.

    is_trusted: whether a peer (its address as text) is one of `trusted_proxies`; None when there are none.
    forwarded_header: send RFC 7239's Forwarded too.
    idle_s: see TimeoutsConfig; tunnel_idle_s: the same for tunnels.
    """

    retry: RetryPolicy
    is_trusted: Callable[[bytes], bool] | None = None
    forwarded_header: bool = False
    idle_s: float = 60.0
    tunnel_idle_s: float = 3600.0


class Forwarder:
    """Forwards requests to the pool's backends.

    edge: the row for the answers that the edge itself gives. log: takes each finished exchange when there is an access log.
    exchange_for: makes the exchange for a request with `Upgrade`; the one here lets that field end. tunnels: the open ones.
    """

    def __init__(self, pool: Pool, plan: Plan, edge: Learned, events: Events, next_id: Callable[[], str]) -> None:
        self.pool = pool
        self.plan = plan
        self.edge = edge
        self.events = events
        self.next_id = next_id
        self.budget = RetryBudget()
        self.log: Callable[[Exchange], None] | None = None
        self.exchange_for: Callable[[Forwarder, Request], Exchange] = Exchange
        self.tunnels = Tunnels()

    def __call__(self, request: Request) -> Exchange:
        """Forward a request; the exchange given back is a WSGI response, whatever became of it."""
        exchange = Exchange(self, request) if request.fields.upgrade is None else self.exchange_for(self, request)
        try:
            exchange.run()
        except EdgeError as error:
            exchange.fail(error)
        except BaseException:
            exchange.close()
            raise
        return exchange
