"""What the operator wants of single backends while the edge runs: drain, enable, disable, weigh anew.

It is in force in all workers at their next pick, outlives every reload that does not change the same key of the same
backend, and is written to the configuration's file only on request.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from flask import Response, request

from smartedge.admin.edit import add_backend, remove_backend
from smartedge.admin.named import NamedBackend, check_service, find_backend
from smartedge.admin.page import READ, WRITE, Page, answer, peer, read_flag, read_json
from smartedge.admin.reloading import reload_edge
from smartedge.admin.status import Document, read_services, service_document
from smartedge.admin.written import CannotPersist, laid_out, text_in_use
from smartedge.balancer.backend import Backend
from smartedge.balancer.errors import ClientError, EdgeError
from smartedge.balancer.spec import DEFAULT_SERVICE, State, name_backend
from smartedge.config.model import ConfigError
from smartedge.config.problems import Step
from smartedge.edge.edge import Edge
from smartedge.edge.operator_will import STATE, WEIGHT

STATE_OF: Final[Mapping[str, State]] = {"drain": "draining", "enable": "enabled", "disable": "disabled"}
MOST_WEIGHT: Final = 1000

_DRAIN_MESSAGES: Final = {
    True: "draining: /health answers 503, requests are served as before; POST /smartedge/enable takes it back",
    False: "enabled: /health tells again whether a backend can serve",
}


class UnknownAction(EdgeError):
    """There is nothing of that name to be done with a backend."""

    status = 404
    title = "Not found"
    blame = "client"


def operator_pages(edge: Edge) -> tuple[Page, ...]:
    """Return the pages below /smartedge/services, and those of backends below /smartedge/backends, where an id is enough."""

    def services() -> Response:
        seen = etag()  # first: one that is older than the document is refused in If-Match, one that is newer would not be
        found = {one.written.name: service_document(edge, one) for one in read_services(edge)}
        return answer(200, {"generation": edge.generation, "services": found}, ETag=seen)

    def service(service: str) -> Response:
        seen = etag()
        check_service(edge, service)
        return answer(200, service_document(edge, *read_services(edge, service)), ETag=seen)

    def backends(service: str | None = None) -> Response:
        if request.method == "POST":
            return add_backend(edge, service)
        seen = etag()
        if service is not None:
            check_service(edge, service)
        found = [one for reading in read_services(edge, service) for one in service_document(edge, reading)["backends"]]
        return answer(200, {"generation": edge.generation, "backends": found}, ETag=seen)

    def backend(backend_id: str, service: str | None = None) -> Response:
        if request.method == "DELETE":
            return remove_backend(edge, backend_id, service)
        seen = etag()
        meant = find_backend(edge, backend_id, service)
        ids = [backend.id for backend in meant.backends]
        (reading,) = read_services(edge, meant.service)
        found = [one for one in service_document(edge, reading)["backends"] if one["id"] in ids]
        if ids == [meant.id]:
            return answer(200, found[0], ETag=seen)
        in_flight = sum(one["in_flight"] for one in found)
        document = {"service": meant.service, "id": meant.id, "in_flight": in_flight, "backends": found}
        return answer(200, document, ETag=seen)

    def operate(backend_id: str, action: str, service: str | None = None) -> Response:
        if action != "weight" and action not in STATE_OF:
            raise UnknownAction(f'A backend can be sent {", ".join(STATE_OF)} or weight, not "{action[:100]}".')
        meant = find_backend(edge, backend_id, service)
        wanted = _wanted(action)
        how = {"persist": wanted["persist"], "if_match": request.headers.get("If-Match")}
        if action == "weight":
            document = weigh(edge, meant, wanted["weight"], **how)
        else:
            document = direct(edge, meant, STATE_OF[action], **how)
        return answer(200, document, ETag=etag())

    def backend_address(backend_id: str, address: str, service: str | None = None) -> Response:
        return backend(f"{backend_id}/{address}", service)

    def operate_address(backend_id: str, address: str, action: str, service: str | None = None) -> Response:
        return operate(f"{backend_id}/{address}", action, service)

    def etag() -> str:
        return f'"{edge.etag}"'

    return (
        Page("/smartedge/services", READ, False, services),
        Page("/smartedge/services/<service>", READ, False, service),
        *(
            page
            for below in ("/smartedge/backends", "/smartedge/services/<service>/backends")
            for page in (
                Page(below, (*READ, "POST"), False, backends),
                Page(f"{below}/<backend_id>", (*READ, "DELETE"), False, backend),
                Page(f"{below}/<backend_id>/<ip:address>", READ, False, backend_address),
                Page(f"{below}/<backend_id>/<action>", WRITE, False, operate),
                Page(f"{below}/<backend_id>/<ip:address>/<action>", WRITE, False, operate_address),
            )
        ),
    )


def drain_pages(edge: Edge) -> tuple[Page, ...]:
    """Return the pages that drain the whole edge, all its workers, and enable it again."""

    def drain() -> Response:
        return _set_draining(edge, draining=True)

    def enable() -> Response:
        return _set_draining(edge, draining=False)

    return Page("/smartedge/drain", WRITE, False, drain), Page("/smartedge/enable", WRITE, False, enable)


def _set_draining(edge: Edge, *, draining: bool) -> Response:
    everywhere = read_flag("all")
    edge.drain(draining, everywhere=everywhere)
    edge.announcer.edge_drained(draining, peer(), everywhere=everywhere)
    document = {"draining": edge.draining, "all": everywhere}
    return answer(200, document | {"message": ("all nodes are " if everywhere else "") + _DRAIN_MESSAGES[draining]})


def direct(edge: Edge, meant: NamedBackend, state: State, *, persist: bool = False, if_match: str | None = None) -> Document:
    """Drain, enable or disable a backend; return what has become of it.

    Raises UnknownBackend, CannotPersist and, to persist, what a reload raises.
    """
    before = _standing(meant.backends)
    if persist:
        _write(edge, meant, {"state": state}, if_match)
    if edge.cluster is not None:
        written = all(backend.spec.state == state for backend in meant.backends)
        edge.cluster.say_of_backend(meant.service, meant.id, STATE, None if written else state)
    meant.pool.set_state(meant.id, state)
    if before["state"] != state:
        edge.announcer.state_changed(meant.service, meant.id, before["state"], state, peer())
    return _report(edge, meant, before, _WORDS[state], persisted=persist)


def weigh(edge: Edge, meant: NamedBackend, weight: int | None, *, persist: bool = False, if_match: str | None = None) -> Document:
    """Give a backend another weight, None for the file's; as `direct`."""
    before = _standing(meant.backends)
    if persist and weight is not None:
        _write(edge, meant, {"weight": weight}, if_match)
    if edge.cluster is not None:
        edge.cluster.say_of_backend(meant.service, meant.id, WEIGHT, weight)
    meant.pool.set_weight(meant.id, weight)
    weight = meant.backends[0].full_weight
    if before["weight"] != weight:
        edge.announcer.weight_changed(meant.service, meant.id, before["weight"], weight, peer())
    words = f"has weight {weight}" if weight else "has weight 0: no new requests but those of sticky sessions"
    return _report(edge, meant, before, words, persisted=persist)


def edited(text: bytes, steps: Sequence[Step], changes: Mapping[str, Any]) -> bytes:
    """Return the configuration's text with keys of one backend changed; what is the default is left out.

    steps: where the backend stands. The text is laid out anew, over several lines if it was before. Raises LookupError if there
    is no such backend.
    """
    document = json.loads(text)
    *way, index = steps
    listed = _at(document, way)
    entry = listed[index]
    entry = {"url": entry} if isinstance(entry, str) else dict(entry)
    for key, value in changes.items():
        if value == _DEFAULTS[key]:
            entry.pop(key, None)
        else:
            entry[key] = value
    listed[index] = entry["url"] if entry.keys() == {"url"} else entry
    return laid_out(document, text)


def _at(document: Any, steps: Iterable[Step]) -> Any:
    for step in steps:
        document = document[step]
    return document


_DEFAULTS: Final[Mapping[str, Any]] = {"state": "enabled", "weight": 1}

_WORDS: Final[Mapping[State, str]] = {
    "enabled": "is enabled",
    "draining": "is draining: no new requests but those of sticky sessions",
    "disabled": "is disabled: no new requests",
}


def _write(edge: Edge, meant: NamedBackend, changes: Mapping[str, Any], if_match: str | None) -> None:
    """Have the file say it too, by a reload like any other."""
    text, config = text_in_use(edge)
    written = next(one for one in config.all_services() if one.name == meant.service)
    index = next((place for place, backend in enumerate(written.config.backends) if backend.id == meant.id), None)
    if index is None:
        label = meant.id.partition("/")[0]
        if all(backend.id != label for backend in written.config.backends):
            raise CannotPersist("The backend was discovered, so its source would have to say it. Nothing has changed.")
        entry = name_backend(meant.service, label)
        raise CannotPersist(f"The file knows no single addresses; it can be said of all of {entry}. Nothing has changed.")
    steps = (*written.steps, "backends", index)
    wanted = config.model_dump(mode="json")
    try:
        _at(wanted, steps).update(changes)
        new = edited(text, steps, changes)
        said = edge.origin.parse_text(new).model_dump(mode="json")
    except (LookupError, TypeError, ConfigError):
        said = None
    if said != wanted:
        raise CannotPersist("The backend does not come from the configuration's file. Nothing has changed.")
    reload_edge(edge, new, if_match or f'"{edge.etag}"')


def _standing(backends: Sequence[Backend]) -> Document:
    """Return what the operator wants of a backend, or of all addresses of one: null where they differ."""
    states, weights = {backend.state for backend in backends}, {backend.full_weight for backend in backends}
    state = states.pop() if len(states) == 1 else None
    weight = weights.pop() if len(weights) == 1 else None
    return {"state": state, "will": state, "weight": weight}  # will: what it was called before; goes with the next release


def _report(edge: Edge, meant: NamedBackend, before: Document, words: str, *, persisted: bool) -> Document:
    none_left = not meant.pool.candidates(edge.now())  # first: this brings the weights up to date
    backends = meant.backends
    after = _standing(backends)
    in_flight = sum(backend.in_flight() for backend in backends)
    who = meant.name if len(backends) == 1 else f"{meant.name} ({len(backends)} addresses)"
    message = f"{who} {words}; {in_flight} in flight"
    if after == before:
        message += "; unchanged"
    document = {
        "service": meant.service,
        "id": meant.id,
        "url": backends[0].url,
        "changed": after != before,
        "before": before,
        "after": after | {"effective_weight": round(backends[0].weight, 3)},
        "in_flight": in_flight,
        "persisted": persisted,
        "generation": edge.generation,
        "warning": f"No backend{_of(meant)} is left that may be picked: requests are answered with 503." if none_left else None,
        "message": message,
    }
    return document if len(backends) == 1 else document | {"backends": [backend.id for backend in backends]}


def _of(meant: NamedBackend) -> str:
    return "" if meant.service == DEFAULT_SERVICE else f" of {meant.service}"


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
    persist = said.get("persist") if "persist" in said else read_flag("persist")
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
