"""What is told of requests whose traces are recorded: their spans, to a collector, where there is one."""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import monotonic, time

import gevent

from smartedge.balancer.cells import SPANS_LOST, SPANS_SENT
from smartedge.balancer.learned import Learned
from smartedge.http.request import Request
from smartedge.observe.span_sender import SpanSender
from smartedge.observe.spans import spans_of
from smartedge.proxy.exchange import Exchange

log = logging.getLogger("smartedge")


class Traces:
    """The traces of one worker, owned by its Edge; told of each exchange that has a span.

    client_of: gives the address of the client. Where spans go may change with every configuration (`send_to`); at first, nowhere.
    """

    def __init__(self, client_of: Callable[[Request], bytes]) -> None:
        self._client_of = client_of
        self._sender: SpanSender | None = None
        self._gone_sent = self._gone_lost = 0
        self._counted_sent = self._counted_lost = 0

    def send_to(self, sender: SpanSender | None) -> None:
        """Send spans there from here on, None for nowhere; what waits for the collector before is still sent."""
        old = self._sender
        if sender is not old:
            self._sender = sender
            if old is not None:
                gevent.spawn(self._end, old)

    def record_exchange(self, exchange: Exchange) -> None:
        """Have the spans of an exchange sent that has ended."""
        request = exchange.attempts.request
        if self._sender is not None and request.span is not None:
            self._sender.put(spans_of(exchange, request.span, self._client_of(request), time() - monotonic()))

    def report_trouble(self, edge_row: Learned) -> None:
        """Log what keeps spans from being sent, once, and count those that were sent or lost; called once a second."""
        if self._sender is not None and (trouble := self._sender.trouble()):
            log.warning("%s", trouble)
        sent, lost = self._gone_sent, self._gone_lost
        if self._sender is not None:
            sent, lost = sent + self._sender.sent, lost + self._sender.lost
        edge_row.add(SPANS_SENT, max(0, sent - self._counted_sent))  # what a collector before still sends counts at its end
        edge_row.add(SPANS_LOST, max(0, lost - self._counted_lost))
        self._counted_sent, self._counted_lost = max(sent, self._counted_sent), max(lost, self._counted_lost)

    def close(self, edge_row: Learned) -> None:
        """Send what is left, for a few seconds at most."""
        if self._sender is not None:
            self._sender.close()
        self.report_trouble(edge_row)

    def _end(self, sender: SpanSender) -> None:
        sender.close()
        self._gone_sent += sender.sent
        self._gone_lost += sender.lost
