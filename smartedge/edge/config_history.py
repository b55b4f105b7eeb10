"""The last 50 configurations that were applied, as they were written: kept beside the configuration's file, for its owner alone.

A line of JSON each. The file outlives restarts; a line that cannot be read is passed over, so that one that broke off costs
no other. Source of the idea: `show system commit` and `rollback` of Junos, `nginx`'s habit of keeping none.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

from gevent import get_hub

from smartedge.config.private_file import write_private
from smartedge.workers.state_dir import OPEN_DIRECTORY, StateError, held

log = logging.getLogger("smartedge")

KEPT: Final = 50
MOST_BYTES: Final = 32 * 1024 * 1024
"""Of the file; the oldest go first."""

END_BYTES: Final = 1024 * 1024
"""So much of the end of the file is looked through for the last line; the whole only if there is none."""

_id_at: Final = re.compile(rb'\{"id": (\d{1,18}),').match


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
    """Owned by the Rollouts. path: of the configuration's file; None for an edge without one, which forgets when it ends.

    Another one is a line at the end of the file, whatever lies before it: a reload is not held up by fifty large configurations.
    Every fiftieth writes the file anew, without what is older.
    """

    def __init__(self, path: str | None) -> None:
        self._path = None if path is None else Path(os.path.realpath(path)).with_name(f".{Path(path).name}.history")
        self._own: tuple[KeptConfiguration, ...] = ()
        self._said = self._instead_of = ""

    def keep_in(self, directory: Path | None) -> None:
        """Keep it there where there is no file to keep it beside, or nothing can be kept beside that (a ConfigMap, `:ro`)."""
        if directory is None:
            return
        if self._path is not None:
            if os.access(self._path.parent, os.W_OK):
                return
            self._instead_of = str(self._path.parent)
        self._path = directory / "configurations.history"

    def all(self) -> tuple[KeptConfiguration, ...]:
        """Return what is kept, the oldest first."""
        written = tuple(self._read(self._bytes()))
        last = written[-1].id if written else 0
        return (*written, *(one for one in self._own if one.id > last))[-KEPT:]

    def newest(self, etag: str) -> KeptConfiguration | None:
        """Return the newest one of this meaning; None where none is kept."""
        return next((one for one in reversed(self.all()) if one.etag == etag), None)

    def add(self, one: KeptConfiguration) -> int:
        """Keep another one, and return its id. What cannot be written is kept here, and logged: no reload fails by it."""
        if self._instead_of:
            log.info(
                "%s cannot be written: history and rollback know what is applied from now until this edge ends; reloads with a"
                " body, weights of routes and --persist are refused",
                self._instead_of,
            )
            self._instead_of = ""
        if self._path is None:
            return self._remember(one, max((each.id for each in self._own), default=0) + 1)
        try:
            with held(self._path.parent, OPEN_DIRECTORY):
                return self._added(self._path, one)
        except StateError as error:
            self._say(f"the history of configurations is written without a lock: {error}")
            return self._added(self._path, one)

    def _added(self, path: Path, one: KeptConfiguration) -> int:
        end = self._bytes(END_BYTES)
        last = _last_id(end) or _last_id(end := self._bytes())
        number = max([last, *(each.id for each in self._own)]) + 1
        line = (json.dumps(asdict(replace(one, id=number)), ensure_ascii=False) + "\n").encode("utf-8", "surrogatepass")
        if end and not end.endswith(b"\n"):  # the last line has broken off
            line = b"\n" + line
        try:
            if end and (number % KEPT == 0 or path.stat().st_size > MOST_BYTES):
                get_hub().threadpool.apply(_write_anew, (path, line))  # megabytes: requests go on meanwhile
            else:
                with open(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600), "ab") as file:
                    file.write(line)
        except OSError as error:
            self._say(f"the history of configurations cannot be written: {path}: {error.strerror}")
            return self._remember(one, number)
        return number

    def _remember(self, one: KeptConfiguration, number: int) -> int:
        self._own = (*self._own, replace(one, id=number))[-KEPT:]
        return number

    def _bytes(self, most: int | None = None) -> bytes:
        """Read the file, or so much of its end at most."""
        if self._path is None:
            return b""
        try:
            with open(self._path, "rb") as file:
                if most is not None:
                    file.seek(max(0, os.fstat(file.fileno()).st_size - most))
                return file.read()
        except FileNotFoundError:
            return b""
        except OSError as error:
            self._say(f"the history of configurations cannot be read: {self._path}: {error.strerror}")
            return b""

    def _read(self, data: bytes) -> Iterator[KeptConfiguration]:
        broken = 0
        for line in data.splitlines():
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


def _write_anew(path: Path, line: bytes) -> None:
    """Write the newest lines, and one more. Raises OSError."""
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    write_private(path, b"".join(_newest_lines(whole)) + line.lstrip(b"\n"), sync=False)


def _last_id(data: bytes) -> int:
    """Return the id of the last line that is whole and has one; 0 where there is none."""
    end = data.rfind(b"\n")
    while end >= 0:
        start = data.rfind(b"\n", 0, end)
        if found := _id_at(data, start + 1):
            return int(found[1])
        end = start
    return 0


def _newest_lines(data: bytes) -> list[bytes]:
    """Return the lines that stay beside one more."""
    lines = data.splitlines(keepends=True)[-(KEPT - 1) :]
    size = sum(map(len, lines))
    while size > MOST_BYTES:
        size -= len(lines.pop(0))
    return lines
