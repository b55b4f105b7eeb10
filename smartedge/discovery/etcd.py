"""Backends from etcd: each key below a prefix is one, told as soon as it is written, deleted, or its lease is over."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from time import monotonic

from smartedge.config.backends import check_entry
from smartedge.config.discover import EtcdConfig
from smartedge.discovery.etcd_client import Compacted, EtcdError
from smartedge.discovery.etcd_connect import connect
from smartedge.discovery.label import label_of
from smartedge.discovery.source import Entry, SourceError

SHORT_S = 5.0
"""A watch that is lost sooner than this is no accident: its end is an error. Others are begun again at once, elsewhere."""

COMPACTED_AGAIN = 4
"""So often in a row, and as soon, a revision may be compacted before it is watched from; more is an error."""


class EtcdSource:
    """The source `etcd` of a service; made by the menu of sources, asked and begun again by its `SourceRunner`.

    It reads all keys at a revision, then watches from the next one on. When the watch is lost, or the revision compacted, or etcd
    put back to an older state, it reads all again: what was missed cannot be told from events.

    said: what the configuration says. environ: has user and password.
    """

    def __init__(self, said: EtcdConfig, environ: Mapping[str, str] = os.environ, short_s: float = SHORT_S) -> None:
        self._prefix = said.prefix
        self._short_s = short_s
        self._entries = KeyEntries(said.prefix)
        self._client = connect(said, environ)

    def snapshots(self) -> Iterator[Sequence[Entry]]:
        """Yield all backends, at first and with every change, and every few seconds while nothing changes."""
        compacted = 0
        try:
            while True:
                began = monotonic()
                try:
                    yield from self._from_now_on()
                except EtcdError as error:
                    is_short = monotonic() - began < self._short_s
                    compacted = compacted + 1 if is_short and isinstance(error, Compacted) else 0
                    if not error.retriable or (is_short and not 0 < compacted < COMPACTED_AGAIN):
                        raise SourceError(str(error)) from error
        finally:
            self._client.close()

    def _from_now_on(self) -> Iterator[Sequence[Entry]]:
        """Read all, then yield with every batch of the watch; raises EtcdError when that is lost."""
        revision, found = self._client.range(self._prefix, prefix=True)
        entries = {pair.key: entry for pair in found if (entry := self._entries.entry_of(pair.key, pair.value)) is not None}
        yield tuple(entries.values())
        watch = self._client.watch(self._prefix, True, revision + 1)
        try:
            for _, events in watch:
                for event in events:
                    entry = None if event.kind == "delete" else self._entries.entry_of(event.key, event.value)
                    if entry is None:
                        entries.pop(event.key, None)
                    else:
                        entries[event.key] = entry
                yield tuple(entries[key] for key in sorted(entries))
        finally:
            watch.close()


class KeyEntries:
    """Makes entries of keys; owned by an EtcdSource. It remembers which id a key had, as rubbish in it is about that backend."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._ids: dict[str, str] = {}

    def entry_of(self, key: str, value: bytes) -> Entry | None:
        """Make the entry of a key: a URL, or an object as in `backends[]`. None for a directory, a key that ends with a slash."""
        if key.endswith("/"):
            return None
        text = value.decode("utf-8", "replace").strip()
        entry: object = text
        if text[:1] in ("{", '"'):
            try:
                entry = json.loads(text)
            except (ValueError, RecursionError):
                pass  # rubbish, which is told by whoever checks entries
        label = self._id_of(key)
        if not isinstance(entry, dict):
            return {"id": self._ids.get(key, label), "url": entry}
        if "id" not in entry:
            entry["id"] = self._ids[key] if self._ids.get(key, label) != label and _is_rubbish(entry) else label
        if isinstance(entry["id"], str):
            self._ids[key] = entry["id"]
        return entry

    def _id_of(self, key: str) -> str:
        """What follows the prefix, as a rule the key's last part."""
        rest = key.removeprefix(self._prefix)
        if not (self._prefix.endswith("/") or rest.startswith("/")):  # the prefix ends within a name
            rest = key[self._prefix.rfind("/") + 1 :]
        return label_of(rest.strip("/"))


def _is_rubbish(entry: object) -> bool:
    try:
        check_entry(entry)
    except ValueError:
        return True
    return False
