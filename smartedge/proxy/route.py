"""One route: which requests take it, and what becomes of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from smartedge.http.own_answer import OwnAnswer
from smartedge.http.request import Request
from smartedge.proxy.error_pages import ErrorPages
from smartedge.proxy.guard import Guard
from smartedge.proxy.header_edits import HeaderEdits
from smartedge.proxy.rewrite import Redirect, Rewrite
from smartedge.proxy.route_match import RouteMatch
from smartedge.proxy.route_policy import RoutePolicy
from smartedge.proxy.split import Split


@dataclass(frozen=True, slots=True, eq=False)
class Route:
    """One route; made at reload, held by the `RouteTable`, carried out by the `Router`, and known by its id.

    to: the services of its requests, None where the edge answers itself, with `redirect` or `respond`. key_of: what a person is
    known by who stays on one side. policy: what differs from the service's. body_bytes: the largest request body, 0 for any.
    mirror: a service that gets copies, and the share of the requests that are copied. None elsewhere: nothing of the kind.
    """

    id: str
    match: RouteMatch
    to: Split | None = None
    key_of: Callable[[Request], bytes] | None = None
    redirect: Redirect | None = None
    respond: OwnAnswer | None = None
    guard: Guard | None = None
    rewrite: Rewrite | None = None
    request_edits: HeaderEdits | None = None
    answer_edits: HeaderEdits | None = None
    policy: RoutePolicy | None = None
    body_bytes: int = 0
    error_pages: ErrorPages | None = None
    mirror: tuple[str, float] | None = None
