"""What the routes of a configuration mean, as the `Router` needs them: built whole at start and at reload."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from urllib.parse import urlsplit

from smartedge.config import values
from smartedge.config.route_sections import BasicAuthConfig, ForwardAuthConfig
from smartedge.config.routes import RouteConfig
from smartedge.http.forwarded import IsTrusted
from smartedge.http.headers import folded
from smartedge.http.own_answer import own_answer
from smartedge.proxy.adapter import Limits
from smartedge.proxy.affinity import key_reader
from smartedge.proxy.basic_auth import BasicAuth, Check, read_users
from smartedge.proxy.error_pages import ErrorPages
from smartedge.proxy.forward_auth import ForwardAuth
from smartedge.proxy.guard import Guard
from smartedge.proxy.header_edits import HeaderEdits
from smartedge.proxy.limiter import ClientLimiter
from smartedge.proxy.networks import Networks
from smartedge.proxy.outbound import Hop
from smartedge.proxy.rewrite import Redirect, Rewrite
from smartedge.proxy.route import Route
from smartedge.proxy.route_match import RouteMatch, Wanted
from smartedge.proxy.route_policy import RoutePolicy
from smartedge.proxy.routes import RouteTable
from smartedge.proxy.session import EdgeSession
from smartedge.proxy.split import Split
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
        Route(
            route.id,
            match_of(route, hop.is_trusted),
            to=Split(route.to) if route.to else None,
            key_of=key_reader(route.split_by, hop.is_trusted) if route.split_by else None,
            redirect=_redirect(route),
            respond=_respond(route),
            guard=_guard(route, hop, check, limiter_of, read),
            rewrite=_rewrite(route),
            request_edits=_edits(route.set_headers, route.add_headers, route.remove_headers),
            answer_edits=_edits(route.set_answer_headers, route.add_answer_headers, route.remove_answer_headers),
            policy=_policy(route),
            body_bytes=body_bytes if route.body_bytes is None else route.body_bytes,
            error_pages=_error_pages(route, read),
            mirror=(route.mirror.to, route.mirror.ratio) if route.mirror else None,
        )
        for route in written
    )


def plain_table(written: Iterable[RouteConfig], is_trusted: IsTrusted = None) -> RouteTable:
    """Build the routes as far as they say where a request goes, opening no file: for `check` and `route`."""
    routes = (
        Route(
            route.id,
            match_of(route, is_trusted),
            to=Split(route.to) if route.to else None,
            key_of=key_reader(route.split_by, is_trusted) if route.split_by else None,
            redirect=_redirect(route),
            respond=_respond(route),
            rewrite=_rewrite(route),
        )
        for route in written
    )
    return RouteTable(routes, key_reader("client", is_trusted))


def match_of(route: RouteConfig, is_trusted: IsTrusted = None) -> RouteMatch:
    """Say what a route asks of a request."""
    exact = route.path_exact is not None
    path = route.path_exact if route.path_exact is not None else (route.path or "").removesuffix("/")
    return RouteMatch(
        tuple(host.encode() for host in route.host or ()),
        path.encode(),
        exact,
        frozenset(method.encode() for method in route.method or ()),
        tuple((name.lower().encode(), _wanted(text)) for name, text in route.header),
        tuple((name.encode(), _wanted(text)) for name, text in route.query),
        _networks(route.client),
        is_trusted,
        None if route.path_regex is None else re.compile(route.path_regex.encode()),
    )


def _wanted(text: str) -> Wanted:
    return re.compile(text[1:].encode()) if text.startswith("~") else text.encode()


def _networks(ranges: tuple[str, ...] | None) -> Networks | None:
    return None if ranges is None else Networks(ranges)


def _redirect(route: RouteConfig) -> Redirect | None:
    said = route.redirect
    if said is None:
        return None
    scheme, host, path = (None if text is None else text.encode() for text in (said.scheme, said.host, said.path))
    return Redirect(said.status, scheme, host, path)


def _respond(route: RouteConfig) -> tuple[int, list[tuple[str, str]], bytes] | None:
    said = route.respond
    return None if said is None else own_answer(said.status, said.headers, said.text.encode())


def _rewrite(route: RouteConfig) -> Rewrite | None:
    prefix = (route.path or "").removesuffix("/").encode()
    if route.strip_prefix:
        return Rewrite(prefix, b"")
    if route.rewrite is None:
        return None
    if route.rewrite.path is not None:
        return Rewrite(prefix, route.rewrite.path.encode(), whole=True)
    return Rewrite(prefix, (route.rewrite.prefix or "").removesuffix("/").encode())


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
        _networks(route.allow),
        _networks(route.deny),
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
