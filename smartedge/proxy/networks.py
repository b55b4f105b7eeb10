"""Ranges of addresses, as `client`, `allow` and `deny` of a route have them."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import ip_address, ip_network

MOST_REMEMBERED = 1024
"""Addresses whose answer is kept: working it out takes microseconds."""


class Networks:
    """CIDR ranges that a route has; made at reload, asked for a request's client. holds: whether an address (text) is in one."""

    __slots__ = ("_networks", "holds")

    def __init__(self, ranges: Iterable[str]) -> None:
        self._networks = tuple(ip_network(text) for text in ranges)
        self.holds = lru_cache(MOST_REMEMBERED)(self._holds)

    def _holds(self, address: bytes) -> bool:
        try:
            parsed = ip_address(address.decode("latin-1").partition("%")[0])
        except ValueError:
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
