"""Which zones a configuration names that it does not explain: most likely somebody has misspelled them."""

from __future__ import annotations

from collections.abc import Collection
from difflib import get_close_matches

from smartedge.balancer.spec import name_backend
from smartedge.config.model import Config
from smartedge.config.values import shown


def unknown_zones(config: Config) -> list[str]:
    """Say of each zone that somebody stands in and `zones` does not know who that is, and which was meant.

    While `zones` is empty a zone is but a name, and any will do.
    """
    known = config.zones
    if not known:
        return []
    named = [("zone: the edge", config.zone)]
    for service in config.all_services():
        named += [(f"backends: {name_backend(service.name, one.id)}", one.zone) for one in service.config.backends]
    return [
        f"{who} stands in {shown(zone)}, which is none of the zones{_meant(zone, known)}"
        for who, zone in named
        if zone is not None and zone not in known
    ]


def _meant(zone: str, known: Collection[str]) -> str:
    close = get_close_matches(zone, known, n=1)
    return f"; did you mean {shown(close[0])}?" if close else ""
