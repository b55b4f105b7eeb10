"""What the operator wants of single backends while the edge runs: drain, enable, disable, weigh anew.

It is in force in all workers at their next pick, outlives every reload that does not change the same key of the same
backend, and is written to the configuration's file only on request.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final

from flask import Response, request

from smartedge.admin.page import READ, WRITE, Page, answer, read_json
from smartedge.admin.status import Document, status_document
from smartedge.balancer.backend import Backend
from smartedge.balancer.errors import ClientError, EdgeError
from smartedge.balancer.spec import State
from smartedge.config.model import Config, ConfigError
from smartedge.edge.edge import Edge

log = logging.getLogger(__name__)

STATE_OF: Final[Mapping[str, State]] = {"drain": "draining", "enable": "enabled", "disable": "disabled"}
MOST_WEIGHT: Final = 1000
MOST_NAMED: Final = 20

_DRAIN_MESSAGES: Final = {
    True: "draining: /health answers 503, requests are served as before; POST /smartedge/enable takes it back",
    False: "enabled: /health tells again whether a backend can serve",
}


class UnknownBackend(EdgeError):
    """There is no backend of that id."""

    status = 404
    title = "Unknown backend"
    blame = "client"


class NotPersisted(EdgeError):
    """The file can't say what was asked for, so nothing has changed."""

    status = 409
    title = "Not persisted"
    blame = "client"


class UnknownAction(EdgeError):
    """There is nothing of that name to be done with a backend."""

    status = 404
    title = "Not found"
    blame = "client"


def operator_pages(edge: Edge) -> tuple[Page, ...]:
    """Return the pages below /smartedge/backends."""

    def backends() -> Response:
        document = status_document(edge)
        return answer(200, {"generation": document["generation"], "backends": document["backends"]}, ETag=etag())

    def backend(backend_id: str) -> Response:
        ids = [backend.id for backend in backends_of(edge, backend_id)]
        found = [one for one in status_document(edge)["backends"] if one["id"] in ids]
        if ids == [backend_id]:
            return answer(200, found[0], ETag=etag())
        in_flight = sum(one["in_flight"] for one in found)
        return answer(200, {"id": backend_id, "in_flight": in_flight, "backends": found}, ETag=etag())

    def operate(backend_id: str, action: str) -> Response:
        if action != "weight" and action not in STATE_OF:
            raise UnknownAction(f'A backend can be sent {", ".join(STATE_OF)} or weight, not "{action[:100]}".')
        backends_of(edge, backend_id)
        wanted = _wanted(action)
        how = {"persist": wanted["persist"], "if_match": request.headers.get("If-Match")}
        if action == "weight":
            document = weigh(edge, backend_id, wanted["weight"], **how)
        else:
            document = direct(edge, backend_id, STATE_OF[action], **how)
        return answer(200, document, ETag=etag())

    def backend_address(backend_id: str, address: str) -> Response:
        return backend(f"{backend_id}/{address}")

    def operate_address(backend_id: str, address: str, action: str) -> Response:
        return operate(f"{backend_id}/{address}", action)

    def etag() -> str:
        return f'"{edge.config.etag}"'

    return (
        Page("/smartedge/backends", READ, False, backends),
        Page("/smartedge/backends/<backend_id>", READ, False, backend),
        Page("/smartedge/backends/<backend_id>/<ip:address>", READ, False, backend_address),
        Page("/smartedge/backends/<backend_id>/<action>", WRITE, False, operate),
        Page("/smartedge/backends/<backend_id>/<ip:address>/<action>", WRITE, False, operate_address),
    )


def drain_pages(edge: Edge) -> tuple[Page, ...]:
    """Return the pages that drain the whole edge, all its workers, and enable it again."""

    def drain() -> Response:
        return _set_draining(edge, draining=True)

    def enable() -> Response:
        return _set_draining(edge, draining=False)

    return Page("/smartedge/drain", WRITE, False, drain), Page("/smartedge/enable", WRITE, False, enable)


def _set_draining(edge: Edge, *, draining: bool) -> Response:
    edge.drain(draining)
    log.warning("edge %s", "draining" if draining else "enabled")
    return answer(200, {"draining": edge.draining, "message": _DRAIN_MESSAGES[draining]})


def backends_of(edge: Edge, backend_id: str) -> Sequence[Backend]:
    """Return the backend of an id, or all addresses of the entry of that id; raises UnknownBackend."""
    if found := edge.pool.backends_of(backend_id):
        return found
    backends = edge.pool.backends
    ids = ", ".join(backend.id for backend in backends[:MOST_NAMED])
    more = f" and {len(backends) - MOST_NAMED} more" if len(backends) > MOST_NAMED else ""
    raise UnknownBackend(f'There is no backend "{backend_id[:100]}". There are: {ids}{more}.')


def direct(edge: Edge, backend_id: str, state: State, *, persist: bool = False, if_match: str | None = None) -> Document:
    """Drain, enable or disable a backend; return what has become of it.

    Raises UnknownBackend, NotPersisted and, to persist, what a reload raises.
    """
    before = _standing(backends_of(edge, backend_id))
    if persist:
        _write(edge, backend_id, {"state": state}, if_match)
    edge.pool.set_state(backend_id, state)
    return _report(edge, backend_id, before, _WORDS[state], persisted=persist)


def weigh(edge: Edge, backend_id: str, weight: int | None, *, persist: bool = False, if_match: str | None = None) -> Document:
    """Give a backend another weight, None for the file's; as `direct`."""
    before = _standing(backends_of(edge, backend_id))
    if persist and weight is not None:
        _write(edge, backend_id, {"weight": weight}, if_match)
    edge.pool.set_weight(backend_id, weight)
    weight = backends_of(edge, backend_id)[0].full_weight
    words = f"has weight {weight}" if weight else "has weight 0: no new requests but those of sticky sessions"
    return _report(edge, backend_id, before, words, persisted=persist)


def edited(text: bytes, index: int, changes: Mapping[str, Any]) -> bytes:
    """Return the configuration's text with keys of one backend changed; what is the default is left out.

    The text is laid out anew, over several lines if it was before. Raises LookupError if there is no such backend.
    """
    document = json.loads(text)
    entry = document["backends"][index]
    entry = {"url": entry} if isinstance(entry, str) else dict(entry)
    for key, value in changes.items():
        if value == _DEFAULTS[key]:
            entry.pop(key, None)
        else:
            entry[key] = value
    document["backends"][index] = entry["url"] if entry.keys() == {"url"} else entry
    lines = b"\n" in text.strip()
    return (json.dumps(document, indent=2 if lines else None, ensure_ascii=False) + "\n").encode()


_DEFAULTS: Final[Mapping[str, Any]] = {"state": "enabled", "weight": 1}

_WORDS: Final[Mapping[State, str]] = {
    "enabled": "is enabled",
    "draining": "is draining: no new requests but those of sticky sessions",
    "disabled": "is disabled: no new requests",
}


def text_in_use(edge: Edge) -> tuple[bytes, Config]:
    """Return what the configuration's file says, and means; raises NotPersisted unless it is what is in use."""
    try:
        text = edge.origin.read_text()
    except OSError as error:
        raise NotPersisted(f"The configuration's file cannot be read: {error.strerror}. Nothing has changed.") from error
    if text is None:
        raise NotPersisted("There is no configuration file to write to. Nothing has changed.")
    config = edge.origin.parse_text(text)
    if config.etag != edge.config.etag:
        raise NotPersisted("The configuration's file has changes that are not in use; reload it first. Nothing has changed.")
    return text, config


def _write(edge: Edge, backend_id: str, changes: Mapping[str, Any], if_match: str | None) -> None:
    """Have the file say it too, by a reload like any other."""
    text, config = text_in_use(edge)
    wanted = config.model_dump(mode="json")
    index = next((place for place, backend in enumerate(config.backends) if backend.id == backend_id), None)
    if index is None:
        entry = backend_id.partition("/")[0]
        raise NotPersisted(f"The file knows no single addresses; it can be said of all of {entry}. Nothing has changed.")
    wanted["backends"][index] |= changes
    try:
        new = edited(text, index, changes)
        said = edge.origin.parse_text(new).model_dump(mode="json")
    except (LookupError, TypeError, ConfigError):
        said = None
    if said != wanted:
        raise NotPersisted("The backend does not come from the configuration's file. Nothing has changed.")
    edge.reload(new, if_match or f'"{config.etag}"')


def _standing(backends: Sequence[Backend]) -> Document:
    """Return what the operator wants of a backend, or of all addresses of one: null where they differ."""
    states, weights = {backend.state for backend in backends}, {backend.full_weight for backend in backends}
    state = states.pop() if len(states) == 1 else None
    weight = weights.pop() if len(weights) == 1 else None
    return {"state": state, "will": state, "weight": weight}  # will: what it was called before; goes with the next release


def _report(edge: Edge, backend_id: str, before: Document, words: str, *, persisted: bool) -> Document:
    none_left = not edge.pool.candidates(edge.now())  # first: this brings the weights up to date
    backends = backends_of(edge, backend_id)
    after = _standing(backends)
    in_flight = sum(backend.in_flight() for backend in backends)
    message = f"{backend_id} {words}; {in_flight} in flight"
    if len(backends) > 1:
        message = f"{backend_id} ({len(backends)} addresses) {words}; {in_flight} in flight"
    if after == before:
        message += "; unchanged"
    document = {
        "id": backend_id,
        "url": backends[0].url,
        "changed": after != before,
        "before": before,
        "after": after | {"effective_weight": round(backends[0].weight, 3)},
        "in_flight": in_flight,
        "persisted": persisted,
        "generation": edge.generation,
        "warning": "No backend is left that may be picked: requests are answered with 503." if none_left else None,
        "message": message,
    }
    return document if len(backends) == 1 else document | {"backends": [backend.id for backend in backends]}


_FLAGS: Final = {"true": True, "1": True, "false": False, "0": False}


def _wanted(action: str) -> dict[str, Any]:
    """Read what the request says: the body, a JSON object that may be missing, and ?persist=true. Raises ClientError."""
    body = read_json("the wish")
    try:
        said = json.loads(body) if body.strip() else {}
    except RecursionError:
        raise ClientError("The body is nested too deeply.") from None
    except ValueError as error:
        raise ClientError(f"The body is not JSON: {error}.") from error
    allowed = {"persist", "weight"} if action == "weight" else {"persist"}
    if not isinstance(said, dict) or not said.keys() <= allowed:
        raise ClientError(f"The body is an object with at most {' and '.join(sorted(allowed))}.")
    persist = said.get("persist", _FLAGS.get(request.args.get("persist", "false")))
    if not isinstance(persist, bool):
        raise ClientError("persist must be true or false.")
    if action != "weight":
        return {"persist": persist}
    if "weight" not in said:
        raise ClientError('The body must say the weight, as {"weight": 3}, or {"weight": null} for that of the file.')
    weight = said["weight"]
    if weight is not None and (type(weight) is not int or not 0 <= weight <= MOST_WEIGHT):
        raise ClientError(f"weight must be a whole number from 0 to {MOST_WEIGHT}, or null for that of the file.")
    return {"persist": persist, "weight": weight}
