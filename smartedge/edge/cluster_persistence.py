"""A configuration that is kept in a cluster's key: by compare-and-swap, so that nobody overwrites what he has not seen."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from difflib import unified_diff
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any, Final

from smartedge.cluster.errors import ClusterError
from smartedge.cluster.store import Conflict, Store
from smartedge.cluster.stored import Stored
from smartedge.config.model import Config, ConfigError
from smartedge.edge.cluster_news import ClusterNews
from smartedge.edge.origin import ConfigOrigin
from smartedge.edge.persistence import FilePersistence
from smartedge.edge.reload_errors import ReloadError
from smartedge.workers.replaced_file import replace_text
from smartedge.workers.state_dir import StateError

MOST_LINES: Final = 200
"""Of a difference that is told."""


class ClusterTrouble(ReloadError):
    """The cluster did not do what it was asked for; nothing has changed, unless it says that this cannot be known."""

    title = "Cluster refused"

    def __init__(self, error: ClusterError) -> None:
        super().__init__(str(error))
        self.status = error.status
        if error.status == 503:
            self.title = "Cluster not available"


class Overtaken(ReloadError):
    """Another reload came first, so this one has changed nothing. members: what the answer says of that one."""

    status = 412
    title = "Precondition failed"
    blame = "client"

    def __init__(self, generation: int, by: str, diff: list[str]) -> None:
        super().__init__(
            f"the cluster's configuration has become another one meanwhile, generation {generation} by {by}; the difference is in"
            " diff"
        )
        self.members: Mapping[str, Any] = {"generation": generation, "by": by, "diff": diff}


class WrittenAlone(ReloadError):
    """The configuration is the cluster's, but the workers of this node could not be told of it yet."""

    status = 503
    title = "Configuration not shared"

    def __init__(self, generation: int, error: StateError) -> None:
        super().__init__(
            f"generation {generation} is the cluster's, but the workers of this node could not be told yet, which is tried again:"
            f" {error}"
        )


class ClusterPersistence:
    """Keeps it in the cluster's key; made by the ClusterNode, for the Reloader of its worker.

    node: gives our name. news: what our node knows of the cluster. in_use: gives the configuration in use. on_written:
    told of the configuration before and of the one that we have written. directory: where the workers of the node meet, None for
    a process alone.

    A reload without a body is the file's word only if the file has changed since this node last read it: a SIGHUP on a node with
    an old file is not to undo what was sent to another.
    """

    persists = True

    def __init__(
        self,
        store: Store,
        node: Callable[[], str],
        news: ClusterNews,
        origin: ConfigOrigin,
        in_use: Callable[[], Config],
        on_written: Callable[[Config, Config], None],
        directory: Path | None,
    ) -> None:
        self._store = store
        self._in_use = in_use
        self._on_written = on_written
        self._node = node
        self._news = news
        self._origin = origin
        self._file = FilePersistence(origin)
        self._seen_path = None if directory is None else directory / "file.seen"
        self._seen = ""
        self._offered: bytes | None = None

    def see_file(self) -> None:
        """Remember what the file says when the node begins, once for all of its workers."""
        if self._seen_path is None or not self._seen_path.exists():
            with contextlib.suppress(ReloadError, OSError):
                self._note_seen(self._file.text_of(None))

    def etag_of(self, config: Config, number: int) -> str:
        """Return what tells the configuration from others, on all nodes alike, whatever flags each has."""
        return sha256(f"{self._news.newest.cluster_id} {number}".encode()).hexdigest()[:16]

    def number_of_found(self, number: int) -> int:
        """Return the same: what this node finds is no generation of the cluster's."""
        return number

    def text_of(self, body: bytes | None) -> bytes:
        """Return the body, else what the file says if that is new, else what the cluster has."""
        if body is not None:
            return body
        stored = self._read()
        text = self._offered = self._read_file(stored)
        if text is None or (stored is not None and _digest(text) == self._last_seen()):
            assert stored is not None
            return _bytes(stored)
        return text

    def text_in_use(self) -> bytes | None:
        """Return what the cluster has."""
        stored = self._read()
        return None if stored is None else _bytes(stored)

    @contextlib.contextmanager
    def persisted(self, body: bytes | None, text: bytes, number: int, *, is_other: bool) -> Iterator[int]:
        """Write the text to the key, if it says another; raises Overtaken unless this node has seen what stands there."""
        stored = self._read()
        if stored is not None and _bytes(stored) == text:
            yield stored.generation
        else:
            old = self._in_use()
            written = self._write(text.decode("utf-8", "surrogateescape"), number, stored)
            try:
                yield written.generation
            except StateError as error:
                raise WrittenAlone(written.generation, error) from error
            self._on_written(old, self._origin.parse_text(text))
        if self._offered is not None and body in (None, self._offered):
            self._note_seen(self._offered)  # not `text`, which is the cluster's where the file says nothing new

    def _write(self, text: str, number: int, stored: Stored | None) -> Stored:
        if stored is not None and not self._has_seen(stored, number):
            raise self._overtaken(stored)
        try:
            self._news.require_live()
            if stored is not None:
                return self._store.write(text, self._node(), stored)
            written, is_ours = self._store.create_if_absent(text, self._node())
        except Conflict as error:
            if error.stored is not None and error.stored.text == text:
                return error.stored  # somebody else has sent the very same
            raise (ClusterTrouble(error) if error.stored is None else self._overtaken(error.stored)) from error
        except ClusterError as error:
            raise ClusterTrouble(error) from error
        if not is_ours and written.text != text:
            raise self._overtaken(written)
        return written

    def _has_seen(self, stored: Stored, number: int) -> bool:
        """Whether this node goes by what stands there, or has refused it and said so."""
        news = self._news.newest
        if news.refused is not None and (news.cluster_id, news.generation) == (stored.id, stored.generation):
            return True
        return stored.generation == number and news.cluster_id in ("", stored.id)

    def _overtaken(self, stored: Stored) -> Overtaken:
        try:
            diff = difference(self._in_use(), self._origin.parse_text(_bytes(stored)))
        except ConfigError as error:
            diff = [f"this node cannot use that one: {error}"]
        return Overtaken(stored.generation, stored.by, diff)

    def _read(self) -> Stored | None:
        try:
            return self._store.read()
        except ClusterError as error:
            raise ClusterTrouble(error) from error

    def _read_file(self, stored: Stored | None) -> bytes | None:
        """Return what the file says; None where it can't be read and need not be, as the cluster has a configuration."""
        try:
            return self._file.text_of(None)
        except ReloadError:
            if stored is None:
                raise
            return None

    def _last_seen(self) -> str:
        if self._seen_path is not None:
            with contextlib.suppress(OSError):
                return self._seen_path.read_text()
        return self._seen

    def _note_seen(self, text: bytes) -> None:
        self._seen = _digest(text)
        if self._seen_path is not None:
            replace_text(self._seen_path, self._seen)


def difference(old: Config, new: Config) -> list[str]:
    """Give the lines of a unified diff of what two configurations say, every key of each written out."""
    before, after = (json.dumps(json.loads(one.to_json()), indent=1, ensure_ascii=False).splitlines() for one in (old, new))
    lines = list(islice(unified_diff(before, after, "in use here", "in the cluster", lineterm="", n=1), MOST_LINES + 1))
    return lines if len(lines) <= MOST_LINES else [*lines[:MOST_LINES], "and more"]


def _bytes(stored: Stored) -> bytes:
    return stored.text.encode("utf-8", "surrogateescape")


def _digest(text: bytes) -> str:
    return sha256(text).hexdigest()
