"""Where a configuration is kept, so that it is there after a restart: in its file, or in the cluster's key."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Protocol

from smartedge.config.model import Config
from smartedge.discovery.config_file import ConfigFile
from smartedge.edge.origin import READ_ONCE, ConfigOrigin
from smartedge.edge.reload_errors import ConfigNotReadable, NotPersisted


class Persistence(Protocol):
    """Keeps the configuration of one edge: FilePersistence, or that of a cluster; asked by the Reloader, one reload at a time."""

    @property
    def persists(self) -> bool:
        """Whether there is something that keeps it."""

    def etag_of(self, config: Config, number: int) -> str:
        """Return what tells a configuration from others. number: of its generation."""

    def text_of(self, body: bytes | None) -> bytes:
        """Return what a reload is to use: its body, or what is written where nothing was sent. Raises ReloadError."""

    def text_in_use(self) -> bytes | None:
        """Return the text of what is kept now, to be edited; None where nothing keeps it. Raises OSError or ReloadError."""

    def number_of_found(self, number: int) -> int:
        """Return the number of the generation that comes of found backends; that of a cluster stays, for it is all nodes'."""

    def persisted(self, body: bytes | None, text: bytes, number: int, *, is_other: bool) -> AbstractContextManager[int]:
        """Keep a text, and give the number of the generation that it is; whatever is raised inside undoes that if it can be.

        body: of the request, None where the text was read. number: of the generation before. is_other: it means something
        else than that, or the files that it names hold something else. Raises ReloadError, and then nothing has changed.
        """


class FilePersistence:
    """Keeps it in the configuration's file; made by the Edge, for its Reloader. origin: has the file, if there is one."""

    def __init__(self, origin: ConfigOrigin) -> None:
        self._file = origin.file
        self._pipe = origin.pipe
        self._may_lack = origin.may_lack

    @property
    def persists(self) -> bool:
        """Whether there is a file."""
        return self._file is not None

    def etag_of(self, config: Config, number: int) -> str:
        """Return the configuration's own."""
        return config.etag

    def text_of(self, body: bytes | None) -> bytes:
        """Return the body, or what the file says."""
        return self._read() if body is None else body

    def text_in_use(self) -> bytes | None:
        """Return what the file says; raises OSError."""
        return None if self._file is None else self._file.read()

    def number_of_found(self, number: int) -> int:
        """Return the next number."""
        return number + 1

    @contextlib.contextmanager
    def persisted(self, body: bytes | None, text: bytes, number: int, *, is_other: bool) -> Iterator[int]:
        """Have the file say `body`, if there are both; whatever is raised inside gets the file its old content back."""
        number += is_other
        file = self._file
        if file is None or body is None:
            yield number
            return
        self._may_lack = False
        old = _read_old(file)
        if body != old:
            try:
                file.write(body)
            except OSError as error:
                raise NotPersisted(f"{file.path} cannot be written: {_reason(error)}; nothing changed") from error
        try:
            yield number
        except BaseException as error:  # also when the request's greenlet is killed
            if body != old:
                _put_back(file, old, error)
            raise

    def _read(self) -> bytes:
        file = self._file
        if self._pipe is not None:
            raise ConfigNotReadable(f"{self._pipe} cannot be read: {READ_ONCE}; send the configuration as the request's body")
        if file is None:
            raise ConfigNotReadable("there is no configuration file; send the configuration as the request's body")
        try:
            text = file.read()
        except OSError as error:
            if self._may_lack and isinstance(error, FileNotFoundError):
                return b"{}"
            raise ConfigNotReadable(f"{file.path} cannot be read: {_reason(error)}") from error
        self._may_lack = False
        return text


def _read_old(file: ConfigFile) -> bytes | None:
    """Return what the file says before it is replaced, None where there is none; what cannot be read could not be put back."""
    try:
        return file.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise NotPersisted(f"{file.path} cannot be read: {_reason(error)}; nothing changed") from error


def _put_back(file: ConfigFile, old: bytes | None, error: BaseException) -> None:
    """Give the file its old content; `error` stays the one that is reported."""
    try:
        if old is None:
            os.unlink(os.path.realpath(file.path))
        else:
            file.write(old)
    except OSError as second:
        error.add_note(f"besides, the old configuration file could not be put back: {_reason(second)}")


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
