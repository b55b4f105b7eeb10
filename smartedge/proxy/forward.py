"""The catch-all view's other half: what forwards requests, and what all services share.

Every request gets an `Exchange` of its own (exchange.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from smartedge.balancer.errors import EdgeError, LoopDetected
from smartedge.balancer.learned import Learned
from smartedge.balancer.pool import Lease
from smartedge.balancer.trace import Trace
from smartedge.http.max_forwards import LIMITED, count_hop
from smartedge.http.request import Request
from smartedge.proxy.exchange import Exchange
from smartedge.proxy.outbound import Hop
from smartedge.proxy.router import Router
from smartedge.proxy.service import Service
from smartedge.proxy.tunnel import Tunnels

MOST_TOLD = 1000
"""Bytes of the field that says what was decided."""


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


class Forwarder:
    """Forwards requests to a service's backends; owned by the edge, called by the app's catch-all view.

    service: has the backends. router: carries out routes, which may lead to other services; None where there are none.
    hop: what backends are told of the way that requests came; replaced by a reload.
    edge_row: counts the answers that the edge itself gives. log: takes each finished exchange when there is an access log.
    exchange_for: makes the exchange for a request with `Upgrade`; the one here lets that field end. tunnels: the open ones.
    clients_host: the Host of a request that came lately and is recorded, or found no backend: all others cost nothing for what
    hardly ever matters (health/probe.py).
    """

    def __init__(self, service: Service, hop: Hop, edge_row: Learned, next_id: Callable[[], str]) -> None:
        self.service = service
        self.hop = hop
        self.edge_row = edge_row
        self.next_id = next_id
        self.router: Router | None = None
        self.explain: Explain = NothingExplained()
        self.log: Callable[[Exchange], None] | None = None
        self.exchange_for: Callable[[Forwarder, Request], Exchange] = Exchange
        self.tunnels = Tunnels()
        self.clients_host: bytes | None = None

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
                refuse_circles(request, self.hop.via)
                trace = exchange.trace = explain.begin(request)
                self.clients_host = request.fields.host
            if self.router is None:
                exchange.run()
            else:
                self.router.run(exchange)
        except EdgeError as error:
            self.clients_host = request.fields.host
            exchange.fail(error)
            if self.router is not None:
                self.router.failed(exchange)
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
