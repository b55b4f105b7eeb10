"""Changes of the configuration in use by scripts: a merge patch of it, a backend that comes, a backend that goes.

Each edits the text that the file holds, and is then a reload like any other: checked, applied by all workers, written at once or
not at all. If-Match guards against somebody else's change.
"""

from __future__ import annotations

import json
from typing import Any, Final

from flask import Response, request

from smartedge.admin.named import NamedBackend, check_service, find_backend
from smartedge.admin.page import answer, read_body, read_json
from smartedge.admin.reloading import asked_of, reload_edge, split_body
from smartedge.admin.written import CannotPersist, text_in_use
from smartedge.balancer.errors import ClientError
from smartedge.balancer.spec import DEFAULT_SERVICE
from smartedge.edge.edge import Edge

MERGE_PATCH: Final = frozenset(("application/merge-patch+json", "application/json", ""))


def patch(edge: Edge) -> Response:
    """Change the configuration in use by a JSON merge patch (RFC 7396): null takes a key away, a list is replaced whole."""
    if request.mimetype not in MERGE_PATCH:
        raise ClientError("Send a merge patch as application/merge-patch+json (RFC 7396).")
    body, said = split_body(read_body())
    changes = _object(body, "a JSON object with the keys to be changed")
    asked, require_all = asked_of(said, has_body=True)
    document = _written(edge)
    text = laid_out(merged(document, changes), edge)
    result = reload_edge(edge, text, request.headers.get("If-Match") or _now(edge), asked, require_all=require_all)
    return answer(result.status, result.document, ETag=f'"{edge.etag}"')


def add_backend(edge: Edge, service: str | None) -> Response:
    """Add the backend that the body says to a service."""
    name = _service(edge, service)
    body, said = split_body(read_json("the backend"))
    entry = (
        json.loads(body) if body.strip().startswith(b'"') else _object(body, 'a backend, such as {"url": "http://10.0.0.1:80"}')
    )
    document = _written(edge)
    place = _place(document, name)
    place["backends"] = [*place.get("backends", ()), entry]
    return _reloaded(edge, document, said, 201)


def remove_backend(edge: Edge, backend_id: str, service: str | None) -> Response:
    """Take a backend out of a service: it drains, as after any reload without it."""
    meant: NamedBackend = find_backend(edge, backend_id, service)
    edge.rollouts.refuse_during_trial()
    text, config = text_in_use(edge)
    written = next(one for one in config.all_services() if one.name == meant.service)
    index = next((place for place, one in enumerate(written.config.backends) if one.id == meant.id), None)
    if index is None:
        raise CannotPersist("The backend does not stand in the configuration: it was discovered, or is one address of a name.")
    document = json.loads(text)
    listed = _place(document, meant.service).get("backends")
    if not isinstance(listed, list) or len(listed) != len(written.config.backends):
        raise CannotPersist("The backend does not come from the configuration's file. Nothing has changed.")
    del listed[index]
    return _reloaded(edge, document, {}, 200)


def merged(target: Any, changes: Any) -> Any:
    """Apply a merge patch (RFC 7396 section 2)."""
    if not isinstance(changes, dict):
        return changes
    found = dict(target) if isinstance(target, dict) else {}
    for key, value in changes.items():
        if value is None:
            found.pop(key, None)
        else:
            found[key] = merged(found.get(key), value)
    return found


def laid_out(document: Any, edge: Edge) -> bytes:
    """Write a configuration as its file is written: over several lines, if it was."""
    lines = b"\n" in (edge.text_in_use() or b"\n").strip()
    return (json.dumps(document, indent=2 if lines else None, ensure_ascii=False) + "\n").encode("utf-8", "surrogatepass")


def _reloaded(edge: Edge, document: Any, said: dict[str, Any], status: int) -> Response:
    asked, require_all = asked_of(said, has_body=True)
    if_match = request.headers.get("If-Match") or _now(edge)
    result = reload_edge(edge, laid_out(document, edge), if_match, asked, require_all=require_all)
    return answer(status if result.status == 200 else result.status, result.document, ETag=f'"{edge.etag}"')


def _written(edge: Edge) -> Any:
    edge.rollouts.refuse_during_trial()  # the file has not got it yet
    return json.loads(text_in_use(edge)[0])


def _now(edge: Edge) -> str:
    """What was read is what is changed: another change that came between refuses this one."""
    return f'"{edge.etag}"'


def _service(edge: Edge, service: str | None) -> str:
    if service is not None:
        check_service(edge, service)
        return service
    if len(edge.services) > 1:
        raise ClientError(f"Say which service: POST /smartedge/services/NAME/backends, one of {', '.join(edge.services)}.")
    return next(iter(edge.services))


def _place(document: Any, service: str) -> dict[str, Any]:
    """Return the object in the text that has a service's backends."""
    place: Any = document if service == DEFAULT_SERVICE and "backends" in document else document.get("services", {}).get(service)
    if place is None and service == DEFAULT_SERVICE:
        place = document
    if not isinstance(place, dict):
        raise CannotPersist("The service does not come from the configuration's file. Nothing has changed.")
    return place


def _object(body: bytes, what: str) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ClientError(f"The body must be {what}.")
    return found
