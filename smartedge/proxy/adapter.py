"""What the adapters of both protocols have in common: whom they lead to, by which Dialer, and within what limits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any

from smartedge.balancer.errors import BackendTimeout
from smartedge.balancer.spec import TlsSpec
from smartedge.http.derivable import mypyc_attr
from smartedge.http.sockets import Address, resolve
from smartedge.proxy.dialer import Dialer
from smartedge.proxy.outbound import Outbound


@dataclass(frozen=True, slots=True)
class Limits:
    """How long and how much, for one backend's connections: seconds and bytes; made at reload (edge/policies.py)."""

    connect_s: float
    first_byte_s: float
    idle_s: float
    idle_connections: int
    answer_head_bytes: int


@mypyc_attr(allow_interpreted_subclasses=True)
class BackendAdapter:
    """Sends requests to one backend; an `EdgeAdapter` by HTTP/1.1, an `Http2Adapter` by HTTP/2, owned by its EdgeSession.

    Not a requests.adapters.BaseAdapter, which can't be compiled and says no more than that there are `send` and `close`.
    url, tls, on_connect, context, look_up: see Dialer.
    """

    # Slots keep what each request needs on one line of the processor's cache; with hundreds of backends it is a cold one.
    __slots__ = ("_closed", "_dialer", "limits", "to", "url")

    def __init__(
        self,
        url: str,
        limits: Limits,
        tls: TlsSpec | None,
        on_connect: Callable[[float], None] | None = None,
        *,
        context: Any = None,
        look_up: Callable[[str, int], Sequence[Address]] = resolve,
    ) -> None:
        self.url = url
        self.limits = limits
        self._dialer = Dialer(url, limits.connect_s, tls, on_connect, context=context, look_up=look_up)
        self.to = self._dialer.to
        self._closed = False
        self._begin_pool()

    def _begin_pool(self) -> None:
        """Make what connections are kept in."""
        raise NotImplementedError

    @property
    def context(self) -> Any:
        """The TLS settings of new connections, None without TLS."""
        return self._dialer.way.tls

    def _waits(self, request: Outbound, deadline: float) -> tuple[float, float]:
        """Return how long a try waits for its answer at most, and for how much of that there is time before its deadline."""
        longest_s = self.limits.first_byte_s if request.first_byte_s is None else request.first_byte_s
        return longest_s, max(0.0, min(longest_s, deadline - monotonic()))


def blame_deadline(error: BackendTimeout) -> None:
    """Say of a try that it had less time than others have: the tries before it used up the rest."""
    error.blame = "edge"
    error.detail = "No backend answered before the deadline of all tries (retry.deadline_s)."
