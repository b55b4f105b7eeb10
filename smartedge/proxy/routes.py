"""The table of routes: which one a request takes, and why each other one does not.

The order is that of Kubernetes' Gateway API (HTTPRoute): exact host before wildcard before none; then an exact path before the
longest prefix, by whole segments; then one with a regular expression for the path; then one that names a method; then more
headers; then more of the query, then a client; then the order in the file. A request takes the first route in this order that it
fits in all things, so one that lacks a header falls through to the next. Hosts and paths are found in dictionaries; only the
routes of one host and path are gone through.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from smartedge.balancer.errors import ClientError
from smartedge.http.normal_form import LONGEST_NAME, host_name, is_unusual, readings
from smartedge.http.request import Request
from smartedge.proxy.route import Route
from smartedge.proxy.route_match import ClientOf

ANY = b""
"""Stands for the host of routes that ask for none."""

MOST_HOSTS = 1024
"""Spellings of hosts that are remembered, of no more than LONGEST_SPELLING bytes: with a port, in capitals, below a wildcard."""

LONGEST_SPELLING = 300

_STEPS = ("its host is closer", "its path is closer", "it asks for more", "it comes first in the file")
"""Why one route goes before another that fits, too."""


class Verdict(NamedTuple):
    """What became of one route when one was looked for: why not, or "" for the one that was taken."""

    route: Route
    why_not: str


class _HostRoutes:
    """The routes of one host as the configuration writes it. longest: bytes of the longest prefix."""

    __slots__ = ("exact", "longest", "prefixes")

    def __init__(self, routes: Iterable[Route]) -> None:
        self.exact: dict[bytes, tuple[Route, ...]] = {}
        self.prefixes: dict[bytes, tuple[Route, ...]] = {}
        for route in sorted(routes, key=lambda route: route.match.rank):  # stable: the order of the file comes last
            table = self.exact if route.match.exact else self.prefixes
            table[route.match.path] = (*table.get(route.match.path, ()), route)
        self.longest = max(map(len, self.prefixes), default=0)


_Chain = tuple[_HostRoutes, ...]
"""Whose routes are asked, one after the other: the host's own, those of wildcards, the closest first, those for any host."""


class RouteTable:
    """All routes of a configuration; made at reload, asked by the `Forwarder` for every request. What it says never changes.

    routes: in the order of the file, no two of them alike. client_of: gives a request's client, for routes that ask for one.
    """

    __slots__ = ("_any", "_chains", "_client_of", "_remembered", "_wildcards", "routes")

    def __init__(self, routes: Iterable[Route], client_of: ClientOf) -> None:
        self.routes = tuple(routes)
        self._client_of = client_of
        by_host: dict[bytes, list[Route]] = {ANY: []}
        for route in self.routes:
            for host in route.match.hosts or (ANY,):
                by_host.setdefault(host, []).append(route)
        tables = {host: _HostRoutes(found) for host, found in by_host.items()}
        self._any: _Chain = (tables[ANY],)
        wildcards = {host[1:]: table for host, table in tables.items() if host[:2] == b"*."}
        self._wildcards = {suffix: self._below(suffix, wildcards) for suffix in wildcards}
        self._chains = {
            host: (table, *self._below(host, wildcards)) for host, table in tables.items() if host and host[:2] != b"*."
        }

        self._remembered: dict[bytes | None, _Chain] = {}

    def _below(self, host: bytes, wildcards: dict[bytes, _HostRoutes]) -> _Chain:
        suffixes = [host[i:] for i in range(len(host)) if host[i : i + 1] == b"."]
        return (*(wildcards[suffix] for suffix in suffixes if suffix in wildcards), *self._any)

    def find(self, request: Request) -> Route | None:
        """Give the route that a request takes, None if none fits. Raises ClientError for a path that leads to two of them."""
        host = request.said.host
        chain = self._remembered.get(host)
        if chain is None:
            chain = self._remember(host)
        path = request.target.partition(b"?")[0]
        if not is_unusual(path):
            return self._find(request, chain, path)
        first, *others = readings(path)
        found = self._find(request, chain, first)
        if any(self._find(request, chain, other) is not found for other in others):
            raise ClientError("The path can be read in two ways, which lead to different routes.")
        return found

    def _find(self, request: Request, chain: _Chain, path: bytes) -> Route | None:
        for table in chain:
            if table.exact and (found := table.exact.get(path)) is not None:
                for route in found:
                    if not route.match.asks_more or route.match.fits(request, path, self._client_of):
                        return route
            prefixes, longest, prefix = table.prefixes, table.longest, path
            if len(prefix) > longest:
                prefix = prefix[: prefix.rfind(b"/", 0, longest + 1)]  # a thousand segments are not tried one by one
            while True:
                if (found := prefixes.get(prefix)) is not None:
                    for route in found:
                        if not route.match.asks_more or route.match.fits(request, path, self._client_of):
                            return route
                if not prefix:
                    break
                prefix = prefix[: prefix.rfind(b"/")]
        return None

    def _remember(self, host: bytes | None) -> _Chain:
        chain = self._chain(host)
        if host is None or len(host) <= LONGEST_SPELLING:
            if len(self._remembered) >= MOST_HOSTS:
                self._remembered.clear()
            self._remembered[host] = chain
        return chain

    def _chain(self, host: bytes | None) -> _Chain:
        """Give whose routes are asked for a host that is not written just as in the configuration."""
        name = host_name(host or b"")
        if (chain := self._chains.get(name)) is not None:
            return chain
        if len(name) <= LONGEST_NAME:
            at = name.find(b".", 1)
            while at > 0:
                if (chain := self._wildcards.get(name[at:])) is not None:
                    return chain
                at = name.find(b".", at + 1)
        return self._any

    def knows(self, host: bytes) -> bool:
        """Whether any route may take requests for a host."""
        return self._chain(host) is not self._any or bool(self._any[0].exact or self._any[0].prefixes)

    # ---- for people ----

    def explain(self, request: Request) -> list[Verdict]:
        """Say for each route, in the order of the file, why it is not the one that a request takes; raises what `find` does."""
        taken = self.find(request)
        name = host_name(request.said.host or b"")
        path = readings(request.target.partition(b"?")[0])[0]
        return [Verdict(route, self._why_not(route, request, name, path, taken)) for route in self.routes]

    def _why_not(self, route: Route, request: Request, name: bytes, path: bytes, taken: Route | None) -> str:
        if route is taken:
            return ""
        match = route.match
        if match.hosts and closest(match.hosts, name) is None:
            return f"the host is {_text(name) or 'missing'}, not {' or '.join(map(_text, match.hosts))}"
        if match.exact and path != match.path:
            return f"the path is {_text(path)}, not just {_text(match.path)}"
        if not match.exact and match.path and path != match.path and not path.startswith(match.path + b"/"):
            return f"the path is {_text(path)}, not {_text(match.path)} or below"
        lacking = match.lacking(request, path, self._client_of)
        if lacking is not None:
            return lacking
        assert taken is not None  # this one fits
        ranks = zip(self._rank(taken, name), self._rank(route, name), strict=True)
        step = next(step for step, (ahead, behind) in enumerate(ranks) if ahead != behind)
        return f'"{taken.id}" goes before it: {_STEPS[step]}'

    def _rank(self, route: Route, name: bytes) -> tuple[object, ...]:
        host = closest(route.match.hosts, name) or ANY
        kind = (2, 0) if host == ANY else (1, -len(host)) if host[:1] == b"*" else (0, 0)
        return kind, (not route.match.exact, -len(route.match.path)), route.match.rank, self.routes.index(route)

    def never_taken(self) -> list[tuple[Route, Route]]:
        """Find the routes that no request can take, each with one that takes all of its requests (of one host, at least)."""
        found = []
        by_place: dict[tuple[bytes, bytes, bool], list[Route]] = {}
        for route in sorted(self.routes, key=lambda route: route.match.rank):
            before: list[Route | None] = []
            for host in route.match.hosts or (ANY,):
                place = by_place.setdefault((host, route.match.path, route.match.exact), [])
                before.append(next((other for other in place if route.match.implies(other.match)), None))
                place.append(route)
            first = before[0]
            if first is not None and None not in before:
                found.append((route, first))
        return found


def closest(hosts: Sequence[bytes], name: bytes) -> bytes | None:
    """Give the host of a route that fits a name best; None if none does."""
    if name in hosts:
        return name
    return max(
        (host for host in hosts if host[:2] == b"*." and name.endswith(host[1:]) and len(name) >= len(host)),
        key=len,
        default=None,
    )


def _text(value: bytes) -> str:
    text = value.decode("latin-1")
    return "".join(c if c.isprintable() else "?" for c in text[:100])
