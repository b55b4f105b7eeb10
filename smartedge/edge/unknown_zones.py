"""Which zones a configuration names that it does not explain, and which places nobody will ever know: most likely mistakes."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from difflib import get_close_matches

from smartedge.balancer.spec import name_backend
from smartedge.config.model import Config
from smartedge.config.values import shown


def unknown_zones(config: Config) -> list[str]:
    """Say of each zone that somebody stands in and `zones` does not know who that is, and which was meant.

    While `zones` is empty a zone is but a name, and any will do for a backend; then the edge and its clients should stand where
    some backend does, unless backends are still to be found.
    """
    services = config.all_services()
    named = [("zone: the edge", config.zone)] if config.zones or any(one.config.locality.prefer for one in services) else []
    for service in services:
        named += [(f"locality.networks: a client in {text}", zone) for text, zone in service.config.locality.networks]
        if config.zones:
            named += [(f"backends: {name_backend(service.name, one.id)}", one.zone) for one in service.config.backends]
    known, what = {*config.zones}, "which is none of the zones"
    if not known:
        if any(service.config.discover for service in services):
            return []
        known = {one.zone for service in services for one in service.config.backends if one.zone is not None}
        what = "where no backend does"
    return [
        f"{who} stands in {shown(zone)}, {what}{_meant(zone, known)}"
        for who, zone in dict.fromkeys(named)
        if zone is not None and zone not in known
    ]


def unknown_places(config: Config) -> Iterator[str]:
    """Say what nearness can't go by: an edge that stands nowhere, a header that nobody is believed."""
    localities = [service.config.locality for service in config.all_services()]
    if config.zone is None and any(locality.prefer == "edge" for locality in localities):
        yield "locality: prefers what is near the edge, and nobody says where that is; set zone (--zone, SMARTEDGE_ZONE)"
    if not config.trusted_proxies and any(locality.header is not None for locality in localities):
        yield "locality.header: is believed from trusted_proxies alone, and there are none: no client is known by it"


def _meant(zone: str, known: Collection[str]) -> str:
    close = get_close_matches(zone, known, n=1)
    return f"; did you mean {shown(close[0])}?" if close else ""
