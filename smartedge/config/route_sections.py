"""What stands in a route of `backends.json`: the types of its keys, and its own sections, a frozen model each."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    PlainValidator,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)

from smartedge.config import route_values, values
from smartedge.config.section import AS_OBJECT, Listed, Seconds, Section, existing_file

_TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
_WEIGHTS = {"anyOf": [{"type": "string"}, {"type": "object", "additionalProperties": {"type": "integer", "minimum": 0}}]}


def _distinct(items: tuple[str, ...]) -> tuple[str, ...]:
    if not items:
        raise ValueError("must hold at least one")
    return tuple(dict.fromkeys(items))


def _weights_as_written(items: tuple[tuple[str, int], ...]) -> object:
    return items[0][0] if len(items) == 1 and items[0][1] == 1 else dict(items)


def _pages(found: object) -> tuple[tuple[int | str, str], ...]:
    if not isinstance(found, dict):
        raise ValueError(f"must be an object of statuses and files, not {values.shown(found)}")
    pages = []
    for key, file in found.items():
        item = values.status_item(int(key) if key.isdigit() else key)
        if min(values.status_codes([item])) < 400:
            raise ValueError(f"must have statuses from 400 to 599, not {values.shown(key)}")
        if not isinstance(file, str):
            raise ValueError(f"must have the name of a file for {values.shown(key)}, not {values.shown(file)}")
        pages.append((item, existing_file(file)))
    return tuple(pages)


# A text, or a list of such texts: both are a tuple here.
_ONE_OR_MORE = BeforeValidator(route_values.several, json_schema_input_type=str | list[str])
Hosts = Annotated[tuple[Annotated[str, AfterValidator(route_values.host)], ...], _ONE_OR_MORE, Listed, AfterValidator(_distinct)]
Methods = Annotated[
    tuple[Annotated[str, AfterValidator(route_values.method)], ...], _ONE_OR_MORE, Listed, AfterValidator(_distinct)
]
Networks = Annotated[tuple[Annotated[str, AfterValidator(values.network)], ...], _ONE_OR_MORE, Listed, AfterValidator(_distinct)]
Path = Annotated[str, AfterValidator(route_values.path)]
NewPath = Annotated[str, AfterValidator(route_values.new_path)]
FieldConditions = Annotated[
    tuple[tuple[str, str], ...],
    PlainValidator(route_values.conditions("field")),
    AS_OBJECT,
    WithJsonSchema(_TEXTS),
]
QueryConditions = Annotated[
    tuple[tuple[str, str], ...],
    PlainValidator(route_values.conditions("query")),
    AS_OBJECT,
    WithJsonSchema(_TEXTS),
]
HeaderValues = Annotated[
    tuple[tuple[str, str], ...], PlainValidator(route_values.header_values), AS_OBJECT, WithJsonSchema(_TEXTS)
]
HeaderNames = Annotated[tuple[Annotated[str, AfterValidator(route_values.header_name)], ...], Listed]
ServiceName = Annotated[str, AfterValidator(route_values.service_name)]
Weights = Annotated[
    tuple[tuple[str, int], ...],
    PlainValidator(route_values.weights),
    PlainSerializer(_weights_as_written),
    WithJsonSchema(_WEIGHTS),
]
Pages = Annotated[tuple[tuple[int | str, str], ...], PlainValidator(_pages), AS_OBJECT, WithJsonSchema(_TEXTS)]


class RewriteConfig(Section):
    """Which path a backend sees instead of the one that came; the query stays."""

    prefix: NewPath | None = None
    """Stands in for the route's `path`; what comes behind it stays."""
    path: NewPath | None = None
    """Stands in for the whole path."""

    @field_validator("path")
    @classmethod
    def _one(cls, path: str | None, info: ValidationInfo) -> str | None:
        if path is not None and info.data.get("prefix") is not None:
            raise ValueError("must not stand beside prefix")
        return path


class RedirectConfig(Section):
    """Where clients are sent; what is not said stays as they asked for it, the query always does."""

    scheme: Literal["http", "https"] | None = None
    """`https` for all who came by http."""
    host: Annotated[str, AfterValidator(route_values.authority)] | None = None
    """Another host, perhaps with a port; without one it is the port of the scheme, whatever port they came by."""
    path: NewPath | None = None
    """Another path."""
    status: Literal[301, 302, 303, 307, 308] = 302
    """301 and 308 are for good, browsers keep them; 307 and 308 have the method kept."""


class RespondConfig(Section):
    """An answer of the edge's own, such as a page about maintenance."""

    status: Annotated[int, Field(ge=200, le=599)] = 200
    """Its status."""
    text: Annotated[str, AfterValidator(route_values.body_text)] = ""
    """Its body; plain text, unless `headers` say otherwise."""
    headers: Annotated[HeaderValues, Field(json_schema_extra={"default": {}})] = ()
    """Its fields, such as `{"Content-Type": "text/html", "Retry-After": "600"}`."""

    @field_validator("text")
    @classmethod
    def _may_be(cls, text: str, info: ValidationInfo) -> str:
        if text and info.data.get("status") in (204, 205, 304):
            raise ValueError(f"must be empty with the status {info.data['status']}, which has no body")
        return text


class RouteTimeoutsConfig(Section):
    """What differs from the service's `timeouts`; null does not."""

    first_byte_s: Seconds | None = None
    """For an answer's first byte once the request is sent."""
    tunnel_idle_s: Seconds | None = None
    """For the next byte either way in a tunnel."""


class RouteRetryConfig(Section):
    """What differs from the service's `retry`; null does not."""

    attempts: Annotated[int, Field(ge=1, le=100)] | None = None
    """Most tries of one request, the first included; 1 never repeats."""
    deadline_s: Seconds | None = None
    """Time for all tries together."""
    statuses: Annotated[tuple[Annotated[int, Field(ge=400, le=599)], ...], Listed] | None = None
    """Answers to try again."""
    body_bytes: Annotated[int, Field(ge=0, le=1 << 30)] | None = None
    """Bytes of a request body kept to be sent again."""


class BasicAuthConfig(Section):
    """A user name and a password are asked for (RFC 7617)."""

    file: Annotated[str, AfterValidator(route_values.password_file)]
    """An htpasswd file, a line `user:hash` each, with bcrypt (`htpasswd -B`) or SHA-crypt (`openssl passwd -6`)."""
    realm: Annotated[str, AfterValidator(values.line)] = "restricted"
    """What the browser says that the password is for."""

    @field_validator("realm")
    @classmethod
    def _quotable(cls, realm: str) -> str:
        if not realm.isascii() or '"' in realm or "\\" in realm or len(realm) > 200:
            raise ValueError(f"must be at most 200 ASCII characters without quotes and backslashes, not {values.shown(realm)}")
        return realm


class ForwardAuthConfig(Section):
    """Somebody else says whether a request may go on: 2xx lets it, any other answer is the client's."""

    url: Annotated[str, AfterValidator(route_values.auth_url)]
    """What is asked, with GET and the request's fields, X-Forwarded-Method and X-Forwarded-Uri."""
    copy_headers: Annotated[HeaderNames, Field(json_schema_extra={"default": []})] = ()
    """Fields of its answer that the backend gets, such as `["X-User"]`; whatever clients send under these names is dropped."""
    timeout_s: Seconds = 5.0
    """Time for its answer; beyond it 504."""


class MirrorConfig(Section):
    """A copy of requests goes to another service, too, and its answer is thrown away."""

    to: ServiceName
    """That service."""
    ratio: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the requests that are copied."""
