"""Probes of backends that speak HTTP/2: the same question as by HTTP/1.1, or the one that gRPC has for it."""

from __future__ import annotations

from collections.abc import Callable

from smartedge.balancer.health import ANSWERED, HealthPolicy
from smartedge.health.probe_answer import BODY_BYTES, HEAD_BYTES, ProbeAnswer, ProbeError
from smartedge.http import grpc
from smartedge.http.sockets import Destination
from smartedge.http.tls_wire import TlsWire
from smartedge.http.wire import Wire
from smartedge.http2.ask import NoHttp2Answer, WholeAnswer, ask

SERVING = b"\0\0\0\0\2\x08\1"
"""A HealthCheckResponse whose status is 1, in its frame (github.com/grpc/grpc/blob/master/doc/health-checking.md)."""

NOTHING = b"\0\0\0\0\0"
"""A HealthCheckRequest that names no service: it is about the whole server."""

REFUSED = 400
"""What a stream that was reset counts as: servers of gRPC do so with all that is no call."""


def ask_by_http2(wire: Wire, to: Destination, question: bytes, policy: HealthPolicy, left_s: Callable[[], float]) -> ProbeAnswer:
    """Ask a question that HTTP/1.1 would have asked in these bytes; raises ProbeError, and what waiting raises.

    Where the operator has named no path, whoever refuses the question does answer.
    """
    try:
        asked = _ask(wire, to, question, b"", left_s)
    except NoHttp2Answer as error:
        if error.is_refusal and policy.statuses == ANSWERED:
            return ProbeAnswer(REFUSED, said="speaks HTTP/2, and refused the question")
        raise ProbeError(str(error)) from None
    return ProbeAnswer(asked.head.status, asked.body)


def call_health(wire: Wire, to: Destination, host: bytes, left_s: Callable[[], float]) -> str:
    """Ask as gRPC's health protocol has it; return what people are told, and raise ProbeError where it does not serve."""
    head = (
        b"POST %b/grpc.health.v1.Health/Check HTTP/1.1\r\nHost: %b\r\nContent-Type: application/grpc\r\nTE: trailers\r\n"
        b"User-Agent: smartedge-health\r\n\r\n" % (to.base, host)
    )
    try:
        asked = _ask(wire, to, head, NOTHING, left_s)
    except NoHttp2Answer as error:
        raise ProbeError(str(error)) from None
    if asked.head.status != 200:
        raise ProbeError(f"status {asked.head.status}, no answer of gRPC")
    status = grpc.status_in([*asked.trailers, *grpc.pairs_of(asked.head.block)])
    if status == grpc.UNIMPLEMENTED:
        raise ProbeError("grpc-status 12, it has no grpc.health.v1.Health")
    if status:
        raise ProbeError(f"grpc-status {status}")
    if asked.body != SERVING:
        raise ProbeError("not SERVING")
    return "SERVING"


def _ask(wire: Wire, to: Destination, head: bytes, body: bytes, left_s: Callable[[], float]) -> WholeAnswer:
    if isinstance(wire, TlsWire) and wire.protocol != "h2":
        raise ProbeError("TLS: HTTP/2 is not offered (ALPN)")
    return ask(wire, b"https" if to.secure else b"http", head, body, BODY_BYTES, HEAD_BYTES, left_s)
