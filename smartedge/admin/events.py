"""The page of events: what happened, as JSON, or as it happens (server-sent events)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from flask import Response, request

from smartedge.admin.named import refuse_ambiguous
from smartedge.admin.page import READ, Page, answer
from smartedge.balancer.errors import ClientError, EdgeError
from smartedge.edge.edge import Edge
from smartedge.observe.events import RECORDS, Cursor, Document

USUAL_LIMIT = 100
STREAM = "text/event-stream"


class TooManyStreams(EdgeError):
    """So many clients follow the events of this worker that it takes no more."""

    status = 503
    title = "Too many streams"
    blame = "client"


def event_pages(edge: Edge) -> tuple[Page, ...]:
    """Return the page of events."""

    def events() -> Response:
        said = request.args
        wanted = _wanted(edge, said.get("service"), said.get("backend"), _since(said.get("since")))
        if request.accept_mimetypes.best_match(["application/json", STREAM]) == STREAM:
            return _stream(edge, _cursor(said.get("after") or request.headers.get("Last-Event-ID")), wanted)
        after, limit = _cursor(said.get("after")), _limit(said.get("limit", str(USUAL_LIMIT)))
        found: deque[Document] = deque(maxlen=limit)
        place = after or Cursor()
        newest = limit if after is None and not said.keys() & {"service", "backend", "since"} else RECORDS
        for document, cursor in edge.chronicle.events.after(place, newest):
            if after is not None and len(found) == limit:
                break
            place = cursor
            if wanted(document):
                found.append(document)
        return answer(200, {"events": list(found), "cursor": str(place)})

    return (Page("/smartedge/events", READ, False, events),)


def _stream(edge: Edge, after: Cursor | None, wanted: Callable[[Document], bool]) -> Response:
    if edge.chronicle.feed.is_full:
        raise TooManyStreams("This worker has as many streams of events as it takes. Try again later.", retry_after_s=5.0)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}  # nginx would keep it back until there is more
    body: Any = iter(()) if request.method == "HEAD" else edge.chronicle.feed.open_stream(after, wanted)
    return Response(body, 200, headers, content_type=f"{STREAM}; charset=utf-8")


def _wanted(edge: Edge, service: str | None, backend: str | None, since: float) -> Callable[[Document], bool]:
    """Return what says whether an event is asked for: of a service, of a backend (`b2`, `web/b2`, an entry's addresses)."""
    if backend is not None and service is None:
        refuse_ambiguous(edge, backend)
        first, slash, rest = backend.partition("/")
        if slash and first in edge.services:
            service, backend = first, rest

    def wanted(document: Document) -> bool:
        of = document["backend"]
        return (
            document["at"] >= since
            and service in (None, document["service"])
            and (backend is None or (of is not None and (of == backend or of.startswith(f"{backend}/"))))
        )

    return wanted


def _cursor(text: str | None) -> Cursor | None:
    if not text:
        return None
    try:
        return Cursor.parse(text)
    except ValueError as error:
        raise ClientError(f"after must be the cursor of an answer: {error}.") from None


def _limit(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 9 or not 1 <= int(text) <= RECORDS:
        raise ClientError(f"limit must be a whole number from 1 to {RECORDS}.")
    return int(text)


def _since(text: str | None) -> float:
    """Read a Unix time; what is not said is all that there is."""
    try:
        since = float(text or 0.0)
    except ValueError:
        since = -1.0
    if not 0.0 <= since < 1e11:
        raise ClientError("since must be a Unix time in seconds.")
    return since
