"""The edge takes part in traces (W3C Trace Context): it goes on with a request's or begins one, and decides what is recorded.

A trace that begins here is sampled by its id, as OpenTelemetry's TraceIdRatioBased does it: all workers and nodes with the same
ratio decide alike. One that a client brings is sampled if the client says so, and may: else any client could have everything
recorded, by the edge and by all behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from os import urandom
from random import Random
from struct import iter_unpack
from typing import Final

from smartedge.balancer.pool import Lease
from smartedge.http.forwarded import IsTrusted
from smartedge.http.request import Request
from smartedge.http.span import Span
from smartedge.http.trace_context import RANDOM, SAMPLED, Parent, read_context

AHEAD: Final = 64
"""Ids that are drawn at once: each by itself would cost three times as much (docs/performance.md)."""

_LINE: Final = b"traceparent: 00-%b-%b-02\r\n"
_SPAN_ID: Final = slice(49, 65)
_HALF: Final = slice(32, 48)
"""The last 64 bits of a trace id in such a line, by which it is sampled."""


class Tracer:
    """Gives requests their place in a trace; made at reload, asked by the Forwarder of a worker where `tracing` is on.

    ratio: of the traces that begin here, which are sampled. records: whether spans are kept of those that are. is_trusted: whose
    flag counts without a limit. others_per_s: so many traces a second are sampled because another client says so; beyond that
    it is as if nothing was said, and chance decides. clock: gives seconds.
    """

    def __init__(
        self,
        ratio: float,
        rng: Random,
        clock: Callable[[], float],
        *,
        records: bool = False,
        is_trusted: IsTrusted = None,
        others_per_s: int = 0,
    ) -> None:
        bound = round(ratio * (1 << 64))
        self._bound = b"%016x" % bound if bound < 1 << 64 else b"g"  # beyond every digit
        self._ratio = ratio
        self._rng = rng
        self._clock = clock
        self._records = records
        self._is_trusted = is_trusted
        self._others_per_s = others_per_s
        self._second = self._left = 0
        self._lines: Iterator[bytes] = iter(())

    def begin_span(self, request: Request) -> None:
        """Give a request the line that tells backends of its trace, in place of what its client has sent."""
        if request.said.traced:
            self._go_on(request)
            return
        line = next(self._lines, None) or self._draw()
        if line[_HALF] < self._bound:
            line = line[:66] + b"03\r\n"
            if self._records:
                request.span = Span(line)
        request.traceparent = line

    def _go_on(self, request: Request) -> None:
        """Take part in the trace that a client has sent, or seems to have."""
        context = read_context(request.fields)
        request.fields = request.fields.with_block(context.block)
        line = next(self._lines, None) or self._draw()
        parent = context.parent
        if parent is None:
            flags = SAMPLED | RANDOM if line[_HALF] < self._bound else RANDOM
        else:
            flags = parent.flags & RANDOM | (SAMPLED if self._samples(parent, request.peer) else 0)
            line = b"traceparent: 00-%b-%b-" % (parent.trace_id, line[_SPAN_ID])
        request.traceparent = line = b"%b%02x\r\n" % (line[:66], flags)
        if flags & SAMPLED and self._records:
            request.span = Span(line, "" if parent is None else parent.span_id.decode(), context.state)

    def _samples(self, parent: Parent, peer: bytes) -> bool:
        if not parent.flags & SAMPLED:
            return False
        if self._is_trusted is not None and self._is_trusted(peer):
            return True
        second = int(self._clock())
        if second != self._second:
            self._second, self._left = second, self._others_per_s
        if self._left > 0:
            self._left -= 1
            return True
        return self._rng.random() < self._ratio  # by chance: who sends the id has chosen it

    def _draw(self) -> bytes:
        """Draw more ids; none is zero, but once in 600 years of a million a second."""
        self._lines = map(_LINE.__mod__, iter_unpack("32s16s", urandom(24 * AHEAD).hex().encode()))
        return next(self._lines)


def begin_try(request: Request, lease: Lease) -> None:
    """Give a request another span id, for a try with this lease."""
    line, span_id = request.traceparent, urandom(8).hex()
    request.traceparent = b"%b%b%b" % (line[:49], span_id.encode(), line[65:])
    if request.span is not None:
        request.span.tries[lease.opened_at, lease.backend.key] = span_id
