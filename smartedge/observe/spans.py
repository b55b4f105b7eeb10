"""Spans of a request that has ended: one of the edge's own, and one for each try, made of what was noted on its way anyway.

Names are those of OpenTelemetry's semantic conventions for HTTP (stable, 1.23 and later); what these have no name for begins with
`smartedge.`. A query is left out, as in the access log: it may hold secrets.
"""

from __future__ import annotations

from collections.abc import Sequence
from os import urandom
from typing import Final, Literal, NamedTuple

from smartedge.config.values import origin
from smartedge.http.cookies import field
from smartedge.http.forwarded import came_by_https
from smartedge.http.request import Request
from smartedge.http.span import Span
from smartedge.proxy.exchange import Exchange
from smartedge.proxy.tried import Tried

METHODS: Final = frozenset(("CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"))
"""Others are "_OTHER": a client must not be able to make ever more names."""

MOST_TEXT: Final = 1_000
"""Characters of a path or a User-Agent that are kept."""

Value = str | int | float
Attributes = dict[str, Value]


class SpanRecord(NamedTuple):
    """One span. Ids are lower-case hexadecimal digits, "" for no parent; times Unix nanoseconds. error: None if it has none."""

    trace_id: str
    span_id: str
    parent_id: str
    state: str
    kind: Literal["server", "client"]
    name: str
    began_ns: int
    ended_ns: int
    attributes: Attributes
    error: str | None


def spans_of(exchange: Exchange, span: Span, client: bytes, since_boot_s: float) -> list[SpanRecord]:
    """Make the spans of an exchange that has ended; span: its request's.

    client: the address. since_boot_s: what a time of the monotonic clock lacks to the Unix time.
    """
    attempts = exchange.attempts
    request = attempts.request
    method = request.method.decode("latin-1")
    common: Attributes = {"http.request.method": method if method in METHODS else "_OTHER"}
    if method not in METHODS:
        common["http.request.method_original"] = method[:MOST_TEXT]
        method = "HTTP"
    service = exchange.routed_to or (attempts.service.name if exchange.route is None else None)
    if service is not None:
        common["smartedge.service"] = service
    common["smartedge.request_id"] = attempts.request_id
    tries = exchange.tries() if attempts.tries else []

    def record(span_id: str, parent_id: str, client_side: bool, name: str, began: float, ended: float, more: Attributes) -> None:
        error = more.pop("error", None)
        began_ns = round((began + since_boot_s) * 1e9)
        ended_ns = max(began_ns, round((ended + since_boot_s) * 1e9))
        kind: Literal["server", "client"] = "client" if client_side else "server"
        state = span.state.decode("latin-1")
        found.append(
            SpanRecord(
                trace_id,
                span_id,
                parent_id,
                state,
                kind,
                name,
                began_ns,
                ended_ns,
                common | more,
                None if error is None else str(error),
            )
        )

    found: list[SpanRecord] = []
    trace_id, span_id = span.trace_id, span.span_id
    own = _of_exchange(exchange, client)
    name = f"{method} {own['http.route']}" if "http.route" in own else method
    record(span_id, span.parent_id, False, name, attempts.started, attempts.started + exchange.duration_s, own)
    queued_s, free_at = attempts.queue_s, attempts.started
    for number, one in enumerate(tries):
        try_id = span.tries.get((one.began, one.backend.key)) or urandom(8).hex()
        more = _of_try(one, tries[:number], request)
        waited_s = min(queued_s, max(0.0, one.began - free_at))
        if waited_s > 0:
            queued_s -= waited_s
            more["smartedge.queue_s"] = round(waited_s, 6)
        free_at = one.ended
        record(try_id, span_id, True, method, one.began, one.ended, more)
    return found


def _of_exchange(exchange: Exchange, client: bytes) -> Attributes:
    """Give what a request's own span says; `error` among it is the text of an error."""
    attempts, error, route = exchange.attempts, exchange.error, exchange.route
    request = attempts.request
    secure = came_by_https(request, attempts.hop.is_trusted)
    said: Attributes = {
        "url.scheme": "https" if secure else "http",
        "url.path": _text((exchange.asked_target or request.target).partition(b"?")[0]),
        "client.address": _text(client),
        "network.protocol.version": "2" if request.version == 20 else request.protocol[5:],
        "smartedge.try_count": attempts.tries,
    }
    if request.said.host:
        said["server.address"], said["server.port"] = _host_and_port(_text(request.said.host), 443 if secure else 80)
    if request.peer != client:
        said["network.peer.address"] = _text(request.peer)
    if agent := field(request.block, b"user-agent"):
        said["user_agent.original"] = _text(agent)
    if route is not None:
        said["http.route"] = _text(route.match.path) or "/"
        said["smartedge.route"] = route.id
    if attempts.backend is not None:
        said["smartedge.backend"] = attempts.backend.id
    if attempts.hedges:
        said["smartedge.hedge_count"] = attempts.hedges
    if attempts.queue_s:
        said["smartedge.queue_s"] = round(attempts.queue_s, 6)
    if exchange.bytes_in:
        said["http.request.body.size"] = exchange.bytes_in
    if exchange.bytes_out:
        said["http.response.body.size"] = exchange.bytes_out
    status = exchange.status
    if status == 499 and attempts.answer is not None:
        status = attempts.answer.status_code
    if status and status != 499:  # which nobody was ever sent
        said["http.response.status_code"] = status
    outcome = "ok"
    if exchange.counted:  # a tunnel: how it ended is nobody's fault
        if error is not None:
            said["smartedge.ended"] = error.detail
    elif error is not None and error.blame == "client":
        outcome = "abandoned" if exchange.status == 499 else "refused"
    elif error is not None or status >= 500:
        outcome = "failed"
        said["error"] = "" if error is None else error.detail
        reason = "other" if error is None else error.reason
        said["error.type"] = str(status) if reason == "other" and status >= 400 else reason
    said["smartedge.outcome"] = outcome
    return said


def _of_try(one: Tried, before: Sequence[Tried], request: Request) -> Attributes:
    """Give what the span of a try says. before: the tries that had begun."""
    backend = one.backend
    place = origin(backend.spec.url)
    said: Attributes = {
        "server.address": place.host,
        "smartedge.backend": backend.id,
        "smartedge.try": one.kind,
        "smartedge.outcome": one.outcome,
        "network.protocol.version": "1.1",
    }
    if place.scheme != "unix":
        said["server.port"] = place.port
        said["url.full"] = backend.spec.url + _text(request.target.partition(b"?")[0])
    if before:
        said["http.request.resend_count"] = len(before)
        said["smartedge.retry_reason"] = "late" if one.kind == "hedge" else before[-1].reason or before[-1].outcome
    if one.connect_s is not None:
        said["smartedge.connect_s"] = round(one.connect_s, 6)
    if one.latency_s is not None:
        said["smartedge.latency_s"] = round(one.latency_s, 6)
    if one.status:
        said["http.response.status_code"] = one.status
    if one.status >= 400:
        said["error"], said["error.type"] = "", str(one.status)
    elif one.outcome in ("failed", "overdue"):
        said["error"], said["error.type"] = "", one.reason or "other"
    return said


def _text(some: bytes) -> str:
    return some[:MOST_TEXT].decode("latin-1")


def _host_and_port(authority: str, default: int) -> tuple[str, int]:
    host, colon, port = authority.rpartition(":")
    if not colon or authority.endswith("]"):
        host, port = authority, ""
    return host.strip("[]"), int(port) if port.isdecimal() else default
