"""The admin pages: health, reload, status and metrics, as a Flask Blueprint, and who may see them.

Every page takes every method and refuses the wrong ones itself: with a route for one method only the others
would fall through to the catch-all, and POST /health would be forwarded to a backend. All errors are
problem+json (RFC 9457).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

from flask import Blueprint, Response, request
from flask.blueprints import BlueprintSetupState
from werkzeug.exceptions import HTTPException
from werkzeug.routing import BaseConverter

from smartedge.admin import hello
from smartedge.admin.cluster import cluster_pages
from smartedge.admin.dashboard import dashboard_pages
from smartedge.admin.decisions import decision_pages
from smartedge.admin.edit import patch
from smartedge.admin.events import event_pages
from smartedge.admin.history import history_pages
from smartedge.admin.live import LiveDocument, live_pages
from smartedge.admin.one_way_rule import OneWayRule
from smartedge.admin.operate import drain_pages, operator_pages
from smartedge.admin.page import READ, WRITE, Page, answer, problem, read_flag, read_json
from smartedge.admin.reloading import asked_of, reload_edge, split_body
from smartedge.admin.rollouts import rollout_pages
from smartedge.admin.routes import route_pages
from smartedge.admin.scrapes import Scrapes
from smartedge.admin.status import health_document, status_document
from smartedge.balancer.errors import ClientError, EdgeError, OutOfResources
from smartedge.config.model import ConfigError
from smartedge.edge.access import OWN_NAMES, Refusal, may_administer
from smartedge.edge.edge import Edge
from smartedge.edge.peer_owner import owned_by_us
from smartedge.http.environ_keys import SOCKET
from smartedge.http.resources import is_own, reason
from smartedge.workers.periodic import in_pieces

log = logging.getLogger(__name__)


class IpConverter(BaseConverter):
    """Matches an IP address, one of those of a backend's name, and no word."""

    regex = r"[0-9A-Fa-f%]*[.:][0-9A-Fa-f.:%]*"
    weight = 50  # looked at before any text


def make_admin(edge: Edge) -> Blueprint:
    """Return the Blueprint, to be registered on the app that answers the admin pages."""

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

    def etag() -> str:
        return f'"{edge.etag}"'

    def refuse(status: int, title: str, detail: str, errors: object = None, **headers: str) -> Response:
        return problem(status, title, detail, edge.request_id(request.environ), errors, headers)

    def guarded(page: Page) -> Callable[..., Response]:
        """Let a request through to the view only if it may ask this, and in this way."""

        def view(**parts: str) -> Response:
            if not page.public and (refusal := _refusal(edge)):
                title, headers = "Not allowed", {}
                if refusal.status == 401:
                    title, headers = "Authentication needed", {"WWW-Authenticate": 'Bearer realm="smartedge"'}
                return refuse(refusal.status, title, refusal.detail, **headers)
            if request.method not in page.methods:
                allowed = ", ".join(page.methods)
                return refuse(405, "Method not allowed", f"Use {allowed} here.", Allow=allowed)
            return page.view(**parts)

        return view

    def config_error(error: ConfigError) -> Response:
        errors = [{"path": problem.path, "detail": problem.message} for problem in error.problems]
        detail = "Nothing has changed. What is wrong: " + "; ".join(map(str, error.problems))
        return refuse(error.status, "Invalid configuration", detail, errors)

    def edge_error(error: EdgeError) -> Response:
        headers = {"ETag": etag()} if error.status == 412 else {}
        if error.retry_after_s is not None:
            headers["Retry-After"] = str(math.ceil(error.retry_after_s))
        members = getattr(error, "members", None)
        return problem(error.status, error.title, error.detail, edge.request_id(request.environ), None, headers, members)

    def http_error(error: HTTPException) -> Response:
        return refuse(error.code or 500, error.name, error.description or "")

    def our_error(error: Exception) -> Response:
        id_ = edge.request_id(request.environ)
        if is_own(error):
            return edge_error(OutOfResources(f"The edge itself is short of something: {reason(error)}.", retry_after_s=1.0))
        log.error("an admin page failed", exc_info=error, extra={"path": request.path, "request_id": id_})
        return problem(500, "Internal error", "The log has more under this request id.", id_)

    live = LiveDocument(edge)
    pages = (
        Page("/health", READ, True, health),
        Page("/api/reload", (*WRITE, "PATCH"), False, reload),
        Page("/api/status", READ, False, status),
        Page("/metrics", READ, False, metrics),
        Page(hello.PATH, READ, True, say_hello),
        *operator_pages(edge),
        *decision_pages(edge),
        *event_pages(edge),
        *history_pages(edge),
        *drain_pages(edge),
        *cluster_pages(edge),
        *rollout_pages(edge),
        *route_pages(edge),
        *live_pages(live),
        *dashboard_pages(live, lambda: _refusal(edge) is None),
    )
    blueprint = Blueprint("admin", __name__)

    def add(state: BlueprintSetupState) -> None:
        state.app.url_map.converters["ip"] = IpConverter
        for page in pages:
            endpoint = f"{blueprint.name}.{page.view.__name__}"
            state.app.view_functions[endpoint] = guarded(page)
            state.app.url_map.add(OneWayRule(page.path, endpoint=endpoint, methods=None))

    blueprint.record(add)
    blueprint.register_error_handler(ConfigError, config_error)
    blueprint.register_error_handler(EdgeError, edge_error)
    blueprint.register_error_handler(HTTPException, http_error)
    blueprint.register_error_handler(Exception, our_error)
    return blueprint


def _refusal(edge: Edge) -> Refusal | None:
    return may_administer(
        request.environ.get("REMOTE_ADDR", ""),
        {name.lower(): value for name, value in request.headers},
        is_ours=lambda: owned_by_us(request.environ.get(SOCKET)),
        token=edge.token,
        networks=edge.config.admin_allow,
        names=OWN_NAMES,
    )
