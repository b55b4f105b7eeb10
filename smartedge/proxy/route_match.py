"""What one route asks of a request, and why a request does not fit it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from urllib.parse import unquote_to_bytes

from smartedge.http.forwarded import IsTrusted, told
from smartedge.http.request import Request
from smartedge.proxy.networks import Networks

Wanted = bytes | re.Pattern[bytes]
"""What a value has to be: just this, or something that a regular expression finds a place in."""

ClientOf = Callable[[Request], bytes]
"""Gives the client's address as text, the one that trusted proxies tell among them."""


@dataclass(frozen=True, slots=True)
class RouteMatch:
    """What a route asks of a request; made at reload, asked by the `RouteTable` that the route is in.

    hosts: in normal form, `*.` before a name for all names below; none for any. path: in normal form, a prefix without its last
    slash. exact: the whole path is that. methods: none for any; in capitals, as many a backend reads them whatever came.
    headers: by lower-case name. clients: None for any. is_trusted: as in `Hop`. path_regex: found somewhere in the
    path, decoded.
    """

    hosts: tuple[bytes, ...] = ()
    path: bytes = b""
    exact: bool = False
    methods: frozenset[bytes] = frozenset()
    headers: tuple[tuple[bytes, Wanted], ...] = ()
    query: tuple[tuple[bytes, Wanted], ...] = ()
    clients: Networks | None = None
    is_trusted: IsTrusted = field(default=None, compare=False)
    path_regex: re.Pattern[bytes] | None = None
    asks_more: bool = field(init=False)
    """Whether more is asked than host and path."""

    def __post_init__(self) -> None:
        more = bool(self.methods or self.headers or self.query or self.clients is not None or self.path_regex is not None)
        object.__setattr__(self, "asks_more", more)

    @property
    def rank(self) -> tuple[int, ...]:
        """What goes first among matches of the same host and path, the smaller: regex, method, more headers, query, client."""
        return self.path_regex is None, not self.methods, -len(self.headers), -len(self.query), self.clients is None

    def fits(self, request: Request, path: bytes, client_of: ClientOf) -> bool:
        """Whether a request for the right host and path has the rest, too. path: the one of its readings that is asked about."""
        if self.path_regex is not None and self.path_regex.search(_decoded(path)) is None:
            return False
        if self.methods and request.method.upper() not in self.methods:
            return False
        for name, wanted in self.headers:
            if not _is(told(request, name, self.is_trusted), wanted):
                return False
        if self.query and not self._fits_query(request):
            return False
        return self.clients is None or self.clients.holds(client_of(request))

    def _fits_query(self, request: Request) -> bool:
        found = parameters(request)
        return all(_is(found.get(name), wanted) for name, wanted in self.query)

    def lacking(self, request: Request, path: bytes, client_of: ClientOf) -> str | None:
        """Say what a request for the right host and path lacks; None if it fits."""
        if self.path_regex is not None and self.path_regex.search(_decoded(path)) is None:
            return f"the path {_is_not(_decoded(path), self.path_regex)}"
        if self.methods and request.method.upper() not in self.methods:
            return f"the method is {_text(request.method)}, not {' or '.join(map(_text, sorted(self.methods)))}"
        found = parameters(request)
        for kind, conditions, value_of in (
            ("header", self.headers, lambda name: told(request, name, self.is_trusted)),
            ("parameter", self.query, found.get),
        ):
            for name, wanted in conditions:
                value = value_of(name)
                if not _is(value, wanted):
                    return f"the {kind} {_text(name)} {_is_not(value, wanted)}"
        if self.clients is not None and not self.clients.holds(client := client_of(request)):
            return f"the client {_text(client)} is not in {self.clients}"
        return None

    def implies(self, other: RouteMatch) -> bool:
        """Whether every request for the right host and path that fits this one is known to fit the other."""
        return (
            other.path_regex in (None, self.path_regex)
            and (not other.methods or (bool(self.methods) and self.methods <= other.methods))
            and set(other.headers) <= set(self.headers)
            and set(other.query) <= set(self.query)
            and (other.clients is None or (self.clients is not None and self.clients.is_within(other.clients)))
        )


def parameters(request: Request) -> dict[bytes, bytes]:
    """Read a request's query as forms write it; of a name that comes twice the first counts."""
    query = request.target.partition(b"?")[2]
    return _parameters(query) if query else {}


@lru_cache(maxsize=16)
def _parameters(query: bytes) -> dict[bytes, bytes]:
    """Read a query once for all routes that ask for some. `parse_qsl` takes ten times as long, and of bytes ASCII alone."""
    found: dict[bytes, bytes] = {}
    for pair in query.split(b"&"):
        if pair:
            name, _, value = pair.partition(b"=")
            name = _plain(name)
            if name not in found:
                found[name] = _plain(value)
    return found


def _decoded(path: bytes) -> bytes:
    return unquote_to_bytes(path) if b"%" in path else path


def _plain(text: bytes) -> bytes:
    text = text.replace(b"+", b" ")
    return unquote_to_bytes(text) if b"%" in text else text


def _is(value: bytes | None, wanted: Wanted) -> bool:
    if value is None:
        return False
    return value == wanted if isinstance(wanted, bytes) else wanted.search(value) is not None


def _is_not(value: bytes | None, wanted: Wanted) -> str:
    if value is None:
        return "is missing"
    shown = f'is "{_text(value)}"'
    return (
        f'{shown}, not "{_text(wanted)}"'
        if isinstance(wanted, bytes)
        else f"{shown}, in which ~{_text(wanted.pattern)} is not found"
    )


def _text(value: bytes) -> str:
    text = value.decode("utf-8", "replace")
    return "".join(c if c.isprintable() else "?" for c in text[:100])
