"""What the operator says of a backend: it is put in force, told, and written into the configuration's file if that is wanted.

It is in force in all workers at their next pick, and outlives every reload that does not change the same key of the same
backend.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from smartedge.admin.named import NamedBackend
from smartedge.admin.page import peer
from smartedge.admin.reloading import reload_edge
from smartedge.admin.status import Document
from smartedge.admin.written import CannotPersist, laid_out, text_in_use
from smartedge.balancer.backend import Backend
from smartedge.balancer.spec import DEFAULT_SERVICE, State, name_backend
from smartedge.config.model import ConfigError
from smartedge.config.problems import Step
from smartedge.edge.edge import Edge
from smartedge.edge.operator_will import STATE, WEIGHT

_DEFAULTS: Final[Mapping[str, Any]] = {"state": "enabled", "weight": 1}

_WORDS: Final[Mapping[State, str]] = {
    "enabled": "is enabled",
    "draining": "is draining: no new requests but those of sticky sessions",
    "disabled": "is disabled: no new requests",
}


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
