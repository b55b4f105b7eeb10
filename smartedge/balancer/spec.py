"""What the operator wrote of a backend, frozen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from smartedge.balancer.breaker import BreakerPolicy
from smartedge.balancer.health import HealthPolicy

Protocol = Literal["http/1.1", "h2", "h2c"]
"""What is spoken to a backend: h2 is HTTP/2 over TLS (ALPN), h2c HTTP/2 without, from the first byte (RFC 9113 section 3.3)."""

State = Literal["enabled", "draining", "disabled"]

STATES: Final[tuple[State, ...]] = ("enabled", "draining", "disabled")
"""What the shared cell's numbers mean."""

DEFAULT_SERVICE: Final = "default"
"""The name of the one service of a configuration that names none."""


def name_backend(service: str, backend_id: str) -> str:
    """Return what people call a backend, in messages, logs and tables: `web/b2`, and `b2` in the service that needs no name."""
    return backend_id if service == DEFAULT_SERVICE else f"{service}/{backend_id}"


@dataclass(frozen=True, slots=True)
class TlsSpec:
    """How we speak TLS to a backend, as the operator wrote it; part of a `BackendSpec`. Files are PEM. h2: for HTTP/2."""

    verify: bool = True
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    server_name: str | None = None
    h2: bool = False


@dataclass(frozen=True, slots=True)
class BackendSpec:
    """One backend as the operator wrote it; made by config/, held by its `Backend`. weight: 0..1000. slow_start_s: 0.0 for none.

    addresses: where its host name leads to, as IP addresses; empty when the URL says that itself, or nobody knows yet.
    base: the URL's path, which goes before that of every request. service: the name of the one that it belongs to. zone, region,
    location (degrees of latitude and longitude): what it says itself of where it stands. priority: lower ones go first.
    """

    id: str
    url: str
    weight: int
    health: HealthPolicy
    breaker: BreakerPolicy
    max_in_flight: int | Literal["adaptive"] | None
    preserve_host: bool
    tls: TlsSpec | None
    slow_start_s: float
    labels: tuple[tuple[str, str], ...]
    state: State
    base: bytes
    service: str
    addresses: tuple[str, ...] = ()
    zone: str | None = None
    region: str | None = None
    location: tuple[float, float] | None = None
    priority: int = 0
    protocol: Protocol = "http/1.1"

    @property
    def entry(self) -> tuple[str, str]:
        """The id and URL as written: a name with several addresses has a backend for each, `b1/10.0.0.5`."""
        return self.id.partition("/")[0], self.url

    @property
    def name(self) -> str:
        """What people call it."""
        return name_backend(self.service, self.id)

    @property
    def key(self) -> str:
        """Service, id and URL in one, none of which has a space in it: what was learned belongs to all three together."""
        return f"{self.service} {self.id} {self.url}"
