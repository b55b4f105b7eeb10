"""Where a converted configuration sends a request."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any

from smartedge.config.routes import RouteConfig
from smartedge.edge.plain_routes import plain_table
from tests.house import request_for


def taken(document: dict[str, Any], url: str, method: str = "GET", client: str = "192.0.2.1", **fields: str) -> Any:
    """Give the service that gets a request, or the status or redirect of the edge's own answer; 404 if there is no route."""
    _, _, host, *path = url.split("/", 3)
    routes = [RouteConfig.model_validate({"id": f"r{index}"} | route) for index, route in enumerate(document["routes"])]
    found = plain_table(routes).find(request_for("/" + "".join(path), host, method, peer=client, **fields))
    if found is None:
        return 404
    route = document["routes"][int(found.id[1:])]
    if any(ip_address(client) in ip_network(each) for each in route.get("deny", [])):
        return 403
    if "allow" in route and not any(ip_address(client) in ip_network(each) for each in route["allow"]):
        return 403
    return route.get("to") or route.get("redirect") or route["respond"]["status"]
