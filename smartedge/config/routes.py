"""The section `routes` of `backends.json`: which requests go to which service, and what happens to them on the way.

A frozen model each, with every key's type, bounds, default, description; `problems` finds what is wrong between them.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection, Iterator
from typing import Annotated

from pydantic import AfterValidator, Field, ValidationError, ValidationInfo, field_validator

from smartedge.config import route_values, values
from smartedge.config.problems import Finding
from smartedge.config.route_sections import (
    BasicAuthConfig,
    FieldConditions,
    ForwardAuthConfig,
    HeaderNames,
    HeaderValues,
    Hosts,
    Methods,
    MirrorConfig,
    Networks,
    Pages,
    Path,
    QueryConditions,
    RedirectConfig,
    RespondConfig,
    RewriteConfig,
    RouteRetryConfig,
    RouteTimeoutsConfig,
    Weights,
)
from smartedge.config.section import Label, Section
from smartedge.config.sections import RateLimitConfig


class RouteConfig(Section):
    """Which requests, where to, and what happens on the way. Exactly one of `to`, `redirect` and `respond` stands in each."""

    id: Label = ""
    """Name in status, log and URLs; by default made of host and path, `shop.example-api`."""
    host: Hosts | None = None
    """Host that was asked for, or a list; `*.shop.example` is every name below; null is any."""
    path: Path | None = None
    """Path that begins so, by whole segments: `/api` is `/api` and `/api/users`, not `/apis`; null is any."""
    path_exact: Path | None = None
    """Path that is just this."""
    path_regex: Annotated[str, AfterValidator(route_values.regex)] | None = None
    """Path, decoded, in which this regular expression is found, besides the other two: `[.]php$`, `^/(img|css)/`."""
    method: Methods | None = None
    """Method, or a list."""
    header: Annotated[FieldConditions, Field(json_schema_extra={"default": {}})] = ()
    """Fields that it has: `{"X-Beta": "1"}`, or with a regular expression, `{"User-Agent": "~iPhone|Android"}`."""
    query: Annotated[QueryConditions, Field(json_schema_extra={"default": {}})] = ()
    """Parameters of its query, in the same way."""
    client: Networks | None = None
    """CIDR ranges that its client's address is in."""

    to: Weights | None = None
    """The service, or services and their weights: `{"web": 95, "beta": 5}`."""
    split_by: Annotated[str, AfterValidator(route_values.split_by)] | None = None
    """`client`, `header:NAME` or `cookie:NAME`, by which a person stays on one side of weights; null decides each request."""
    redirect: RedirectConfig | None = None
    """Clients are sent elsewhere."""
    respond: RespondConfig | None = None
    """The edge answers."""

    strip_prefix: bool = False
    """The backend sees the path without the route's `path`."""
    rewrite: RewriteConfig | None = None
    """The backend sees another prefix or path; a text is short for a prefix with `path`, for a path with `path_exact`."""
    set_headers: Annotated[HeaderValues, Field(json_schema_extra={"default": {}})] = ()
    """Fields of the request, in place of those of their names; values may name {host}, {client}, {request_id} and {service}.
    A Host counts before `preserve_host`."""
    add_headers: Annotated[HeaderValues, Field(json_schema_extra={"default": {}})] = ()
    """Fields of the request, beside those of their names."""
    remove_headers: HeaderNames = ()
    """Names of fields that the backend does not get."""
    set_answer_headers: Annotated[HeaderValues, Field(json_schema_extra={"default": {}})] = ()
    """Fields of the answer, in place of those of their names."""
    add_answer_headers: Annotated[HeaderValues, Field(json_schema_extra={"default": {}})] = ()
    """Fields of the answer, beside those of their names."""
    remove_answer_headers: HeaderNames = ()
    """Names of fields that the client does not get."""

    timeouts: RouteTimeoutsConfig | None = None
    """How long the edge waits."""
    retry: RouteRetryConfig | None = None
    """When a request is tried again."""
    body_bytes: Annotated[int, Field(ge=0, le=1 << 62)] | None = None
    """Largest request body; beyond it 413. null is `limits.body_bytes`."""
    rate_limit: RateLimitConfig | None = None
    """How often one client may ask this route, besides the limit for all."""
    allow: Networks | None = None
    """CIDR ranges of clients that may; all others get 403."""
    deny: Networks | None = None
    """CIDR ranges of clients that may not, even where `allow` has them; they get 403."""
    basic_auth: BasicAuthConfig | None = None
    """A password is asked for."""
    forward_auth: ForwardAuthConfig | None = None
    """Somebody else is asked."""
    error_pages: Annotated[Pages, Field(json_schema_extra={"default": {}})] = ()
    """Files with HTML for the edge's own errors, where the client takes HTML: `{"5xx": "sorry.html"}`."""
    mirror: MirrorConfig | None = None
    """A copy goes to another service."""

    @field_validator("path_exact")
    @classmethod
    def _one_path(cls, path_exact: str | None, info: ValidationInfo) -> str | None:
        if path_exact is not None and info.data.get("path") is not None:
            raise ValueError("must not stand beside path")
        return path_exact

    @field_validator("redirect")
    @classmethod
    def _somewhere(cls, redirect: RedirectConfig | None) -> RedirectConfig | None:
        if redirect and redirect.scheme is redirect.host is redirect.path is None:
            raise ValueError("needs a scheme, host or path, or clients come back for ever")
        return redirect

    @field_validator("split_by")
    @classmethod
    def _with_weights(cls, split_by: str | None, info: ValidationInfo) -> str | None:
        to = info.data.get("to", "wrong in itself")
        if split_by is not None and (to is None or len(to) < 2):
            raise ValueError("needs several services in to")
        return split_by

    @field_validator("rewrite", mode="before")
    @classmethod
    def _short_rewrite(cls, value: object, info: ValidationInfo) -> object:
        if isinstance(value, str):
            return {"path" if info.data.get("path_exact") is not None else "prefix": value}
        return value

    @field_validator("strip_prefix", "rewrite")
    @classmethod
    def _with_path(cls, value: object, info: ValidationInfo) -> object:
        is_prefix = value is True or (isinstance(value, RewriteConfig) and value.prefix is not None)
        if is_prefix and info.data.get("path", "wrong in itself") is None:
            raise ValueError("needs a path, whose place it takes")
        if isinstance(value, RewriteConfig) and info.data.get("strip_prefix"):
            raise ValueError("must not stand beside strip_prefix")
        return value

    @field_validator("add_headers", "remove_headers")
    @classmethod
    def _one_host(cls, fields: tuple[str | tuple[str, str], ...]) -> tuple[str | tuple[str, str], ...]:
        names = (one if isinstance(one, str) else one[0] for one in fields)
        if any(name.lower() == "host" for name in names):
            raise ValueError("must not have Host, of which a request has exactly one: write set_headers")
        return fields

    @field_validator("strip_prefix", "rewrite", "timeouts", "retry", "mirror", "set_headers", "add_headers", "remove_headers")
    @classmethod
    def _only_for_backends(cls, value: object, info: ValidationInfo) -> object:
        own = next((key for key in ("redirect", "respond") if info.data.get(key) is not None), None)
        if value and own is not None:
            raise ValueError(f"says nothing beside {own}, as no backend gets the request")
        return value

    @property
    def services(self) -> tuple[str, ...]:
        """The services that requests of this route go to, copies included."""
        names = [name for name, _ in self.to or ()]
        return (*names, self.mirror.to) if self.mirror else tuple(names)


def with_ids(routes: tuple[RouteConfig, ...]) -> tuple[RouteConfig, ...]:
    """Give each route an id: one that was not written is made of host and path, and of a number where that is taken."""
    taken = {route.id for route in routes if route.id}
    named = []
    for number, route in enumerate(routes, 1):
        if not route.id:
            text = (route.host[0].replace("*", "any") if route.host else "") + (route.path or route.path_exact or "")
            name = "-".join(re.findall(r"[A-Za-z0-9._-]+", text)).strip("-")[:55] or f"route-{number}"
            label, again = name, 1
            while label in taken or label == "none":
                again += 1
                label = f"{name}-{again}"
            taken.add(label)
            route = route.model_copy(update={"id": label})
        named.append(route)
    return tuple(named)


def problems(entries: object, services: Collection[str]) -> Iterator[Finding]:
    """Find what is wrong between the routes of a document, and with their services; what is wrong in itself is passed over."""
    if not isinstance(entries, list):
        return
    ids: dict[object, int] = {}
    same: dict[object, int] = {}
    for index, entry in enumerate(entries):
        if not isinstance(entry, dict):
            continue
        where = ("routes", index)
        targets = [key for key in ("to", "redirect", "respond") if entry.get(key) is not None]
        if len(targets) != 1:
            said = f"has {' and '.join(targets)}; only one of them may be there" if targets else "says nowhere where requests go"
            yield where, f'{said}: write "to", "redirect" or "respond"'
        label = entry.get("id")
        if isinstance(label, str) and label and ids.setdefault(label, index) != index:
            yield (*where, "id"), f"{values.shown(label)} is already the id of routes[{ids[label]}]"
        for steps, name in _targets(entry):
            if name not in services:
                there_are = ", ".join(sorted(services)) or "none"
                yield (*where, *steps), f"names {values.shown(name)}, which is no service; there are: {there_are}"
        try:
            route = RouteConfig.model_validate(entry)
        except ValidationError:
            continue
        for host in route.host or ("",):
            before = same.setdefault((host, *condition_of(route)), index)
            if before != index:
                of_host = f" for {host}" if host else ""
                yield where, f"matches just the requests{of_host} that routes[{before}] takes, so that it never gets one"
                break


def _targets(entry: dict[str, object]) -> Iterator[tuple[tuple[str, ...], str]]:
    """Give the services that a route names, and where, whatever else is wrong with it."""
    to, mirror = entry.get("to"), entry.get("mirror")
    copied = mirror.get("to") if isinstance(mirror, dict) else mirror
    found: list[tuple[tuple[str, ...], object]] = (
        [(("to", name), name) for name in to] if isinstance(to, dict) else [(("to",), to)]
    )
    found.append((("mirror", "to") if isinstance(mirror, dict) else ("mirror",), copied))
    for steps, name in found:
        with contextlib.suppress(ValueError):  # a name that none can have is said by the route itself
            yield steps, route_values.service_name(name)


def condition_of(route: RouteConfig) -> tuple[object, ...]:
    """What a route asks of a request besides its host: two that are equal match the same."""
    path = route.path_exact if route.path_exact is not None else (route.path or "/").removesuffix("/")
    header = frozenset((name.lower(), text) for name, text in route.header)
    return (
        path,
        route.path_exact is not None,
        route.path_regex,
        frozenset[str](route.method or ()),
        header,
        frozenset(route.query),
        frozenset[str](route.client or ()),
    )


def unused_services(routes: Collection[RouteConfig], services: Collection[str]) -> list[str]:
    """Give the services that no route names, in order; without routes there is nothing to name them."""
    named = {name for route in routes for name in route.services}
    return [name for name in services if name not in named] if routes else []
