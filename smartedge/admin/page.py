"""What all admin pages are made of: a page's path and view, its answer as JSON, its problem, and the body that it was sent."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from itertools import chain, islice
from typing import Any, Final, NamedTuple

from flask import Response, request

from smartedge.admin.json_text import json_pieces
from smartedge.balancer.errors import ClientError, PayloadTooLarge
from smartedge.workers.periodic import Pauses, in_pieces

MAX_BODY_BYTES: Final = 8 * 1024 * 1024

BODY_TYPES: Final = frozenset(("", "application/json", "application/x-www-form-urlencoded"))
"""What JSON may come as; the last is what `curl -d` says unless it is told otherwise."""

READ: Final = ("GET", "HEAD")
WRITE: Final = ("POST",)


PIECE: Final = 20
"""Parts of a document that are written at a stretch, some 0.6 ms if they are backends."""


def peer() -> str:
    """Return who sends the request: the address of the peer, as events name operators."""
    return request.remote_addr or "a unix socket"


class Page(NamedTuple):
    """A path, the methods it knows, whether everybody may see it, and what makes the answer.

    Parts of the path in angle brackets are given to the view by name.
    """

    path: str
    methods: tuple[str, ...]
    public: bool
    view: Callable[..., Response]


class WrongType(ClientError):
    """A body that is not said to be JSON (RFC 9110 section 15.5.16)."""

    status = 415
    title = "Unsupported media type"


def answer(status: int, document: Mapping[str, Any], content_type: str = "application/json", **headers: str) -> Response:
    """Return a document as JSON for people and programs: indented, its letters as they are, never cached."""
    pieces, pause = chain(json_pieces(document), "\n"), Pauses()
    body = []
    while text := "".join(islice(pieces, PIECE)):
        # Half a surrogate pair, from somebody's JSON, goes back as its escape.
        body.append(text.encode("utf-8", "backslashreplace"))
        pause()
    said = {"Cache-Control": "no-store", "Content-Length": str(sum(map(len, body)))} | headers
    return Response(body if len(body) == 1 else in_pieces(body), status, said, content_type=content_type)


def problem(
    status: int,
    title: str,
    detail: str,
    request_id: str,
    errors: object = None,
    headers: Mapping[str, str] | None = None,
    members: Mapping[str, Any] | None = None,
) -> Response:
    """Return an error as problem+json (RFC 9457); errors: an extension member that lists each single one; members: more such."""
    document: dict[str, Any] = {"type": "about:blank", "status": status, "title": title}
    document |= {"detail": detail, "request_id": request_id}
    if errors is not None:
        document["errors"] = errors
    return answer(status, document | dict(members or {}), "application/problem+json", **(headers or {}))


def read_body() -> bytes:
    """Read the request's body, whatever its type. Werkzeug's own limit would cut a body without a length, and say nothing."""
    length = request.content_length
    if length is None and "Transfer-Encoding" not in request.headers:
        return b""
    stream = request.environ["wsgi.input"]
    body: bytes = b"" if (length or 0) > MAX_BODY_BYTES else stream.read(MAX_BODY_BYTES + 1 if length is None else length)
    if len(body) > MAX_BODY_BYTES or (length or 0) > MAX_BODY_BYTES:
        raise PayloadTooLarge(f"A configuration has at most {MAX_BODY_BYTES // 1024**2} MiB.")
    if len(body) < (length or 0):
        raise ClientError("The body broke off.")
    return body


_FLAGS: Final = {"true": True, "1": True, "false": False, "0": False}


def read_flag(name: str) -> bool:
    """Read `?name=true` of the request, false where it is not said. Raises ClientError."""
    said = _FLAGS.get(request.args.get(name, "false"))
    if said is None:
        raise ClientError(f"{name} must be true or false.")
    return said


def object_in(body: bytes, wanted: str) -> dict[str, Any]:
    """Read a body that is a JSON object; raises ClientError with this sentence for any other."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ClientError(wanted)
    return found


def read_json(what: str) -> bytes:
    """Read a body that is JSON, b"" for none; what: it is, for the one who sent something else."""
    body = read_body()
    if body and request.mimetype not in BODY_TYPES:
        raise WrongType(f"Send {what} as application/json.")
    return body
