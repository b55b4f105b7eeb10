"""The page that says which route a request would take, and why no other."""

from __future__ import annotations

from flask import Response, request

from smartedge.admin.page import READ, Page, answer
from smartedge.balancer.errors import ClientError
from smartedge.edge import route_answer
from smartedge.edge.edge import Edge


def route_pages(edge: Edge) -> tuple[Page, ...]:
    """Return the page below /smartedge/route; it takes `method`, `url`, `header` (more than once) and `client` as its query."""

    def route() -> Response:
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

    return (Page("/smartedge/route", READ, False, route),)
