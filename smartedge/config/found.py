"""What the sources of services have found, beside what was written: frozen, replaced whole, with each generation another one.

It is never part of the configuration's text. Workers tell each other of it, and it is kept on disk, as JSON: each backend with
the keys that were said of it.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, NamedTuple

from pydantic import ValidationError

from smartedge.config import values
from smartedge.config.backends import BackendConfig
from smartedge.config.discover import SourceConfig
from smartedge.config.services import WrittenService

Sets = Mapping[tuple[str, str], tuple[BackendConfig, ...]]
"""What was found, by service and kind of source."""


class Change(NamedTuple):
    """What is found in a service now that was not, and the other way round: ids. other: those of which something else is said."""

    service: str
    new: tuple[str, ...]
    gone: tuple[str, ...]
    other: tuple[str, ...]


@dataclass(frozen=True)
class Found:
    """The backends that all sources have found, in the order of the sources; made by `found_of`, held by the Reloader.

    What stays as it is from one to the next is the very same object, down to each backend: whoever builds anything of it knows
    by that what need not be built again. backends: those of each service, of all its sources together, and
    of two with one id or one address that of the first source.
    """

    sets: Sets = field(default_factory=dict)
    backends: Mapping[str, tuple[BackendConfig, ...]] = field(default_factory=dict)

    def replaced(self, sets: Sets) -> Found:
        """Return what is found when these sources have found this."""
        return found_of({**self.sets, **sets}, self)

    def only_for(self, asked: Collection[tuple[str, str]]) -> Found:
        """Return it without what was found by sources that are asked no more."""
        return found_of({key: backends for key, backends in self.sets.items() if key in asked}, self)

    def changes_since(self, before: Found) -> list[Change]:
        """Say what is another in each service."""
        changes = []
        for service in sorted(self.backends.keys() | before.backends.keys()):
            now, then = self.backends.get(service, ()), before.backends.get(service, ())
            if now is not then:
                by_id, by_id_then = {one.id: one for one in now}, {one.id: one for one in then}
                change = Change(
                    service,
                    new=tuple(name for name in by_id if name not in by_id_then),
                    gone=tuple(name for name in by_id_then if name not in by_id),
                    other=tuple(name for name, one in by_id.items() if one is not by_id_then.get(name, one)),
                )
                changes += [change] if any(change[1:]) else []
        return changes

    @cached_property
    def text(self) -> str:
        """The JSON that `parse_found` reads: services, in each its kinds of sources, in each a list of backends."""
        services: dict[str, list[str]] = {}
        for (service, kind), backends in self.sets.items():
            services.setdefault(service, []).append(f"{json.dumps(kind)}:{text_of(backends)}")
        return _object(f"{json.dumps(service)}:{_object(kinds)}" for service, kinds in services.items())


NOTHING_FOUND: Final = Found()


def found_of(sets: Sets, before: Found = NOTHING_FOUND) -> Found:
    """Make it of the sets of all sources; before: what stays the same is taken from there."""
    sets = {key: _shared(backends, before.sets.get(key, ())) for key, backends in sets.items()}
    if sets.keys() == before.sets.keys() and all(before.sets[key] is backends for key, backends in sets.items()):
        return before
    parts: dict[str, list[tuple[BackendConfig, ...]]] = {}
    parts_before: dict[str, list[tuple[BackendConfig, ...]]] = {}
    for of, its in ((sets, parts), (before.sets, parts_before)):
        for (service, _), backends in of.items():
            its.setdefault(service, []).append(backends)
    return Found(sets, {name: _joined(each, parts_before.get(name), before.backends.get(name)) for name, each in parts.items()})


def _shared(backends: tuple[BackendConfig, ...], before: tuple[BackendConfig, ...]) -> tuple[BackendConfig, ...]:
    """Return the same backends, those of which the same is said as before as they were; and the whole, if it is the same."""
    if backends is before:
        return before
    known = {backend.id: backend for backend in before}
    shared = tuple(_same(known.get(backend.id), backend) for backend in backends)
    if len(shared) == len(before) and all(map(_is, shared, before)):
        return before
    return backends if all(map(_is, shared, backends)) else shared


def _same(known: BackendConfig | None, backend: BackendConfig) -> BackendConfig:
    is_known = known is backend or (known is not None and known.found_document == backend.found_document)
    return known if is_known and known is not None else backend


def _joined(
    parts: list[tuple[BackendConfig, ...]], parts_before: list[tuple[BackendConfig, ...]] | None, before: Any
) -> tuple[BackendConfig, ...]:
    if parts_before is not None and len(parts) == len(parts_before) and all(map(_is, parts, parts_before)):
        return before  # type: ignore[no-any-return]
    if len(parts) == 1:
        return parts[0]
    taken: set[object] = set()
    joined = []
    for backend in (backend for part in parts for backend in part):
        names = backend.id, values.origin(backend.url)
        if taken.isdisjoint(names):
            taken.update(names)
            joined.append(backend)
    return tuple(joined)


def _is(one: object, other: object) -> bool:
    return one is other


def sources_of(services: Iterable[WrittenService]) -> dict[tuple[str, str], SourceConfig]:
    """Return the sources of all services, by service and kind."""
    return {
        (one.name, kind): source
        for one in services
        if one.config.discover is not None
        for kind, source in one.config.discover.sources.items()
    }


def _object(members: Iterable[str]) -> str:
    return f"{{{','.join(members)}}}"


def text_of(backends: Iterable[BackendConfig]) -> str:
    """Write a list of backends as JSON."""
    return f"[{','.join(backend.found_text for backend in backends)}]"


def parse_found(document: Any, before: Found = NOTHING_FOUND) -> Found:
    """Read what `Found.text` says, as JSON has it; raises ValueError. before: what stays as it is is taken from there."""
    try:
        sets = {
            (service, kind): parse_backends(entries, before.sets.get((service, kind), ()))
            for service, kinds in document.items()
            for kind, entries in kinds.items()
        }
    except (AttributeError, TypeError, KeyError, ValidationError) as error:
        raise ValueError("it does not say which backends were found") from error
    return found_of(sets, before)


def parse_backends(entries: Iterable[Mapping[str, Any]], before: tuple[BackendConfig, ...] = ()) -> tuple[BackendConfig, ...]:
    """Read a list that `text_of` wrote, as JSON has it; before: those of which the same is said are taken from there."""
    known = {backend.id: backend for backend in before}
    backends = []
    for entry in entries:
        backend = known.get(entry["id"])
        same = backend is not None and backend.found_document == entry
        backends.append(backend if same else BackendConfig.model_validate(entry))
    return tuple(backend for backend in backends if backend is not None)
