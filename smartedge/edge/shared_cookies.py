"""Sticky cookies of several services that have one name: which of them a client would bring to the wrong one."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from itertools import combinations

from smartedge.config.model import Config
from smartedge.config.services import WrittenService


def shared_cookies(config: Config) -> Iterator[str]:
    """Say of each name of a cookie which services would overwrite each other's, where one client asks several."""
    named: dict[str, list[WrittenService]] = {}
    hosts: dict[str, set[str]] = {}  # of the routes to each service; "" is any
    for route in config.routes:
        for name, _ in route.to or ():
            hosts.setdefault(name, set()).update(route.host or ("",))
    for service in config.all_services():
        if service.config.sticky.cookie is not None:
            named.setdefault(service.config.sticky.cookie, []).append(service)
    for cookie, services in named.items():
        meeting = [pair for pair in combinations(services, 2) if _meet(*pair, hosts)]
        names = list(dict.fromkeys(one.name for pair in meeting for one in pair))
        if names:
            yield (
                f"services: {', '.join(names)} have a sticky cookie of one name, {cookie}, and routes of the same hosts: each"
                " overwrites the other's; give them names or a sticky.path of their own"
            )


def _meet(one: WrittenService, other: WrittenService, hosts: Mapping[str, Collection[str]]) -> bool:
    """Whether a browser brings the cookie of one to the other (RFC 6265 sections 5.1.3 and 5.1.4)."""
    paths = [(service.config.sticky.path or "/").rstrip("/") + "/" for service in (one, other)]
    if not paths[0].startswith(paths[1]) and not paths[1].startswith(paths[0]):
        return False
    if one.config.sticky.domain or other.config.sticky.domain:
        return True
    return any(_overlap(mine, its) for mine in hosts.get(one.name, ()) for its in hosts.get(other.name, ()))


def _overlap(one: str, other: str) -> bool:
    if not one or not other:
        return True
    if one.startswith("*.") and other.startswith("*."):
        return one.endswith(other[1:]) or other.endswith(one[1:])
    if one.startswith("*.") or other.startswith("*."):
        wild, exact = (one, other) if one.startswith("*.") else (other, one)
        return exact.endswith(wild[1:])
    return one == other
