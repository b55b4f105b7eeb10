"""What the operator wants of single backends while the edge runs: drain, enable, disable, weigh anew.

It is in force in all workers at their next pick, outlives every reload that does not change the same key of the same
backend, and is written to the configuration's file only on request.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, Protocol

from smartedge.balancer.backend import Backend, Will
from smartedge.balancer.errors import EdgeError
from smartedge.config import Config, ConfigError
from smartedge.control.decisions import Decisions
from smartedge.control.status import Document, Edge

WILL_OF: Final[Mapping[str, Will]] = {"drain": "draining", "enable": "enabled", "disable": "disabled"}
MOST_WEIGHT: Final = 1000
MOST_NAMED: Final = 20


class OperatedEdge(Edge, Protocol):
    """What the admin pages that change or explain something need besides."""

    @property
    def decisions(self) -> Decisions:
        """What was decided about requests."""
        ...

    def drain(self, draining: bool) -> None:
        """Let all workers say that they are draining, and serve on; or take it back."""
        ...

    def config_text(self) -> bytes | None:
        """Return what the configuration's file says now, None if there is none; raises OSError."""
        ...

    def parsed(self, text: bytes) -> Config:
        """Make a Config of a text as a reload would; raises ConfigError."""
        ...


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


def backend_of(edge: Edge, backend_id: str) -> Backend:
    """Return a backend by its id; raises UnknownBackend with the ids that there are."""
    backends = edge.pool.backends
    for backend in backends:
        if backend.id == backend_id:
            return backend
    ids = ", ".join(backend.id for backend in backends[:MOST_NAMED])
    more = f" and {len(backends) - MOST_NAMED} more" if len(backends) > MOST_NAMED else ""
    raise UnknownBackend(f'There is no backend "{backend_id[:100]}". There are: {ids}{more}.')


def direct(edge: OperatedEdge, backend_id: str, will: Will, *, persist: bool = False, if_match: str | None = None) -> Document:
    """Drain, enable or disable a backend; return what has become of it.

    Raises UnknownBackend, NotPersisted and, to persist, what a reload raises.
    """
    backend = backend_of(edge, backend_id)
    before = _standing(backend)
    if persist:
        _write(edge, backend_id, {"state": will}, if_match)
    edge.pool.set_will(backend_id, will)
    return _report(edge, backend_id, before, _WORDS[will], persisted=persist)


def weigh(
    edge: OperatedEdge, backend_id: str, weight: int | None, *, persist: bool = False, if_match: str | None = None
) -> Document:
    """Give a backend another weight, None for the file's; as `direct`."""
    backend = backend_of(edge, backend_id)
    before = _standing(backend)
    if persist and weight is not None:
        _write(edge, backend_id, {"weight": weight}, if_match)
    edge.pool.set_weight(backend_id, weight)
    weight = backend_of(edge, backend_id).full_weight
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

_WORDS: Final[Mapping[Will, str]] = {
    "enabled": "is enabled",
    "draining": "is draining: no new requests but those of sticky sessions",
    "disabled": "is disabled: no new requests",
}


def _write(edge: OperatedEdge, backend_id: str, changes: Mapping[str, Any], if_match: str | None) -> None:
    """Have the file say it too, by a reload like any other."""
    try:
        text = edge.config_text()
    except OSError as error:
        raise NotPersisted(f"The configuration's file cannot be read: {error.strerror}. Nothing has changed.") from error
    if text is None:
        raise NotPersisted("There is no configuration file to write to. Nothing has changed.")
    config = edge.parsed(text)
    if config.etag != edge.config.etag:
        raise NotPersisted("The configuration's file has changes that are not in use; reload it first. Nothing has changed.")
    wanted = config.model_dump(mode="json")
    index = next(place for place, backend in enumerate(config.backends) if backend.id == backend_id)
    wanted["backends"][index] |= changes
    try:
        new = edited(text, index, changes)
        said = edge.parsed(new).model_dump(mode="json")
    except (LookupError, TypeError, ConfigError):
        said = None
    if said != wanted:
        raise NotPersisted("The backend does not come from the configuration's file. Nothing has changed.")
    edge.reload(new, if_match or f'"{config.etag}"')


def _standing(backend: Backend) -> Document:
    return {"will": backend.will, "weight": backend.full_weight}


def _report(edge: OperatedEdge, backend_id: str, before: Document, words: str, *, persisted: bool) -> Document:
    none_left = not edge.pool.candidates(edge.now())  # first: this brings the weights up to date
    backend = backend_of(edge, backend_id)
    after = _standing(backend)
    message = f"{backend.id} {words}; {backend.in_flight()} in flight"
    if after == before:
        message += "; unchanged"
    return {
        "id": backend.id,
        "url": backend.url,
        "changed": after != before,
        "before": before,
        "after": after | {"effective_weight": round(backend.weight, 3)},
        "in_flight": backend.in_flight(),
        "persisted": persisted,
        "generation": edge.generation,
        "warning": "No backend is left that may be picked: requests are answered with 503." if none_left else None,
        "message": message,
    }
