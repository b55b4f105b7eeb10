"""The files that a configuration names: read at the start, at every reload, and again when somebody has replaced them.

That happens by a rename, by writing into them, or by turning a symbolic link (Kubernetes), so they are looked at once a second
(a few µs each) by every worker for itself. What cannot be used changes nothing, and is logged once.
"""

from __future__ import annotations

import hashlib
import logging
import ssl
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

from smartedge.acme.renewals import Order, missing_library, order_of
from smartedge.balancer.spec import TlsSpec
from smartedge.config.model import Config, ConfigError
from smartedge.config.problems import Step, path_text
from smartedge.edge.origin import ConfigOrigin
from smartedge.http.certificates import file_stamp
from smartedge.http.server_tls import Shown, TlsSettings, UnusableTls, read_shown
from smartedge.http.tls import backend_context
from smartedge.process.tls_settings import tls_settings, tls_stamps

log = logging.getLogger("smartedge")

SHOWN: Final = "shown"
ACME: Final = "acme"

Source = TlsSpec | None | str | tuple[str, str]
"""What a file, or several together, are for: SHOWN, ACME, the TLS settings of a backend, or the content of that path."""


class Held(NamedTuple):
    """What the files of one key hold. key: `backends[0].tls`. digest: of the files. value: TLS settings, or the content."""

    key: str
    digest: bytes
    value: Any = None


@dataclass(frozen=True, slots=True)
class Files:
    """What stands in all the files, as it was read; part of a `Setup`. stamps: see `file_stamps`."""

    held: Mapping[Source, Held]
    stamps: Mapping[str, object]

    @property
    def shown(self) -> Shown | None:
        """What clients are shown, None where they speak plain HTTP."""
        held = self.held.get(SHOWN)
        return None if held is None else held.value

    def content_of(self, path: str) -> bytes:
        """Give what a file holds, of a secret, users or a page, without the white space around it."""
        content: bytes = self.held["content", path].value
        return content

    def context_for(self, tls: TlsSpec | None) -> Any:
        """Give the TLS settings towards a backend; those of one that has gone are made anew. Raises OSError, ValueError."""
        held = self.held.get(tls)
        return backend_context(tls) if held is None else held.value

    def are_all_of(self, config: Config) -> bool:
        """Whether these are all the files of a configuration that differs from theirs in its backends alone."""
        specs = (
            each.config.tls_spec_of(one)
            for each in config.all_services()
            for one in each.config.backends
            if one.url.startswith("https:")
        )
        return all(spec in self.held for spec in specs)

    def holds_the_same_as(self, other: Files) -> bool:
        """Whether they are for the same, and hold the same."""
        return {source: one.digest for source, one in self.held.items()} == {
            source: one.digest for source, one in other.held.items()
        }

    def renewed_since(self, before: Files) -> tuple[str, ...]:
        """Return the keys whose files hold something else than before, though what they are for is the same."""
        return tuple(one.key for source, one in self.held.items() if before.held.get(source, one).digest != one.digest)


def read_files(config: Config, origin: ConfigOrigin, before: Files | None, *, keep: bool = False) -> Files:
    """Read all of them; raises ConfigError, which names the key.

    before: what was in use; what still holds the same is kept. keep: what cannot be used is logged, and stays as it was before.
    """
    stamps = file_stamps(config)  # first: what changes while we read is looked at again
    old = {} if before is None else before.held
    held: dict[Source, Held] = {}
    for source, steps, read in _parts(config):
        key = path_text(steps)
        try:
            held[source] = read(key, old.get(source))
        except (OSError, ssl.SSLError, ValueError) as error:
            wrong = _unusable(origin, steps, error)
            if not keep or source not in old:
                raise wrong from error
            log.error("a replaced file cannot be used, the one before stays in use: %s", wrong)
            held[source] = old[source]
    if before is not None:  # whether a port speaks TLS stays so until a restart (as the reload's answer says)
        held.pop(SHOWN, None) if SHOWN not in old else held.setdefault(SHOWN, old[SHOWN])
    return Files(held, stamps)


def file_stamps(config: Config) -> dict[str, object]:
    """Give what tells each file from its successor, by its path."""
    paths: set[str | None] = {*(path for _, path in _plain_files(config))}
    for tls in (backend.tls for service in config.all_services() for backend in service.config.backends):
        if tls is not None:
            paths |= {tls.ca_file, tls.cert_file, tls.key_file}
    return {path: file_stamp(path) for path in paths if path is not None} | tls_stamps(config)


def _unusable(origin: ConfigOrigin, steps: tuple[Step, ...], error: Exception) -> ConfigError:
    """Make the error for what cannot be used; of certificates all are named at once."""
    if not isinstance(error, UnusableTls):
        return origin.unusable(steps, f"cannot be used: {error}")
    each = [origin.unusable(where, message) for where, message in error.problems]
    return ConfigError([problem for one in each for problem in one.problems], status=422, origin=each[0].origin)


Read = Callable[[str, Held | None], Held]
"""Reads the files of a key; given what they held before. Raises OSError, ssl.SSLError or ValueError."""


def _parts(config: Config) -> Iterator[tuple[Source, tuple[Step, ...], Read]]:
    """Give what each of them is for, the key that names it, and what reads it."""
    if (settings := tls_settings(config)) is not None:
        yield SHOWN, ("certificates" if config.certfile is None else "certfile",), partial(_read_shown, settings)
    if (order := order_of(config)) is not None:
        yield ACME, ("acme",), partial(_be_ready_for, order)
    done = set()
    for service in config.all_services():
        for index, backend in enumerate(service.config.backends):
            if backend.url.startswith("https:") and (tls := service.config.tls_spec_of(backend)) not in done:
                done.add(tls)
                yield tls, (*service.steps, "backends", index, "tls"), partial(_read_tls, tls)
    for steps, path in _plain_files(config):
        yield ("content", path), steps, partial(_read_content, path)


def _plain_files(config: Config) -> Iterator[tuple[tuple[Step, ...], str]]:
    """Give the files that are kept as they are, each with the key that names it."""
    for service in config.all_services():
        if (secret_file := service.config.sticky.secret_file) is not None:
            yield (*service.steps, "sticky", "secret_file"), secret_file
    for index, route in enumerate(config.routes):
        if route.basic_auth is not None:
            yield ("routes", index, "basic_auth", "file"), route.basic_auth.file
        for status, path in route.error_pages:
            yield ("routes", index, "error_pages", str(status)), path


def _read_shown(settings: TlsSettings, key: str, old: Held | None) -> Held:
    shown = read_shown(settings, None if old is None else old.value)
    if old is not None and (old.digest, old.value.settings) == (shown.digest, settings):
        return old._replace(key=key)
    return Held(key, shown.digest, shown)


def _be_ready_for(order: Order, key: str, _old: Held | None) -> Held:
    if missing := missing_library():
        raise ValueError(missing)
    order.storage.make()
    return Held(key, b"")


def _read_tls(tls: TlsSpec | None, key: str, old: Held | None) -> Held:
    digest = b"" if tls is None else _digest(tls.ca_file, tls.cert_file, tls.key_file)
    if old is not None and old.digest == digest:
        return old._replace(key=key)
    return Held(key, digest, backend_context(tls))  # loading the system's authorities takes milliseconds


def _read_content(path: str, key: str, _old: Held | None) -> Held:
    return Held(key, _digest(path), Path(path).read_bytes().strip())


def _digest(*paths: str | None) -> bytes:
    return hashlib.sha256(b"".join(Path(path).read_bytes() for path in paths if path)).digest()
