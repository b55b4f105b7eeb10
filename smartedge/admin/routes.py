"""The pages of routes: which one a request would take and why no other, and other weights for the services of one."""

from __future__ import annotations

import json
from typing import Any

from flask import Response, request

from smartedge.admin.page import READ, WRITE, Page, answer, read_json
from smartedge.admin.reloading import reload_edge
from smartedge.admin.written import laid_out, text_in_use
from smartedge.balancer.errors import ClientError, EdgeError
from smartedge.edge import route_answer
from smartedge.edge.edge import Edge


class UnknownRoute(EdgeError):
    """There is no route of that id."""

    status = 404
    title = "Unknown route"
    blame = "client"


def route_pages(edge: Edge) -> tuple[Page, ...]:
    """Return the pages of routes."""

    def route() -> Response:
        """Explain a request, made of `method`, `url`, `header` (more than once) and `client` in the query."""
        said = request.args
        if "url" not in said:
            raise ClientError("Say which request: /smartedge/route?method=GET&url=http://shop.example/api&header=X-Beta:%201")
        try:
            asked = route_answer.made_request(
                said.get("method", "GET"), said["url"], said.getlist("header"), said.get("client", "127.0.0.1")
            )
        except ValueError as error:
            raise ClientError(f"{error}.") from None
        router = edge.forwarder.router
        if router is None:
            return answer(200, route_answer.without_routes(edge.forwarder.service.name))
        return answer(200, route_answer.answer(router.table, asked))

    def weights(route_id: str) -> Response:
        """Share a route's requests out by other weights, `{"web": 80, "beta": 20}`: in force, and in the file, in all workers."""
        try:
            wanted = json.loads(read_json("the weights") or b"null")
        except (ValueError, RecursionError):
            raise ClientError('Send the weights as JSON, such as {"web": 80, "beta": 20}.') from None
        result = reload_edge(edge, reweighed(edge, route_id, wanted), request.headers.get("If-Match") or f'"{edge.etag}"')
        etag = f'"{result.document["etag"]}"'
        return answer(result.status, {"route": route_id, "to": wanted, **result.document}, ETag=etag)

    return Page("/smartedge/route", READ, False, route), Page("/smartedge/routes/<route_id>/weights", WRITE, False, weights)


def reweighed(edge: Edge, route_id: str, weights: Any) -> bytes:
    """Return the configuration's text with other weights for a route, which a reload checks like any other text.

    Raises UnknownRoute, and CannotPersist where the file is not what is in use.
    """
    text, config = text_in_use(edge)
    index = next((index for index, route in enumerate(config.routes) if route.id == route_id), None)
    if index is None:
        ids = ", ".join(route.id for route in config.routes[:20]) or "none"
        raise UnknownRoute(f'There is no route "{route_id[:100]}". There are: {ids}.')
    if config.routes[index].to is None:
        raise ClientError(f'The route "{route_id}" leads to no service.')
    document = json.loads(text)
    document["routes"][index]["to"] = weights
    return laid_out(document, text)
