"""What a route of a configuration asks of a request, and where it sends it: all that `check` and `route` need of one.

Apart from `edge/routes.py`: what stands before a route may ask somebody else, and all that sends requests took a quarter of the
start of such a command.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from smartedge.config.routes import RouteConfig
from smartedge.http.forwarded import IsTrusted
from smartedge.http.own_answer import own_answer
from smartedge.proxy.affinity import key_reader
from smartedge.proxy.networks import Networks
from smartedge.proxy.rewrite import Redirect, Rewrite
from smartedge.proxy.route import Route
from smartedge.proxy.route_match import RouteMatch, Wanted
from smartedge.proxy.routes import RouteTable
from smartedge.proxy.split import Split


def plain_table(written: Iterable[RouteConfig], is_trusted: IsTrusted = None) -> RouteTable:
    """Build the routes as far as they say where a request goes, opening no file: for `check` and `route`."""
    return RouteTable((plain_route(route, is_trusted) for route in written), key_reader("client", is_trusted))


def plain_route(route: RouteConfig, is_trusted: IsTrusted = None) -> Route:
    """Build a route as far as it says where a request goes."""
    return Route(
        route.id,
        match_of(route, is_trusted),
        to=Split(route.to) if route.to else None,
        key_of=key_reader(route.split_by, is_trusted) if route.split_by else None,
        redirect=_redirect(route),
        respond=_respond(route),
        rewrite=_rewrite(route),
    )


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
        networks(route.client),
        is_trusted,
        None if route.path_regex is None else re.compile(route.path_regex.encode()),
    )


def _wanted(text: str) -> Wanted:
    return re.compile(text[1:].encode()) if text.startswith("~") else text.encode()


def networks(ranges: tuple[str, ...] | None) -> Networks | None:
    """Return the ranges as a set of addresses, None where nothing is said of them."""
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
