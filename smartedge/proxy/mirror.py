"""Copies of requests for another service, whose answers are thrown away: no client waits for them, and nothing else does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from time import monotonic

import gevent

from smartedge.balancer.cells import MIRRORED, MIRRORS_DROPPED
from smartedge.balancer.errors import BackendTimeout, EdgeError
from smartedge.balancer.learned import Learned
from smartedge.http.request import Request
from smartedge.proxy.attempts import Attempts
from smartedge.proxy.explain import Explain
from smartedge.proxy.outbound import Hop
from smartedge.proxy.service import Service

MOST_COPIES = 64
"""Copies under way at once to one service, in a worker; what comes beyond that is dropped and counted."""

COPY_S = 60.0
"""The longest that a copy takes, its answer included."""


class Mirror:
    """Sends copies of requests; owned by the edge, used by the `Router`. It lives through reloads.

    under_way: how many, by the service's name: copies that hang at one service take no room from those for another.
    """

    def __init__(self, edge_row: Learned, next_id: Callable[[], str]) -> None:
        self._edge_row = edge_row
        self._next_id = next_id
        self.under_way: Counter[str] = Counter()

    def send(self, attempts: Attempts, service: Service) -> None:
        """Have a copy of a request sent as its backend got it, unless too many are under way or its body was not kept."""
        request, body = attempts.request, None
        if attempts.replay is not None:
            body = attempts.replay.twin()
        edge_row = self._edge_row
        if self.under_way[service.name] >= MOST_COPIES or (attempts.replay is not None and body is None):
            edge_row.add(MIRRORS_DROPPED)
            return
        edge_row.add(MIRRORED)
        self.under_way[service.name] += 1
        copy = Request(
            request.method, request.target, request.version, request.block, request.fields, request.peer, request.secure
        )
        copy.body = body
        copy.traceparent = request.traceparent if request.span is None else request.span.traceparent
        gevent.spawn(self._send, copy, service, attempts.hop)

    def _send(self, copy: Request, service: Service, hop: Hop) -> None:
        said = copy.said.request_id
        request_id = said.decode("latin-1") if said is not None else self._next_id()
        attempts = Attempts(service, copy, request_id, hop, Explain())
        error: EdgeError | None = None
        try:
            with gevent.Timeout(COPY_S, BackendTimeout("The copy took too long.")):
                attempts.run()
                while attempts.answer is not None and attempts.answer.read():
                    pass
        except EdgeError as failed:
            error = failed
        finally:
            self.under_way -= Counter((service.name,))  # keeps no name of which none is left
            self._end(attempts, error)

    def _end(self, attempts: Attempts, error: EdgeError | None) -> None:
        answer, lease, backend = attempts.answer, attempts.lease, attempts.backend
        if answer is not None and not answer.complete:
            answer.close()
        if lease is not None:
            failed = (error is not None and error.blame == "backend") or (answer is not None and attempts.is_failure(answer))
            attempts.end_lease(lease, "failed" if failed else "ok" if error is None else "abandoned", answer, error)
        if backend is not None:
            body = attempts.request.body
            status = answer.status_code if answer is not None else 502
            backend.learned.count(status, monotonic() - attempts.started, body.received_bytes if body is not None else 0, 0)
