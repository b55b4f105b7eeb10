"""Rate limits on a request's way: who a client is, and the answer to one that asks too often."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from ipaddress import AddressValueError, IPv6Address

from smartedge.balancer.cells import RATE_LIMITED
from smartedge.balancer.errors import TooManyRequests
from smartedge.balancer.learned import Learned
from smartedge.balancer.rate_limit import RateLimiter
from smartedge.http.forwarded import IsTrusted, client_address, key_field
from smartedge.http.request import Request


class ClientLimiter:
    """Keeps clients to their rate; part of a `ServicePolicy` or of a route's `Guard`.

    key_of: gives what a client is known by. row: counts who was refused; the service's, for a route the edge's.
    """

    def __init__(self, limiter: RateLimiter, key_of: Callable[[Request], bytes], row: Learned) -> None:
        self._limiter = limiter
        self._key_of = key_of
        self._row = row

    def admit(self, request: Request, now: float) -> None:
        """Count a request; raises TooManyRequests when it is one too many."""
        wait_s = self._limiter.take_token(self._key_of(request), now)
        if wait_s:
            self._row.add(RATE_LIMITED)
            policy = self._limiter.policy
            raise TooManyRequests(f"A client may send {policy.per_s:g} requests a second.", retry_after_s=wait_s)


def client_reader(by: str, is_trusted: IsTrusted) -> Callable[[Request], bytes]:
    """Return what tells clients apart: "client" goes by the address, "header:NAME" by that field, where there is one."""

    def by_address(request: Request) -> bytes:
        return network_of(client_address(request, is_trusted))

    name = by.partition(":")[2].lower().encode()
    if not name:
        return by_address

    def by_header(request: Request) -> bytes:
        value = key_field(request, name)
        return b"%b: %b" % (name, value) if value else by_address(request)

    return by_header


@lru_cache(maxsize=1024)
def network_of(address: bytes) -> bytes:
    """Return what stands for an address as a client: an IPv6 one's /64, of which any client has 2**64 (RFC 6177)."""
    if b":" not in address:
        return address
    try:
        parsed = IPv6Address(address.decode("latin-1").partition("%")[0])
    except AddressValueError:
        return address
    mapped = parsed.ipv4_mapped
    return parsed.packed[:8] if mapped is None else str(mapped).encode()
