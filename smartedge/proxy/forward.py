"""The catch-all view's other half: what forwards requests, and what all services share.

Every request gets an `Exchange` of its own (exchange.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from smartedge.balancer.errors import EdgeError, LoopDetected
from smartedge.balancer.learned import Learned
from smartedge.balancer.trace import Trace
from smartedge.http.max_forwards import LIMITED, count_hop
from smartedge.http.request import Request
from smartedge.proxy.attempts import Attempts, HedgedSend
from smartedge.proxy.exchange import Ending, Exchange
from smartedge.proxy.explain import Explain
from smartedge.proxy.hedge import Hedges
from smartedge.proxy.outbound import Hop
from smartedge.proxy.router import Router
from smartedge.proxy.service import Service
from smartedge.proxy.tracer import Tracer
from smartedge.proxy.tunnel import Tunnels
from smartedge.proxy.upgrade import UpgradeExchange, offer

MOST_TOLD: Final = 1000
"""Bytes of the field that says what was decided."""


class Forwarder(Ending):
    """Forwards requests to backends; owned by the edge, called by the app and its catch-all view.

    service: of the requests that no route takes elsewhere. router: carries out routes; None where there are none.
    hop: what backends are told of the way that requests came; replaced by a reload. edge_row: counts the answers of the edge's
    own that are for no service. next_id: makes a request's id. explain: keeps decisions. log: takes each finished exchange when
    there is an access log. tracer: has the edge take part in traces, where it does. spans: takes each finished exchange that has
    a span. hedges: sends tries that may be hedged. tunnels: the open ones.
    """

    def __init__(self, service: Service, hop: Hop, edge_row: Learned, next_id: Callable[[], str]) -> None:
        self.service = service
        self.hop = hop
        self.edge_row = edge_row
        self.next_id = next_id
        self.router: Router | None = None
        self.explain = Explain()
        self.log: Callable[[Exchange], None] | None = None
        self.tracer: Tracer | None = None
        self.spans: Callable[[Exchange], None] = lambda _: None
        self.hedges = Hedges()
        self.tunnels = Tunnels()
        self._race: HedgedSend = self.hedges.race  # made once: a bound method takes as long as a call (docs/performance.md)

    def forward(self, request: Request) -> Exchange:
        """Forward a request; the exchange given back is a WSGI response, whatever became of it."""
        if self.tracer is not None:
            self.tracer.begin_span(request)
        said, service = request.said, self.service
        given = said.request_id
        request_id = given.decode("latin-1") if given is not None else self.next_id()
        offered = None if said.upgrade is None else offer(request)
        attempts = Attempts(service, request, request_id, self.hop, self.explain, offered)
        if offered is None:
            exchange = Exchange(attempts, self)
        else:
            exchange = UpgradeExchange(attempts, self, self.tunnels)
        if request.method in LIMITED and (own_answer := count_hop(request)) is not None:
            exchange.answer_here(own_answer)
            return exchange
        if self.log is not None or request.span is not None:
            attempts.tried = ()
        try:
            if said.for_edge:
                refuse_circles(request, self.hop.via)
            trace = attempts.trace = self.explain.begin_trace(request)
            if trace is not None:
                service.clients_host = said.host
            if self.router is None:
                exchange.routed_to = service.name
                exchange.run(self._race)
            else:
                self.router.run(exchange, self._race)
        except EdgeError as error:
            attempts.service.clients_host = said.host
            exchange.fail(attempts.gone or error)
            if self.router is not None:
                self.router.failed(exchange)
        except BaseException:
            exchange.close()
            raise
        if attempts.trace is not None and attempts.trace.asked:
            _tell(exchange, attempts.trace)
        return exchange

    def end_exchange(self, exchange: Exchange) -> None:
        """Count, record and log a request that has ended."""
        attempts = exchange.attempts
        if not exchange.counted:
            backend = attempts.backend if exchange.own_answer is None else None
            row = backend.learned if backend is not None else self._row_of(exchange)
            body = attempts.request.body
            row.count(exchange.status, exchange.duration_s, 0 if body is None else body.received_bytes, exchange.bytes_out)
        if attempts.trace is not None or exchange.error is not None:
            self.explain.record_exchange(exchange)
        if self.log is not None:
            self.log(exchange)
        if attempts.request.span is not None:
            self.spans(exchange)

    def _row_of(self, exchange: Exchange) -> Learned:
        """Give the row that counts an answer of the edge's own: of the service that it was for, where it was for one."""
        service = exchange.attempts.service
        return service.pool.row if self.router is None or exchange.routed_to == service.name else self.edge_row


MOST_EDGES: Final = 10
"""So many edges behind one another are a circle: of them, one may have taken the mark out of Via by which it is known."""


def refuse_circles(request: Request, via: bytes) -> None:
    """Raise LoopDetected for a request that this edge has forwarded before (RFC 9110 section 7.6.3)."""
    said = b",".join(line[4:] for line in request.goes_on.splitlines() if line[:4].lower() == b"via:")
    if (via in said and b"(" in via) or said.count(b" smartedge") >= MOST_EDGES:
        raise LoopDetected("A backend has sent the request back to the edge that it came from.")


def _tell(exchange: Exchange, trace: Trace) -> None:
    """Have the answer say what was decided, in a field of one line; trace: of a request whose client asked, and may."""
    way = "" if exchange.route is None else f"by route {exchange.route.id}"
    if exchange.route is not None and exchange.routed_to is not None:
        way += f" to {exchange.routed_to}"
    text = "; ".join(filter(None, (exchange.attempts.request_id, way, trace.summary())))
    line = "".join(c if " " <= c <= "~" else "?" for c in text)[:MOST_TOLD]
    answer = exchange.attempts.answer
    if exchange.own_answer is None and answer is not None:
        answer.via += b"X-SmartEdge-Decision: %b\r\n" % line.encode("ascii")
    elif exchange.own_answer is not None:
        exchange.own_answer[1].append(("X-SmartEdge-Decision", line))
