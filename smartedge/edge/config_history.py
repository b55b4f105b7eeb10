"""The last 50 configurations that were applied, as they were written: kept beside the configuration's file, for its owner alone.

A line of JSON each. The file outlives restarts; a line that cannot be read is passed over, so that one that broke off costs
no other. Source of the idea: `show system commit` and `rollback` of Junos, `nginx`'s habit of keeping none.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

from smartedge.config.private_file import write_private
from smartedge.workers.state_dir import OPEN_DIRECTORY, StateError, held

log = logging.getLogger("smartedge")

KEPT: Final = 50
MOST_BYTES: Final = 32 * 1024 * 1024
"""Of texts together; the oldest go first."""


@dataclass(frozen=True, slots=True)
class KeptConfiguration:
    """A configuration that was applied. id: its number here, which `rollback` takes. generation: 1 at each start.

    at: Unix time. etag: of what the text means. origin: `start`, `file`, `api`, `rollback` or `cluster`. by: the peer, or what
    asked instead of people; author: whom the client named. note: why, of a rollback. text: as it was written, secrets and all.
    """

    id: int
    generation: int
    at: float
    etag: str
    origin: str
    by: str | None
    author: str | None
    note: str
    text: str


class ConfigHistory:
    """Owned by the Rollouts. path: of the configuration's file; None for an edge without one, which forgets when it ends."""

    def __init__(self, path: str | None) -> None:
        self._path = None if path is None else Path(os.path.realpath(path)).with_name(f".{Path(path).name}.history")
        self._own: tuple[KeptConfiguration, ...] = ()
        self._said = ""

    def keep_in(self, directory: Path | None) -> None:
        """Keep it there where there is no file to keep it beside."""
        if self._path is None and directory is not None:
            self._path = directory / "configurations.history"

    def all(self) -> tuple[KeptConfiguration, ...]:
        """Return what is kept, the oldest first."""
        if self._path is None:
            return self._own
        try:
            text = self._path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return self._own
        except (OSError, UnicodeDecodeError) as error:
            self._say(f"the history of configurations cannot be read: {self._path}: {error}")
            return self._own
        return tuple(self._read(text))

    def newest(self, etag: str) -> KeptConfiguration | None:
        """Return the newest one of this meaning; None where none is kept."""
        return next((one for one in reversed(self.all()) if one.etag == etag), None)

    def add(self, one: KeptConfiguration) -> int:
        """Keep another one, and return its id. What cannot be written is kept here, and logged: no reload fails by it."""
        if self._path is None:
            return self._added(one)
        try:
            with held(self._path.parent, OPEN_DIRECTORY):
                return self._added(one)
        except StateError as error:
            self._say(f"the history of configurations is written without a lock: {error}")
            return self._added(one)

    def _added(self, one: KeptConfiguration) -> int:
        known = self.all()
        number = known[-1].id + 1 if known else 1
        kept = [*known, replace(one, id=number)][-KEPT:]
        while len(kept) > 1 and sum(len(each.text) for each in kept) > MOST_BYTES:
            del kept[0]
        self._own = tuple(kept)
        if self._path is not None:
            lines = "".join(json.dumps(asdict(each), ensure_ascii=False) + "\n" for each in kept)
            try:
                write_private(self._path, lines.encode("utf-8", "surrogatepass"), sync=False)
            except OSError as error:
                self._say(f"the history of configurations cannot be written: {self._path}: {error.strerror}")
        return number

    def _read(self, text: str) -> Iterator[KeptConfiguration]:
        broken = 0
        for line in text.splitlines():
            try:
                yield KeptConfiguration(**json.loads(line))
            except (ValueError, TypeError):
                broken += 1
        if broken:
            self._say(f"{broken} of the configurations in {self._path} cannot be read and are passed over")

    def _say(self, text: str) -> None:
        if text != self._said:
            self._said = text
            log.warning("%s", text)
