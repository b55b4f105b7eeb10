"""Ranges of addresses, as `client`, `allow` and `deny` of a route have them."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from smartedge.http.forwarded import plain_address

MOST_REMEMBERED = 1024
"""Addresses whose answer is kept: working it out takes microseconds."""


class Networks:
    """CIDR ranges that a route has; made at reload, asked for a request's client. holds: whether an address (text) is in one."""

    __slots__ = ("_networks", "holds")

    def __init__(self, ranges: Iterable[str]) -> None:
        self._networks = tuple(ip_network(text) for text in ranges)
        self.holds = lru_cache(MOST_REMEMBERED)(self._holds)

    def _holds(self, address: bytes) -> bool:
        parsed = address_in(address)
        if parsed is None:
            return False  # a peer on a unix socket
        return any(parsed in network for network in self._networks)

    def is_within(self, other: Networks) -> bool:
        """Whether every address in these is in the others, too."""
        return all(
            any(one.version == wide.version and one.subnet_of(wide) for wide in other._networks)  # type: ignore[arg-type]
            for one in self._networks
        )

    def __str__(self) -> str:
        return ", ".join(str(network) for network in self._networks)

    def __repr__(self) -> str:
        return f"<Networks {self}>"


def address_in(text: bytes) -> IPv4Address | IPv6Address | None:
    """Read an address as proxies write one: perhaps with a port or a zone, IPv4 perhaps within IPv6; None if there is none."""
    try:
        parsed = ip_address(plain_address(text.partition(b"%")[0]).decode("latin-1"))
    except ValueError:
        return None
    return parsed if parsed.version == 4 or parsed.ipv4_mapped is None else parsed.ipv4_mapped
