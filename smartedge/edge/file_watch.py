"""The configuration's own file, reloaded when somebody changes it, where it says `"watch": true`."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

from smartedge.balancer.errors import EdgeError
from smartedge.config.model import ConfigError
from smartedge.discovery.file_look import FileLook
from smartedge.edge.announce import Announcer
from smartedge.edge.reload_report import Reloaded
from smartedge.workers.periodic import PeriodicWork

log = logging.getLogger("smartedge")

BY: Final = "the file that was changed"
"""Who has asked for such a reload, as its event says."""

LOOK_S: Final = 0.5
"""How often it is looked at."""

RETRY_S: Final = 10.0
"""What was refused is tried again after so long, for it may be right by then: a certificate that has come after it."""


class FileWatch:
    """Reloads the file when it has changed, in the worker that leads; owned by the Edge.

    A reload that finds what is in use already changes nothing, so one that somebody else has asked for, or a file that was only
    touched, leads to no other. What is refused is logged once, and changes nothing.

    path: of the file, None where there is none. is_wanted: whether this worker is to look now. reload: `Edge.reload`.
    """

    def __init__(
        self, path: str | None, is_wanted: Callable[[], bool], reload: Callable[..., Reloaded], announcer: Announcer
    ) -> None:
        self._path = path
        self._file: FileLook | None = None
        self._is_wanted = is_wanted
        self._reload = reload
        self._announcer = announcer
        self._is_new = False
        self._retry_at = 0.0
        self._said = ""
        self._work = PeriodicWork(self.look, LOOK_S)

    def start(self) -> None:
        """Begin to look, if there is something to look at."""
        if self._path is not None:
            self._work.start()

    def stop(self) -> None:
        """Look no more."""
        self._work.stop()

    def look(self) -> None:
        """Reload what has changed since the last look; the first one takes what is there for a change."""
        if self._path is None or not self._is_wanted():
            self._file = None
            return
        self._file = self._file or FileLook(self._path)
        try:
            if self._file.read_changed() is not None:
                self._is_new, self._retry_at = True, 0.0
        except OSError as error:
            self._complain(f"{self._path} cannot be read, and what is in use stays: {error.strerror or error}")
            return
        if self._is_new and time.monotonic() >= self._retry_at:
            self._use_change(self._file)

    def _use_change(self, file: FileLook) -> None:
        try:
            changed = self._reload(None, by=BY).document["changed"]
        except (ConfigError, EdgeError) as error:
            if file.is_settled:  # else it may be half written
                self._retry_at = time.monotonic() + RETRY_S
                if self._complain(f"{self._path} has changed and is refused, nothing changed: {error}"):
                    self._announcer.reload_refused(error, BY)
            return
        self._is_new, self._said = False, ""
        if changed:
            log.info("%s has changed", self._path)

    def _complain(self, text: str) -> bool:
        """Log what nobody has been told of; say whether that was so."""
        if is_new := text != self._said:
            self._said = text
            log.error("%s", text)
        return is_new
