"""Who keeps what was decided about requests; `observe.decisions.Decisions`, which this folder may not import."""

from __future__ import annotations

from typing import Any, Protocol

from smartedge.balancer.pool import Lease
from smartedge.balancer.trace import Trace
from smartedge.http.request import Request


class Explain(Protocol):
    """Keeps what was decided about requests; asked by the Forwarder and by each Attempts."""

    def begin_trace(self, request: Request) -> Trace | None:
        """Give what a request's decisions are written to, if they are to be kept: it is sampled, or asks for that itself.

        Raises an EdgeError for one that must not go on: it carries a secret of ours.
        """

    def begin_late_trace(self, why: str, lease: Lease | None = None) -> Trace | None:
        """Give the same for a request that has only now become worth keeping; lease: its try under way."""

    def record_exchange(self, exchange: Any) -> None:
        """Keep a request that has ended, if it has a trace or an error of ours."""


class NothingExplained:
    """Keeps nothing: what a `Forwarder` begins with, and what copies have (`Mirror`)."""

    def begin_trace(self, request: Request) -> None:
        """Give none."""

    def begin_late_trace(self, why: str, lease: Lease | None = None) -> None:
        """Give none."""

    def record_exchange(self, exchange: Any) -> None:
        """Do nothing."""
