"""What the routes of a configuration mean, as the `Router` needs them: built whole at start and at reload."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from urllib.parse import urlsplit

from smartedge.config import values
from smartedge.config.route_sections import BasicAuthConfig, ForwardAuthConfig
from smartedge.config.routes import RouteConfig
from smartedge.edge.plain_routes import networks, plain_route
from smartedge.http.headers import folded
from smartedge.proxy.adapter import Limits
from smartedge.proxy.basic_auth import BasicAuth, Check, read_users
from smartedge.proxy.error_pages import ErrorPages
from smartedge.proxy.forward_auth import ForwardAuth
from smartedge.proxy.guard import Guard
from smartedge.proxy.header_edits import HeaderEdits
from smartedge.proxy.limiter import ClientLimiter
from smartedge.proxy.outbound import Hop
from smartedge.proxy.route import Route
from smartedge.proxy.route_policy import RoutePolicy
from smartedge.proxy.session import EdgeSession
from smartedge.proxy.transport import EdgeAdapter

LimiterOf = Callable[[RouteConfig], ClientLimiter | None]
"""Makes what keeps the clients of a route to their rate, if it has one."""


def build_routes(
    written: Iterable[RouteConfig],
    body_bytes: int,
    hop: Hop,
    check: Check,
    limiter_of: LimiterOf,
    read: Callable[[str], bytes],
) -> tuple[Route, ...]:
    """Build the routes.

    body_bytes: the limit of those that have none of their own. hop: as in `Hop`. check: says whether a password is a hash's.
    read: gives what a file holds.
    """
    return tuple(
        replace(
            plain_route(route, hop.is_trusted),
            guard=_guard(route, hop, check, limiter_of, read),
            request_edits=_edits(route.set_headers, route.add_headers, route.remove_headers),
            answer_edits=_edits(route.set_answer_headers, route.add_answer_headers, route.remove_answer_headers),
            policy=_policy(route),
            body_bytes=body_bytes if route.body_bytes is None else route.body_bytes,
            error_pages=_error_pages(route, read),
            mirror=(route.mirror.to, route.mirror.ratio) if route.mirror else None,
        )
        for route in written
    )


def _edits(
    set_fields: tuple[tuple[str, str], ...], add_fields: tuple[tuple[str, str], ...], remove_fields: tuple[str, ...]
) -> HeaderEdits | None:
    return HeaderEdits(set_fields, add_fields, remove_fields) if set_fields or add_fields or remove_fields else None


def _policy(route: RouteConfig) -> RoutePolicy | None:
    timeouts, retry = route.timeouts, route.retry
    if timeouts is None and retry is None:
        return None
    return RoutePolicy(
        first_byte_s=timeouts.first_byte_s if timeouts else None,
        tunnel_idle_s=timeouts.tunnel_idle_s if timeouts else None,
        attempts=retry.attempts if retry else None,
        deadline_s=retry.deadline_s if retry else None,
        statuses=frozenset(retry.statuses) if retry and retry.statuses is not None else None,
        body_bytes=retry.body_bytes if retry else None,
    )


def _error_pages(route: RouteConfig, read: Callable[[str], bytes]) -> ErrorPages | None:
    closest_last = sorted(route.error_pages, key=lambda page: isinstance(page[0], int))
    pages = {status: read(file) for item, file in closest_last for status in values.status_codes([item])}
    return ErrorPages(pages) if pages else None


def _guard(route: RouteConfig, hop: Hop, check: Check, limiter_of: LimiterOf, read: Callable[[str], bytes]) -> Guard | None:
    guard = Guard(
        networks(route.allow),
        networks(route.deny),
        limiter_of(route),
        _basic_auth(route.basic_auth, check, read) if route.basic_auth else None,
        _forward_auth(route.forward_auth, hop) if route.forward_auth else None,
    )
    return None if guard == Guard() else guard


def _basic_auth(said: BasicAuthConfig, check: Check, read: Callable[[str], bytes]) -> BasicAuth:
    return BasicAuth(read_users(read(said.file).decode()), said.realm, check)


def _forward_auth(said: ForwardAuthConfig, hop: Hop) -> ForwardAuth:
    parts = urlsplit(said.url)
    limits = Limits(said.timeout_s, said.timeout_s, said.timeout_s, idle_connections=128, answer_head_bytes=65_536)
    session = EdgeSession(EdgeAdapter(f"{parts.scheme}://{parts.netloc}", limits, None))
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    copied = frozenset(folded(name.encode()) for name in said.copy_headers)
    return ForwardAuth(target.encode(), parts.netloc.encode(), copied, said.timeout_s, session.send, hop)
