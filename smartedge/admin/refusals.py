"""What an admin page answers instead of its document: errors, as problem+json (RFC 9457)."""

from __future__ import annotations

import logging
import math

from flask import Blueprint, Response, request
from werkzeug.exceptions import HTTPException

from smartedge.admin.page import problem
from smartedge.balancer.errors import EdgeError, OutOfResources
from smartedge.config.model import ConfigError
from smartedge.edge.edge import Edge
from smartedge.http.resources import is_own, reason

log = logging.getLogger(__name__)


class Refusals:
    """The answers to what goes wrong on an admin page; made by `make_admin`, called by Flask with what a page has raised."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge

    def register(self, blueprint: Blueprint) -> None:
        """Have this blueprint's errors answered here."""
        blueprint.register_error_handler(ConfigError, self.config_error)
        blueprint.register_error_handler(EdgeError, self.edge_error)
        blueprint.register_error_handler(HTTPException, self.http_error)
        blueprint.register_error_handler(Exception, self.unknown_error)

    def refuse(self, status: int, title: str, detail: str, errors: object = None, **headers: str) -> Response:
        """Answer with a problem that has the request's id. errors: lists each single one."""
        return problem(status, title, detail, self._edge.request_id(request.environ), errors, headers)

    def config_error(self, error: ConfigError) -> Response:
        """Answer a configuration that cannot be used with all that is wrong with it."""
        errors = [{"path": problem.path, "detail": problem.message} for problem in error.problems]
        detail = "Nothing has changed. What is wrong: " + "; ".join(map(str, error.problems))
        return self.refuse(error.status, "Invalid configuration", detail, errors)

    def edge_error(self, error: EdgeError) -> Response:
        """Answer one of our own errors, which knows its status."""
        headers = {"ETag": f'"{self._edge.etag}"'} if error.status == 412 else {}
        if error.retry_after_s is not None:
            headers["Retry-After"] = str(math.ceil(error.retry_after_s))
        members = getattr(error, "members", None)
        request_id = self._edge.request_id(request.environ)
        return problem(error.status, error.title, error.detail, request_id, None, headers, members)

    def http_error(self, error: HTTPException) -> Response:
        """Answer what Flask itself refuses, such as a page that there is not."""
        return self.refuse(error.code or 500, error.name, error.description or "")

    def unknown_error(self, error: Exception) -> Response:
        """Answer 503 where the machine is short of something, 500 for a bug, which the log has."""
        if is_own(error):
            return self.edge_error(OutOfResources(f"The edge itself is short of something: {reason(error)}.", retry_after_s=1.0))
        id_ = self._edge.request_id(request.environ)
        log.error("an admin page failed", exc_info=error, extra={"path": request.path, "request_id": id_})
        return problem(500, "Internal error", "The log has more under this request id.", id_)
