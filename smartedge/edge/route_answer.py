"""Which route and service a request would take, and why no other: what `smartedge route` and `GET /smartedge/route` say."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from ipaddress import ip_address
from typing import Any
from urllib.parse import quote

from smartedge.balancer.errors import ClientError
from smartedge.config.values import shown
from smartedge.http.headers import OF_CERTIFICATES, RequestFields
from smartedge.http.request import Request, origin_form
from smartedge.proxy.route import Route
from smartedge.proxy.routes import RouteTable

_FIELD = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t -~\xa0-\xff]*")
_METHOD = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


def made_request(method: str, url: str, headers: Iterable[str] = (), client: str = "127.0.0.1") -> Request:
    """Make a request as a client would send it; raises ValueError with what is wrong with an argument.

    url: with a host, or only a path. headers: `Name: value` each; a Host among them goes before that of the URL.
    """
    if not _METHOD.fullmatch(method):
        raise ValueError(f"{shown(method)} is no method")
    lines = []
    for header in headers:
        if not _FIELD.fullmatch(header):
            raise ValueError(f'{shown(header)} is no header field, such as "X-Beta: 1"')
        lines.append(header)
    try:
        peer = str(ip_address(client))
    except ValueError:
        raise ValueError(f"{shown(client)} is no address") from None
    text = quote(url.partition("#")[0], safe="%/?:@!$&'()*+,;=~-._[]\\\"<>^`{|}")
    try:
        target, authority = origin_form(text.encode(), method.encode())
    except ClientError:
        raise ValueError(f'{shown(url)} is neither a path such as "/api" nor a URL such as "http://shop.example/api"') from None
    if authority is not None and not any(line.lower().startswith("host:") for line in lines):
        lines.insert(0, f"Host: {authority.decode()}")
    block = "".join(f"{line}\r\n" for line in lines).encode("latin-1")
    fields = RequestFields(block)
    said = [line for name, line in fields.forwarded or () if name in OF_CERTIFICATES]
    if said:
        fields = fields.with_certificate(b"".join(said))  # who asks this way knows what certificates clients have
    return Request(method.encode(), target, 11, block, fields, peer.encode(), url.lower().startswith("https://"))


def answer(table: RouteTable, request: Request) -> dict[str, Any]:
    """Say what becomes of a request, as a JSON document.

    route: its id, or None. services: names and weights that it may go to. service: the one that it goes to, None where chance
    decides, or nobody. does: in a few words. routes: each in the order of the file, with why it was not taken, "" for the one.
    """
    try:
        verdicts = table.explain(request)
    except ClientError as error:
        return {"route": None, "service": None, "services": {}, "does": f"400: {error.detail}", "routes": []}
    taken = next((verdict.route for verdict in verdicts if not verdict.why_not), None)
    return {
        "route": None if taken is None else taken.id,
        "service": None if taken is None else _service(taken, request),
        "services": dict(taken.to.weights) if taken is not None and taken.to is not None else {},
        "does": _does(taken, request),
        "routes": [{"route": verdict.route.id, "why_not": verdict.why_not} for verdict in verdicts],
    }


def without_routes(service: str) -> dict[str, Any]:
    """Say the same where there are no routes, and all requests go to one service."""
    does = f"goes to {service}: there are no routes"
    return {"route": None, "service": service, "services": {service: 1}, "does": does, "routes": []}


def _service(route: Route, request: Request) -> str | None:
    if route.to is None or route.to.only is not None:
        return None if route.to is None else route.to.only
    return None if route.key_of is None else route.to.by_key(route.key_of(request) or request.peer)


def _does(route: Route | None, request: Request) -> str:
    if route is None:
        return "404: no route takes it"
    if route.redirect is not None:
        location = route.redirect.location(request, b"https" if request.secure else b"http")
        return f"{route.redirect.status}: is sent to {location.decode('latin-1')}"
    if route.respond is not None:
        return f"{route.respond[0]}: is answered by the edge"
    service = _service(route, request)
    target = request.target if route.rewrite is None else route.rewrite.target(request.target)
    seen = f", as {target.decode('latin-1')}" if target != request.target else ""
    if service is not None:
        return f"goes to {service}{seen}"
    assert route.to is not None
    return f"goes to {' or '.join(f'{name} ({weight})' for name, weight in route.to.weights if weight)}{seen}"


def warnings(table: RouteTable, unused: Sequence[str] = ()) -> list[str]:
    """Say which routes no request can take, and which services none names."""
    never = [f"routes: {one.id} never gets a request, as {other.id} takes all of them" for one, other in table.never_taken()]
    return never + [f"services: {name} gets no request, as no route names it" for name in unused]
