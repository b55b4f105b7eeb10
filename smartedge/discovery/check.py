"""What a source says, checked as strictly as the file is: entries become backends, rubbish becomes findings and loses nothing."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final, NamedTuple

import gevent

from smartedge.config import values
from smartedge.config.backends import BackendConfig, check_entry, id_of
from smartedge.discovery.source import SourceError

MOST_ENTRIES: Final = 10_000
"""Of one answer of a source; one with more is taken for garbage."""

PAUSE_EVERY: Final = 50
"""After so many new entries, some 50 µs each, requests of this worker have their turn."""
SLICE: Final = 250
"""And so after so many in all, which are only compared with those of the answer before."""

_SAID: Final = 3
"""How many findings a sentence names."""


class Checked(NamedTuple):
    """What an answer comes to. findings: what is wrong with single entries, one sentence each."""

    backends: tuple[BackendConfig, ...]
    findings: tuple[str, ...]


class EntryChecker:
    """Makes backends of a source's entries; owned by a `SourceRunner`, one for each source.

    An entry that is rubbish says nothing: a backend that is known by its id or URL stays as it last was, unless another entry is
    about it now; a new one is left out.
    Of two with the same id or address the first counts.

    defaults: keys of `backends` for every entry that does not say them itself. known: backends that were found before.
    """

    def __init__(self, defaults: Mapping[str, Any], known: Iterable[BackendConfig] = ()) -> None:
        self._defaults = defaults
        self._good = {one.id: one for one in known}
        self._made: dict[object, tuple[object, BackendConfig]] = {}
        self._until_pause = PAUSE_EVERY

    def check_entries(self, entries: Sequence[object]) -> Checked:
        """Check one answer; remember what was good in it."""
        found: dict[str, BackendConfig] = {}
        taken: dict[values.Origin, str] = {}
        findings: list[str] = []
        made: dict[object, tuple[object, BackendConfig]] = {}
        rubbish: list[tuple[int, object]] = []
        for index, entry in enumerate(entries):
            if index % SLICE == SLICE - 1:
                gevent.sleep(0.001)  # requests go on: all of thousands at once would hold them up
            try:
                key, whole, backend = self._backend_of(entry)
            except ValueError as error:
                rubbish.append((len(findings), entry))
                findings.append(f"{_name_of(entry, index)}: {error}")
                continue
            origin = values.origin(backend.url)
            if origin not in taken and not _says_id(entry) and (not backend.id or backend.id in found):
                backend = backend.model_copy(update={"id": self._id_for(backend.url, found)})
            if (other := taken.get(origin) or (backend.id if backend.id in found else None)) is not None:
                findings.append(f"{_name_of(entry, index)}: has the id or address of {other}, which came first and counts")
                continue
            found[backend.id] = backend
            taken[origin] = backend.id
            made[key] = whole, backend
        for at, entry in rubbish:
            free = (one for one in self._last_good(entry) if one.id not in found and values.origin(one.url) not in taken)
            if (last := next(free, None)) is None:
                findings[at] += "; it is left out"
            else:
                findings[at] += "; it stays as it was"
                found[last.id] = last
                taken[values.origin(last.url)] = last.id
        self._made = made
        if found:
            self._good = found
        return Checked(tuple(found.values()), tuple(findings))

    def _backend_of(self, entry: object) -> tuple[object, object, BackendConfig]:
        """Make a backend of an entry, or take the one that the same entry was last time; raises ValueError.

        Also give what the entry is found by next time, and the entry as it must then be.
        """
        key = (entry.get("url"), entry.get("id")) if isinstance(entry, Mapping) else entry
        try:
            before = self._made.get(key)
        except TypeError:  # a list where a text should be
            raise ValueError(_wrong_with(entry)) from None
        if before is not None and before[0] == entry:
            return key, *before
        self._until_pause -= 1
        if not self._until_pause:
            self._until_pause = PAUSE_EVERY
            gevent.sleep(0)
        whole = _plain(entry)
        return key, whole, check_entry(_with_defaults(whole, self._defaults))

    def _last_good(self, entry: object) -> Iterator[BackendConfig]:
        """Find what an entry may be about, by its id, then by its address; nothing where it is new or says neither."""
        fields = entry if isinstance(entry, Mapping) else {"url": entry}
        label, url = fields.get("id"), fields.get("url")
        if isinstance(label, str) and label in self._good:
            yield self._good[label]
        try:
            origin = values.origin(values.backend_url(url)) if isinstance(url, str) else None
        except ValueError:
            return
        yield from (one for one in self._good.values() if values.origin(one.url) == origin)

    def _id_for(self, url: str, found: Mapping[str, BackendConfig]) -> str:
        """Give the id that it has had, else one made of host and port that no other has."""
        plain = id_of(url)
        if plain in found or (plain in self._good and self._good[plain].url != url):
            return id_of(url, alone=False)
        return plain


def entries_of(answer: Any) -> tuple[object, ...]:
    """Take an answer for the list of entries that it should be; raises SourceError."""
    entries: tuple[object, ...] | None = None
    if not isinstance(answer, str | bytes | Mapping):
        with contextlib.suppress(TypeError):
            entries = tuple(islice(answer, MOST_ENTRIES + 1))
    if entries is None:
        raise SourceError(f"gave a {type(answer).__name__} in place of a list of backends")
    if len(entries) > MOST_ENTRIES:
        raise SourceError(f"gave more than {MOST_ENTRIES} backends")
    return entries


def why_unbelieved(entries: Sequence[object], checked: Checked, *, allow_empty: bool, source: object) -> str:
    """Say why nobody goes by an answer, or "" where it is to be believed.

    source: may have a text `why_empty`, which says more of an empty answer than that it is empty.
    """
    if checked.backends or (allow_empty and not entries):
        return ""
    if entries:
        return "nothing in its answer is right"
    why = getattr(source, "why_empty", "")
    return f'its answer is empty{f" ({why})" if why else ""}, and "allow_empty" is not true'


def in_a_sentence(findings: Sequence[str]) -> str:
    """Put findings into one sentence, which names the first few."""
    more = f"; and {len(findings) - _SAID} more" if len(findings) > _SAID else ""
    return "; ".join(findings[:_SAID]) + more


def _says_id(entry: object) -> bool:
    return isinstance(entry, Mapping) and bool(entry.get("id"))


def _plain(entry: object) -> Any:
    """Give an entry as JSON would have it, apart from the source's own objects; raises ValueError."""
    try:
        return json.loads(json.dumps(dict(entry) if isinstance(entry, Mapping) else entry, allow_nan=False))
    except (TypeError, ValueError, RecursionError):
        raise ValueError(_wrong_with(entry)) from None


def _wrong_with(entry: object) -> str:
    what = "an object that holds something else than JSON" if isinstance(entry, Mapping) else f"a {type(entry).__name__}"
    return f'must be a URL or an object with a "url", not {what}'


def _with_defaults(entry: Any, defaults: Mapping[str, Any]) -> Any:
    """Lay an entry over the defaults, key by key inside the sections; what is neither text nor object is left as it is."""
    fields = {"url": entry} if isinstance(entry, str) else entry
    if not defaults or not isinstance(fields, dict):
        return entry
    merged = {**defaults, **fields}
    for key, value in fields.items():
        if isinstance(value, dict) and isinstance(above := defaults.get(key), Mapping):
            merged[key] = {**above, **value}
    return merged


def _name_of(entry: object, index: int) -> str:
    """Name an entry as people know it: by its id, else its URL, else its place."""
    fields = entry if isinstance(entry, Mapping) else {"url": entry}
    named = next((fields[key] for key in ("id", "url") if isinstance(fields.get(key), str)), None)
    return f"entry {index}" if named is None else values.shown(named)
