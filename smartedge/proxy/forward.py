"""The catch-all view's other half: what forwards requests, and what it needs of the configuration.

Every request gets an `Exchange` of its own (exchange.py); here is what they share.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from smartedge.balancer.backend import Backend
from smartedge.balancer.errors import EdgeError, LoopDetected
from smartedge.balancer.learned import Learned
from smartedge.balancer.pool import Lease, Pool
from smartedge.balancer.retry import RetryBudget, RetryPolicy
from smartedge.balancer.trace import Trace
from smartedge.http.max_forwards import LIMITED, count_hop
from smartedge.http.request import Request
from smartedge.proxy.affinity import Affinity
from smartedge.proxy.exchange import Exchange
from smartedge.proxy.hedge import Hedges
from smartedge.proxy.left import MOST as MOST_LEFT
from smartedge.proxy.limiter import ClientLimiter
from smartedge.proxy.queue import Queue
from smartedge.proxy.tunnel import Tunnels

MOST_TOLD = 1000
"""Bytes of the field that says what was decided."""


class Events(Protocol):
    """Who is told of what happens on a request's way."""

    def breaker_changed(self, backend: Backend, change: str) -> None:
        """Tell that a backend's breaker ejected or readmitted it."""

    def unreachable(self, backend: Backend) -> None:
        """Tell that a backend could not be connected to, so that it is probed soon."""


class Explain(Protocol):
    """Who keeps what was decided about requests. left: ordinary requests until the next one that is to be kept."""

    left: int

    def begin(self, request: Request) -> Trace | None:
        """Give what a request's decisions are written to, if they are to be kept, because of `left` or its own wish.

        Raises an EdgeError for one that must not go on: it carries a secret of ours.
        """

    def late(self, why: str, lease: Lease | None = None) -> Trace | None:
        """Give the same for a request that has only now become worth keeping; lease: its try under way."""

    def record(self, exchange: Exchange) -> None:
        """Keep a request that has ended, if it has a trace or an error of ours."""


class NothingExplained:
    """Keeps nothing."""

    left = 1 << 62

    def begin(self, request: Request) -> None:
        """Give none."""

    def late(self, why: str, lease: Lease | None = None) -> None:
        """Give none."""

    def record(self, exchange: Exchange) -> None:
        """Do nothing."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a request's way needs of the configuration, worked out at reload.

    is_trusted: whether a peer (its address as text) is one of `trusted_proxies`; None when there are none.
    forwarded_header: send RFC 7239's Forwarded too.
    idle_s: see TimeoutsConfig; tunnel_idle_s: the same for tunnels. affinity: what requests are known by, None for nothing.
    failures: the statuses of answers that are failures of their backend.
    queue, queue_s: see LimitsConfig. client_of: what the rate limit tells clients apart by.
    """

    retry: RetryPolicy
    failures: frozenset[int] = frozenset(range(500, 600))
    is_trusted: Callable[[bytes], bool] | None = None
    forwarded_header: bool = False
    idle_s: float = 60.0
    tunnel_idle_s: float = 3600.0
    affinity: Affinity | None = None
    queue: int = 0
    queue_s: float = 1.0
    client_of: Callable[[Request], bytes] = lambda request: request.peer
    remarkable: frozenset[int] = field(init=False)
    """Statuses that are more than an answer: a failure, or a reason for another try."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "remarkable", self.failures | self.retry.statuses)


class Forwarder:
    """Forwards requests to the pool's backends.

    edge: the row for the answers that the edge itself gives. log: takes each finished exchange when there is an access log.
    exchange_for: makes the exchange for a request with `Upgrade`; the one here lets that field end. tunnels: the open ones.
    limiter: keeps clients to their rates, if there are any. queue: has those wait, in `queued`, who find all backends full.
    via: what we call ourselves in Via, which tells this edge from others.
    hedges: who waits for an answer that may be late; None when nothing is hedged. clients_host: the Host of a request that came
    lately and is recorded, or found no backend: all others cost nothing for what hardly ever matters (health/probe.py).
    """

    def __init__(self, pool: Pool, plan: Plan, edge: Learned, events: Events, next_id: Callable[[], str]) -> None:
        self.pool = pool
        self.edge = edge
        self.events = events
        self.next_id = next_id
        self.budget = RetryBudget()
        self.hedges: Hedges | None = None
        self.queue = Queue(edge, pool)
        self.queued = self.queue.places
        self.limiter: ClientLimiter | None = None
        self.explain: Explain = NothingExplained()
        self.log: Callable[[Exchange], None] | None = None
        self.exchange_for: Callable[[Forwarder, Request], Exchange] = Exchange
        self.tunnels = Tunnels()
        self.clients_host: bytes | None = None
        self.via = b"smartedge"
        self.apply(plan)

    def apply(self, plan: Plan) -> None:
        """Go on with another plan; what is under way keeps what it has taken of the old one."""
        self.plan = plan
        self.budget.apply(plan.retry.budget_ratio, plan.retry.budget_per_s)
        self.queue.size, self.queue.wait_s, self.queue.back_s = plan.queue, plan.queue_s, plan.retry.wait_s
        self.hedges = (self.hedges or Hedges(self.pool.evidence)) if plan.retry.hedge else None
        self.pool.evidence.hedging = plan.retry.hedge

    def move_from(self, backend: Backend, now: float) -> None:
        """Have requests that wait on a silent backend tried elsewhere, the oldest first, as far as the retry budget goes."""
        for lease in self.pool.late_on(backend, now):
            if not self.budget.left(now):
                return
            lease.holder.move(lease)

    def may_leave(self, backend: Backend) -> bool:
        """Whether one more try may be left waiting there."""
        left: int = sum(lease.left for lease in backend.learned.waiting)
        return left < MOST_LEFT

    def __call__(self, request: Request) -> Exchange:
        """Forward a request; the exchange given back is a WSGI response, whatever became of it."""
        exchange = Exchange(self, request) if request.fields.upgrade is None else self.exchange_for(self, request)
        if request.method in LIMITED and (own_answer := count_hop(request)) is not None:
            exchange.answer_here(own_answer)
            return exchange
        explain = self.explain
        trace = None
        explain.left -= 1
        try:
            if explain.left < 0 or request.fields.for_edge:
                refuse_circles(request, self.via)
                trace = exchange.trace = explain.begin(request)
                self.clients_host = request.fields.host
            exchange.run()
        except EdgeError as error:
            self.clients_host = request.fields.host
            exchange.fail(error)
        except BaseException:
            exchange.close()
            raise
        if trace is not None and trace.asked:
            _tell(exchange, trace)
        return exchange


MOST_EDGES = 10
"""So many edges behind one another are a circle: of them, one may have taken the mark out of Via by which it is known."""


def refuse_circles(request: Request, via: bytes) -> None:
    """Raise LoopDetected for a request that this edge has forwarded before (RFC 9110 section 7.6.3)."""
    said = b",".join(line[4:] for line in request.fields.block.splitlines() if line[:4].lower() == b"via:")
    if (via in said and b"(" in via) or said.count(b" smartedge") >= MOST_EDGES:
        raise LoopDetected("A backend has sent the request back to the edge that it came from.")


def _tell(exchange: Exchange, trace: Trace) -> None:
    """Have the answer say what was decided, in a field of one line; trace: of a request whose client asked, and may."""
    text = f"{exchange.request_id}; {trace.summary()}"
    line = "".join(c if " " <= c <= "~" else "?" for c in text)[:MOST_TOLD]
    if exchange.answer is not None:
        exchange.answer.via += b"X-SmartEdge-Decision: %b\r\n" % line.encode("ascii")
    elif exchange.own_answer is not None:
        exchange.own_answer[1].append(("X-SmartEdge-Decision", line))
