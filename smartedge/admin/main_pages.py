"""The pages at the top: health, reload, status and metrics; and the greeting by which commands know an edge."""

from __future__ import annotations

from flask import Response, request

from smartedge.admin import hello
from smartedge.admin.edit import patch
from smartedge.admin.page import READ, WRITE, Page, answer, read_flag, read_json
from smartedge.admin.reloading import asked_of, reload_edge, split_body
from smartedge.admin.scrapes import Scrapes
from smartedge.admin.status import health_document, status_document
from smartedge.balancer.errors import ClientError
from smartedge.edge import collector
from smartedge.edge.edge import Edge
from smartedge.workers.periodic import in_pieces


def main_pages(edge: Edge) -> tuple[Page, ...]:
    """Return the pages that users call by short names; all others are below /smartedge/."""
    scrapes = Scrapes(edge)

    def health() -> Response:
        status, document = health_document(edge)
        return answer(status, document)

    def reload() -> Response:
        if request.method == "PATCH":
            return patch(edge)
        body, said = split_body(read_json("the configuration"))
        asked, require_all = asked_of(said, has_body=bool(body))
        require_all = require_all or read_flag("require_all")
        result = reload_edge(edge, body or None, request.headers.get("If-Match"), asked, require_all=require_all)
        return answer(result.status, result.document, ETag=f'"{result.document["etag"]}"')  # by now it may be another's

    def status() -> Response:
        with collector.put_off():
            document = status_document(edge)
            return answer(200, document, ETag=f'"{document["etag"]}"')

    def metrics() -> Response:
        pieces, content_type = scrapes.make(request.headers.get("Accept", ""))
        headers = {"Cache-Control": "no-store", "Content-Length": str(sum(map(len, pieces)))}
        return Response(in_pieces(pieces), headers=headers, content_type=content_type)

    def say_hello() -> Response:
        try:
            return answer(200, hello.reply(request.headers.get(hello.FIELD, ""), edge.token, edge.version))
        except ValueError as error:
            raise ClientError(str(error)) from None

    return (
        Page("/health", READ, True, health),
        Page("/api/reload", (*WRITE, "PATCH"), False, reload),
        Page("/api/status", READ, False, status),
        Page("/metrics", READ, False, metrics),
        Page(hello.PATH, READ, True, say_hello),
    )
