"""The files that a configuration names: read at the start, at every reload, and again when somebody has replaced them.

That happens by a rename, by writing into them, or by turning a symbolic link (Kubernetes), so they are looked at once a second
(a few µs each) by every worker for itself. What cannot be used changes nothing, and is said once.
"""

from __future__ import annotations

import hashlib
import logging
import os
import ssl
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from smartedge.config.model import Config, ConfigError
from smartedge.config.problems import Step, path_text
from smartedge.http.tls import Contexts, ServerTls

log = logging.getLogger("smartedge")

Use = Callable[[], bool]
"""Puts to use what was read; says whether it is something else than before."""


class NamedFiles:
    """Certificates, keys, authorities and secrets, of one worker. Owned by its `Edge`.

    tls: the certificate that clients are shown. contexts: the TLS settings towards backends. on_renewed: called when those, or
    the secret of sticky cookies, are others than before. unusable: makes the error about a key of the configuration.
    """

    def __init__(
        self,
        tls: ServerTls,
        contexts: Contexts,
        on_renewed: Callable[[], None],
        unusable: Callable[[tuple[Step, ...], str], ConfigError],
    ) -> None:
        self._tls = tls
        self._contexts = contexts
        self._on_renewed = on_renewed
        self._unusable = unusable
        self._secret: tuple[str, bytes] | None = None
        self._told: set[str] = set()
        self._stamps: dict[str, object] = {}
        self._began = False

    def begin(self, config: Config) -> None:
        """Read all of them for the first time; raises ConfigError."""
        for _, read in self._parts(config):
            read()()
        self._stamps = _stamps(config)
        self._began = True

    def prepare(self, config: Config) -> Callable[[], tuple[str, ...]]:
        """Read all of them again; raises ConfigError, or gives what puts them to use, and says which keys' are others now.

        Those that `look` has found since the last time are among them: whoever replaces a file and reloads hears of it.
        """
        stamps = _stamps(config)
        parts = [(key, read()) for key, read in self._parts(config)]

        def use() -> tuple[str, ...]:
            self._stamps = stamps
            renewed = [key for key, use in parts if use()]
            if any(key != "certfile" for key in renewed):
                self._on_renewed()
            found, self._told = self._told, set()
            return tuple(sorted(found.union(renewed)))

        return use

    def look(self, config: Config) -> None:
        """Read again what has changed; called once a second."""
        stamps = _stamps(config)
        if stamps == self._stamps:
            return
        self._stamps = stamps
        renewed = []
        for key, read in self._parts(config):
            try:
                if read()():
                    renewed.append(key)
            except ConfigError as error:
                log.error("a replaced file cannot be used, the one before stays in use: %s", error)
        self._told.update(renewed)
        if renewed:
            log.warning("files have been replaced and are in use: %s", ", ".join(renewed))
        if any(key != "certfile" for key in renewed):
            self._on_renewed()

    def _parts(self, config: Config) -> Iterator[tuple[str, Callable[[], Use]]]:
        """Give what reads each of them, by the key that names it; it raises ConfigError."""
        if config.certfile is not None:
            yield self._part(("certfile",), partial(self._certificate, config.certfile, config.keyfile))
        done = set()
        for index, spec in enumerate(config.specs()):
            if spec.url.startswith("https:") and spec.tls not in done:
                done.add(spec.tls)
                yield self._part(("backends", index, "tls"), partial(self._contexts.prepare, spec.tls))
        if config.sticky.secret_file is not None:
            yield self._part(("sticky", "secret_file"), partial(self._read_secret, config.sticky.secret_file))

    def _part(self, steps: tuple[Step, ...], read: Callable[[], Use]) -> tuple[str, Callable[[], Use]]:
        def reading() -> Use:
            try:
                return read()
            except (OSError, ssl.SSLError, ValueError) as error:
                raise self._unusable(steps, f"cannot be used: {error}") from error

        return path_text(steps), reading

    def _certificate(self, cert_file: str, key_file: str | None) -> Use:
        use = self._tls.prepare(cert_file, key_file)
        # A port that began without TLS stays so until a restart (as the reload's answer says).
        return use if self._tls() is not None or not self._began else lambda: False

    def _read_secret(self, path: str) -> Use:
        found = path, hashlib.sha256(Path(path).read_bytes()).digest()

        def use() -> bool:
            before, self._secret = self._secret, found
            return before is not None and before[0] == path and before != found

        return use


def _stamps(config: Config) -> dict[str, object]:
    """Give what tells each file from its successor."""
    paths = {config.certfile, config.keyfile, config.sticky.secret_file}
    for backend in config.backends:
        if backend.tls is not None:
            paths |= {backend.tls.ca_file, backend.tls.cert_file, backend.tls.key_file}
    return {path: _stamp(path) for path in paths if path is not None}


def _stamp(path: str) -> object:
    try:
        found = os.stat(path)
    except OSError as error:
        return error.errno
    return found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_size
