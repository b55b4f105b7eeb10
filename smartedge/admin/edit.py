"""Changes of the configuration in use by scripts: a merge patch of it, a backend that comes, a backend that goes.

Each edits the text that the file holds, and is then a reload like any other: checked, applied by all workers, written at once or
not at all. If-Match guards against somebody else's change.
"""

from __future__ import annotations

import json
from typing import Any, Final

from flask import Response, request

from smartedge.admin.named import NamedBackend, check_service, find_backend
from smartedge.admin.page import answer, object_in, read_body, read_json
from smartedge.admin.reloading import asked_of, reload_edge, split_body
from smartedge.admin.written import CannotPersist, laid_out, text_in_use
from smartedge.balancer.errors import ClientError
from smartedge.balancer.spec import DEFAULT_SERVICE
from smartedge.config.model import Config
from smartedge.edge.edge import Edge

MERGE_PATCH: Final = frozenset(("application/merge-patch+json", "application/json", ""))


def patch(edge: Edge) -> Response:
    """Change the configuration in use by a JSON merge patch (RFC 7396): null takes a key away, a list is replaced whole."""
    if request.mimetype not in MERGE_PATCH:
        raise ClientError("Send a merge patch as application/merge-patch+json (RFC 7396).")
    body, said = split_body(read_body())
    changes = object_in(body, "The body must be a JSON object with the keys to be changed.")
    text, _ = _written(edge)
    return _reloaded(edge, merged(json.loads(text), changes), text, said)


def add_backend(edge: Edge, service: str | None) -> Response:
    """Add the backend that the body says to a service."""
    name = _service(edge, service)
    body, said = split_body(read_json("the backend"))
    entry = _entry(body)
    text, _ = _written(edge)
    document = json.loads(text)
    place = _place(document, name)
    place["backends"] = [*place.get("backends", ()), entry]
    return _reloaded(edge, document, text, said, done=201)


def remove_backend(edge: Edge, backend_id: str, service: str | None) -> Response:
    """Take a backend out of a service: it drains, as after any reload without it."""
    meant: NamedBackend = find_backend(edge, backend_id, service)
    text, config = _written(edge)
    written = next(one for one in config.all_services() if one.name == meant.service)
    index = next((place for place, one in enumerate(written.config.backends) if one.id == meant.id), None)
    if index is None:
        raise CannotPersist("The backend does not stand in the configuration: it was discovered, or is one address of a name.")
    document = json.loads(text)
    listed = _place(document, meant.service).get("backends")
    if not isinstance(listed, list) or len(listed) != len(written.config.backends):
        raise CannotPersist("The backend does not come from the configuration's file. Nothing has changed.")
    del listed[index]
    return _reloaded(edge, document, text, {})


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


def _written(edge: Edge) -> tuple[bytes, Config]:
    """Return the text to be changed, and what it means; raises CannotPersist, or TrialRunning: the file has not got it yet."""
    edge.rollouts.refuse_during_trial()
    return text_in_use(edge)


def _reloaded(edge: Edge, document: Any, like: bytes, said: dict[str, Any], *, done: int = 200) -> Response:
    """Reload with what was made of a text. What was read is what is changed: a change that came between refuses this one."""
    asked, require_all = asked_of(said, has_body=True)
    if_match = request.headers.get("If-Match") or f'"{edge.etag}"'
    result = reload_edge(edge, laid_out(document, like), if_match, asked, require_all=require_all)
    return answer(done if result.status == 200 else result.status, result.document, ETag=f'"{edge.etag}"')


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


def _entry(body: bytes) -> Any:
    wanted = 'The body must be a backend, such as {"url": "http://10.0.0.1:80"}.'
    if not body.strip().startswith(b'"'):
        return object_in(body, wanted)
    try:
        return json.loads(body)  # a URL alone
    except ValueError:
        raise ClientError(wanted) from None
