"""Where a worker's configuration comes from: its file, if there is one, with variables and flags laid over what it says."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping
from typing import Any, Final

from smartedge.config.model import Config, ConfigError, Problem, at_once, parse
from smartedge.config.problems import Step
from smartedge.config.sources import Overlay, is_read_once
from smartedge.discovery.config_file import ConfigFile
from smartedge.workers.periodic import Pauses, give_way

LONG_BYTES: Final = 8_000
"""From here on the steps of reading a text take long enough to let requests go on between them."""


READ_ONCE: Final = "it is no regular file, which was read at the start and cannot be read again"
"""What is said of a pipe."""


class ConfigOrigin:
    """One of each worker, owned by its `Edge`; the Reloader reads and replaces the file, the SetupBuilder names values by it.

    path: of the file, None when flags named the backends, or for what can be read only once. pipe: such a file, which was read
    at the start; nothing is kept in it or beside it. overrides: flags, laid over every new configuration too.
    file: None where there is no path. may_lack: there was no file at the start, and need be none, for flags or variables say
    what has to be said. env: the variables.
    """

    def __init__(
        self, path: str | os.PathLike[str] | None, env: Mapping[str, str], overrides: Mapping[str, Any] | None = None
    ) -> None:
        name = None if path is None else os.fspath(path)
        self.pipe = name if name is not None and is_read_once(name) else None
        self.path = name if self.pipe is None else None
        self.file = None if self.path is None else ConfigFile(self.path)
        self.may_lack = Overlay(env, overrides or {}).hides("backends") and not os.path.exists(path or "")
        self._name = name or "the request body"
        self.env = env
        self._overrides = overrides or {}

    def read_text(self) -> bytes | None:
        """Return what the file says now, None if there is none; raises OSError, of a pipe as well."""
        if self.pipe is not None:
            raise OSError(errno.ESPIPE, READ_ONCE, self.pipe)
        return None if self.file is None else self.file.read()

    def text_of(self, config: Config) -> str:
        """Return a configuration that was read of a pipe as a text, without what flags and variables have laid over it."""
        overlay, document = Overlay(self.env, self._overrides), json.loads(config.to_json())
        return json.dumps({key: value for key, value in document.items() if key == "backends" or not overlay.hides(key)})

    def parse_text(self, text: bytes) -> Config:
        """Make a Config of a text, while requests go on; raises ConfigError."""
        return parse(
            text,
            origin=self._name,
            env=self.env,
            overrides=self._overrides,
            pause=_pauses() if len(text) >= LONG_BYTES else at_once,
        )

    def unusable(self, steps: tuple[Step, ...], message: str) -> ConfigError:
        """Make the error for what is right in itself and can't be used; it names where the value came from."""
        where = Overlay(self.env, self._overrides).where(steps)
        return ConfigError([Problem(where, message)], status=422, origin=self._name)


def _pauses() -> Pauses:
    """Let requests go on now, as what has led here has held them up already, and make what does so from here on."""
    give_way()
    return Pauses()
