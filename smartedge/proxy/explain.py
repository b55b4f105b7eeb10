"""Who keeps what was decided about requests; `observe.decisions.Decisions`, which this folder may not import."""

from __future__ import annotations

from typing import Any

from smartedge.balancer.pool import Lease
from smartedge.balancer.trace import Trace
from smartedge.http.request import Request


class Explain:
    """Keeps what was decided about requests; asked by the Forwarder and by each Attempts.

    This one keeps nothing: a `Forwarder` begins with it, and copies have it (`Mirror`).
    """

    def begin_trace(self, request: Request) -> Trace | None:
        """Give what a request's decisions are written to, if they are to be kept: it is sampled, or asks for that itself.

        Raises an EdgeError for one that must not go on: it carries a secret of ours.
        """
        return None

    def begin_late_trace(self, why: str, lease: Lease | None = None) -> Trace | None:
        """Give the same for a request that has only now become worth keeping; lease: its try under way."""
        return None

    def record_exchange(self, exchange: Any) -> None:
        """Keep a request that has ended, if it has a trace or an error of ours."""
