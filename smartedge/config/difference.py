"""What differs between two configurations: value by value, each with its path; secrets are masked.

Backends and routes are known by their ids, not by where they stand: one that is put in front changes none behind it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from smartedge.config.model import Config
from smartedge.config.origins import effective

_LISTED = {"backends": "id", "routes": "id", "services": "", "certificates": "certfile"}
_NOTHING = object()


class Difference(NamedTuple):
    """A value that is another. path: as `services.web.backends.b2.weight`. old, new: None where there is none.

    what: `added`, `removed` or `changed`; a backend, a route or a service comes and goes as a whole.
    """

    path: str
    what: str
    old: Any
    new: Any


def differences(old: Config, new: Config) -> list[Difference]:
    """Give what differs, in the order of the paths."""
    return list(_compared(_by_id(effective(old)), _by_id(effective(new)), ""))


def _by_id(document: Any) -> Any:
    """Turn lists of things that have ids into objects by them."""
    if not isinstance(document, Mapping):
        return document
    found = {}
    for key, value in document.items():
        name = _LISTED.get(key)
        if name and isinstance(value, list) and all(isinstance(one, Mapping) and one.get(name) for one in value):
            found[key] = {one[name]: one for one in value}
        else:
            found[key] = _by_id(value)
    return found


def _compared(old: Any, new: Any, path: str) -> Iterator[Difference]:
    if old == new:
        return
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        whole = path.rpartition(".")[2] in _LISTED
        for key in sorted({*old, *new}):
            below = f"{path}.{key}" if path else str(key)
            one, other = old.get(key, _NOTHING), new.get(key, _NOTHING)
            if (one is _NOTHING or other is _NOTHING) and not whole and key in _LISTED:  # a list that is missing is an empty one
                yield from _compared({} if one is _NOTHING else one, {} if other is _NOTHING else other, below)
            elif one is _NOTHING:
                yield Difference(below, "added", None, other)
            elif other is _NOTHING:
                yield Difference(below, "removed", one, None)
            else:
                yield from _compared(one, other, below)
        return
    yield Difference(path, "changed", old, new)
