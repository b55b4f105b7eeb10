"""What the adapters of both protocols have in common: whom they lead to, by which Dialer, and within what limits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from requests.adapters import BaseAdapter

from smartedge.balancer.spec import TlsSpec
from smartedge.http.resources import HOLDERS
from smartedge.http.sockets import Address, resolve
from smartedge.proxy.dialer import Dialer


@dataclass(frozen=True, slots=True)
class Limits:
    """How long and how much, for one backend's connections: seconds and bytes; made at reload (edge/policies.py)."""

    connect_s: float
    first_byte_s: float
    idle_s: float
    idle_connections: int
    answer_head_bytes: int


class BackendAdapter(BaseAdapter):
    """Sends requests to one backend; an `EdgeAdapter` by HTTP/1.1, an `Http2Adapter` by HTTP/2, owned by its EdgeSession.

    url, tls, on_connect, context, look_up: see Dialer. It may be asked for the descriptors of idle connections (`HOLDERS`).
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
        super().__init__()
        self.url = url
        self.limits = limits
        self._dialer = Dialer(url, limits.connect_s, tls, on_connect, context=context, look_up=look_up)
        self.to = self._dialer.to
        self._closed = False
        self._begin_pool()
        HOLDERS.add(self)

    def _begin_pool(self) -> None:
        """Make what connections are kept in."""
        raise NotImplementedError

    @property
    def context(self) -> Any:
        """The TLS settings of new connections, None without TLS."""
        return self._dialer.way.tls
