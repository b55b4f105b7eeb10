"""One route: which requests take it."""

from __future__ import annotations

from dataclasses import dataclass

from smartedge.proxy.route_match import RouteMatch


@dataclass(frozen=True, slots=True, eq=False)
class Route:
    """One route; made at reload, held by the `RouteTable`, named by its id in status, log and metrics."""

    id: str
    match: RouteMatch
