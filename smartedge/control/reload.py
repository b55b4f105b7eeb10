"""A new configuration, from text to use: parse, persist, apply; all of it or nothing, one writer at a time.

Nothing is logged or printed here: `Applied` says what happened, an error says why nothing did.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any, Protocol

from smartedge.balancer.errors import EdgeError

if TYPE_CHECKING:
    from smartedge.config import Config

# What a process cannot change about itself while it runs: its listeners and the place of its counters.
RESTART_KEYS = ("bind", "admin_bind", "state_dir")


class Source(Protocol):
    """Where the configuration is kept, such as discovery/file.py's FileSource; `write` replaces all or nothing."""

    path: str

    def read(self) -> bytes:
        """Give the content; OSError if there is none."""

    def write(self, data: bytes, /) -> None:
        """Replace the content; after an OSError it is as before."""


class ReloadError(EdgeError):
    """A reload that was refused; nothing has changed, in memory or on disk. (A wrong text is a ConfigError.)"""

    title = "Reload failed"


class PreconditionFailed(ReloadError):
    """The configuration is not the one that If-Match asks for (RFC 9110 section 13.1.1); `etag` is that of ours."""

    status = 412
    title = "Precondition failed"
    blame = "client"

    def __init__(self, etag: str) -> None:
        super().__init__(f'the configuration is another one than If-Match asks for: its ETag is "{etag}"')
        self.etag = etag


class NotReadable(ReloadError):
    """There is no file to read the configuration from."""

    status = 400
    title = "Configuration not readable"
    blame = "client"


class NotPersisted(ReloadError):
    """The file could not be replaced, so the configuration was not applied either."""

    title = "Configuration not persisted"


@dataclass(frozen=True, slots=True)
class Applied:
    """What a reload did.

    generation: number of the configuration in use. changed: False when it was in use already; the number stays then.
    added, removed, changed_backends: ids. settings_changed: the top-level keys that differ, without `backends`.
    restart_needed: keys whose value waits for a restart, since this reload or an earlier one.
    certificate_renewed: whether new connections of clients are shown another certificate than before.
    persisted: whether a restart would find this configuration. took_s: seconds. live, applied: how many workers there are,
    and how many of them have it.
    """

    generation: int
    changed: bool
    etag: str
    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed_backends: tuple[str, ...]
    settings_changed: tuple[str, ...]
    restart_needed: tuple[str, ...]
    took_s: float
    persisted: bool
    live: int = 1
    applied: int = 1
    certificate_renewed: bool = False

    @property
    def message(self) -> str:
        """One line for people."""
        if not self.changed:
            parts = [f"unchanged: generation {self.generation} has been in use"]
        else:
            counts = {"added": self.added, "removed": self.removed, "changed": self.changed_backends}
            parts = [f"generation {self.generation} applied by {self.applied}/{self.live} workers in {self.took_s * 1000:.0f} ms"]
            parts += [f"{what} {', '.join(ids)}" for what, ids in counts.items() if ids]
            if self.settings_changed:
                parts.append(f"settings changed: {', '.join(self.settings_changed)}")
        if self.certificate_renewed:
            parts.append("certificate renewed")
        if self.restart_needed:
            parts.append(f"only after a restart: {', '.join(self.restart_needed)}")
        if not self.persisted:
            parts.append("not persisted, for there is no file")
        return "; ".join(parts)

    def to_json(self) -> dict[str, Any]:
        """The body of the answer to POST /api/reload."""
        document = asdict(self)
        workers = {"applied": document.pop("applied"), "live": document.pop("live")}
        return document | {"workers": workers, "message": self.message}


class Reloader:
    """Holds the configuration in use, and is the only way to another one.

    source: None when there is no file. config: what is in use now, as generation 1.
    load: makes a Config of text, with flags and variables laid over it; raises ConfigError.
    live: gives the number of live workers.
    apply: builds everything that the Config needs, then swaps it in; raises before it has changed anything.
    renew: reads the certificate that clients are shown, which may be another one though the Config is the same; raises
    ConfigError, or gives what swaps it in and says whether it is another one.
    """

    def __init__(
        self,
        source: Source | None,
        config: Config,
        load: Callable[[bytes], Config],
        apply: Callable[[Config], None],
        now: Callable[[], float] = time.monotonic,
        live: Callable[[], int] = lambda: 1,
        renew: Callable[[Config], Callable[[], bool]] = lambda _: lambda: False,
    ) -> None:
        self.config = config
        self.etag = config.etag
        self.generation = 1
        self._source = source
        self._load = load
        self._apply = apply
        self._now = now
        self._live = live
        self._renew = renew
        self._at_start = _settings(config)
        self._lock = Lock()

    def reload(self, body: bytes | None = None, *, if_match: str | None = None) -> Applied:
        """Use the configuration in `body` and persist it; without a body, use what the file says now.

        if_match: the value of an If-Match header, which guards against overwriting somebody else's change.
        A body that means what is in use already is persisted too: how the file is written is the operator's choice,
        and a value that a flag or a variable hides now counts after a restart without them.
        """
        with self._lock:
            started = self._now()
            if if_match is not None and not _matches(if_match, self.etag):
                raise PreconditionFailed(self.etag)
            config = self._load(self._read() if body is None else body)
            use_certificate = self._renew(config)
            undo = _nothing if body is None else self._persist(body)
            old, changed = self.config, config.etag != self.etag
            if changed:
                try:
                    self._apply(config)
                except BaseException as error:  # also when the request's greenlet is killed
                    _undo(undo, error)
                    raise
                self.config, self.etag = config, config.etag
                self.generation += 1
            return self._report(old, changed=changed, renewed=use_certificate(), took_s=self._now() - started)

    def _read(self) -> bytes:
        if self._source is None:
            raise NotReadable("there is no configuration file; send the configuration as the request's body")
        try:
            return self._source.read()
        except OSError as error:
            raise NotReadable(f"{self._source.path} cannot be read: {_reason(error)}") from error

    def _persist(self, body: bytes) -> Callable[[], None]:
        """Write the file, unless it is the same; return what puts the old one back."""
        source = self._source
        if source is None:
            return _nothing
        try:
            old = source.read()
        except FileNotFoundError:
            old = None
        except OSError as error:  # what cannot be read could not be put back
            raise NotPersisted(f"{source.path} cannot be read: {_reason(error)}; nothing changed") from error
        if body == old:
            return _nothing
        try:
            source.write(body)
        except OSError as error:
            raise NotPersisted(f"{source.path} cannot be written: {_reason(error)}; nothing changed") from error
        if old is None:
            return lambda: os.unlink(os.path.realpath(source.path))
        return lambda: source.write(old)

    def _report(self, old: Config, *, changed: bool, renewed: bool, took_s: float) -> Applied:
        before, after = _backends(old), _backends(self.config)
        settings = _settings(self.config)
        return Applied(
            generation=self.generation,
            changed=changed,
            etag=self.etag,
            added=tuple(label for label in after if label not in before),
            removed=tuple(label for label in before if label not in after),
            changed_backends=tuple(label for label in after if label in before and after[label] != before[label]),
            settings_changed=_differing(_settings(old), settings),
            restart_needed=tuple(key for key in _differing(self._at_start, settings) if self._needs_restart(key, settings)),
            took_s=took_s,
            persisted=self._source is not None,
            live=self._live(),
            certificate_renewed=renewed,
        )

    def _needs_restart(self, key: str, settings: dict[str, Any]) -> bool:
        """Whether another value of this key waits for a restart: a listener stays, and whether it speaks TLS."""
        if key == "certfile":
            return (self._at_start[key] is None) != (settings[key] is None)
        return key in RESTART_KEYS


def _backends(config: Config) -> dict[str, Any]:
    """Each backend as it is written out, by id. (Models are equal too when a default was written and when it was not.)"""
    return {backend.id: backend.model_dump(mode="json") for backend in config.backends}


def _settings(config: Config) -> dict[str, Any]:
    return config.model_dump(mode="json", exclude={"backends"})


def _differing(before: dict[str, Any], after: dict[str, Any]) -> tuple[str, ...]:
    return tuple(key for key in after if after[key] != before[key])


def _matches(if_match: str, etag: str) -> bool:
    """Compare strongly, as If-Match must (RFC 9110 section 13.1.1): a weak tag never matches, `*` always does."""
    tags = [tag.strip() for tag in if_match.split(",")]
    return "*" in tags or f'"{etag}"' in tags


def _undo(undo: Callable[[], None], error: BaseException) -> None:
    """Put the old file back; `error` stays the one that is reported."""
    try:
        undo()
    except OSError as second:
        error.add_note(f"besides, the old configuration file could not be put back: {_reason(second)}")


def _reason(error: OSError) -> str:
    return error.strerror or str(error)


def _nothing() -> None:
    """Undo where nothing was done."""
