"""SRV records (RFC 2782) as backends: their targets, ports, priorities, and weights on our scale."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import lcm
from typing import Any, Final, NamedTuple

MOST_WEIGHT: Final = 1000
"""A backend's greatest weight; that of a record goes up to 65,535."""

LEAST_RATIO: Final = 10
"""A record of weight 0 "should have a very small chance": so many times less than the least of the others."""


class SrvRecord(NamedTuple):
    """One SRV record. host: a name in lower case, without a dot at its end."""

    host: str
    port: int
    priority: int
    weight: int


def entries_of(targets: Iterable[SrvRecord], addresses: Mapping[str, Sequence[str]], scheme: str) -> list[dict[str, Any]]:
    """Make an entry for each address of each target, whose weight its addresses share. https: checked as the target's name.

    A target that has no address is left out.
    """
    there = sorted({one for one in targets if addresses.get(one.host)}, key=lambda one: (one.priority, one.host, one.port))
    weights = weights_of([(one.weight, len(addresses[one.host])) for one in there])
    found: list[dict[str, Any]] = []
    for one, weight in zip(there, weights, strict=True):
        for ip in addresses[one.host]:
            entry: dict[str, Any] = {
                "url": url_of(scheme, ip, one.port),
                "weight": weight,
                "priority": one.priority,
                "labels": {"target": one.host},
            }
            if scheme == "https":
                entry["tls"] = {"server_name": one.host}
            found.append(entry)
    return found


def weights_of(shared: Sequence[tuple[int, int]]) -> list[int]:
    """Map weights of records, each shared by a number of addresses, to weights of backends, 1 to 1000, in the same proportion."""
    scale = lcm(*{count for _, count in shared}) if shared else 1
    parts = [weight * scale // count for weight, count in shared]
    some = [part for part in parts if part]
    if len(some) < len(parts):
        factor = max(1, -(-LEAST_RATIO // min(some, default=LEAST_RATIO)))
        parts = [part * factor for part in parts]
    most = max(parts, default=0)
    down = min(1.0, MOST_WEIGHT / most) if most else 1.0
    return [max(1, round(part * down)) for part in parts]


def url_of(scheme: str, ip: str, port: int) -> str:
    """Write the URL of an address and a port."""
    return f"{scheme}://[{ip}]:{port}" if ":" in ip else f"{scheme}://{ip}:{port}"
