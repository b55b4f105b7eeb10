"""A file as a source of backends: a JSON list of them, read again when it changes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any, Final

import gevent

from smartedge.config.problems import ConfigError, decode, path_text
from smartedge.config.values import escaped
from smartedge.discovery.file_look import FileLook
from smartedge.discovery.source import Entry, SourceError

LOOK_S: Final = 0.25
"""How often it is looked at."""

LIVES_S: Final = 1.0
"""How often a file that stays as it is counts as an answer."""


class FileSource:
    """The backends that a file lists: `[...]` as `backends` has them, or `{"backends": [...]}`; asked by a `SourceRunner`.

    Raises SourceError. What is half written is waited for without a word.
    """

    def __init__(self, path: str) -> None:
        self._path = path

    def snapshots(self) -> Iterator[Sequence[Entry]]:
        """Yield what it lists, whenever it has changed, and once a second while it stays."""
        file = FileLook(self._path)
        entries: Sequence[Entry] | None = None
        trouble: SourceError | None = None
        said_at = 0.0
        while True:
            try:
                text = file.read_changed()
                if text is not None:
                    entries, trouble, said_at = self._entries_of(text), None, 0.0
            except OSError as error:
                raise self._error(error.strerror or str(error)) from None
            except SourceError as error:
                trouble = error
            if trouble is not None and file.is_settled:
                raise trouble
            if entries is not None and time.monotonic() - said_at >= LIVES_S:
                said_at = time.monotonic()
                yield entries
            gevent.sleep(LOOK_S)

    def _entries_of(self, text: bytes) -> Sequence[Entry]:
        try:
            document, repeated = decode(text, escaped(self._path))
        except ConfigError as error:
            raise SourceError(str(error)) from None
        if repeated:
            raise self._error("; ".join(f"{path_text(path)} {what}" for path, what in repeated[:3]))
        found: Any = document
        if isinstance(found, dict) and found.keys() == {"backends"}:
            found = found["backends"]
        if not isinstance(found, list):
            raise self._error('must be a list of backends, or an object with nothing but "backends"')
        return found

    def _error(self, what: str) -> SourceError:
        return SourceError(f"{escaped(self._path)}: {what}")
