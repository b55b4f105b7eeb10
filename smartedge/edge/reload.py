"""A new configuration, from text to use: parse, persist, publish, apply; all of it or nothing, one writer at a time.

With several workers there is one writer among all of them, and the others follow (workers/generations.py). Nothing is
logged or printed here: `Applied` says what happened, an error says why nothing did.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Protocol

from smartedge.balancer.errors import EdgeError
from smartedge.edge.reload_report import Applied, report, settings_of
from smartedge.workers.generations import CONFIRM_S, Alone, Generation, Peers
from smartedge.workers.process import LateLock
from smartedge.workers.state_dir import StateError

if TYPE_CHECKING:
    from smartedge.config.model import Config


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


class NotShared(ReloadError):
    """The other workers could not be told, or are being told of another one, so this one was not applied either."""

    status = 503
    title = "Configuration not shared"


class Reloader:
    """Holds the configuration in use, and is the only way to another one.

    source: None when there is no file. config: what is in use now, as generation 1.
    load: makes a Config of text, with flags and variables laid over it; raises ConfigError. exact: the same of a canonical
    text, over which nothing is laid.
    prepare: builds everything that the Config needs; raises, or gives what swaps it in, which fails no more.
    renew: reads the files that the Config names, which may be others though the Config is the same; raises ConfigError, or
    gives what puts them to use and says which keys' are others now.
    may_lack: there was no file at the start, and need be none, for flags or variables say what has to be said. (One that was
    there and is gone is an error: its other settings would be lost.)
    """

    def __init__(
        self,
        source: Source | None,
        config: Config,
        load: Callable[[bytes], Config],
        prepare: Callable[[Config], Callable[[], None]],
        now: Callable[[], float] = time.monotonic,
        renew: Callable[[Config], Callable[[], tuple[str, ...]]] = lambda _: tuple,
        exact: Callable[[str], Config] | None = None,
        *,
        may_lack: bool = False,
    ) -> None:
        self.config = config
        self.etag = config.etag
        self.generation = 1
        self._source = source
        self._load = load
        self._exact = exact or (lambda text: load(text.encode()))
        self._prepare = prepare
        self._now = now
        self._renew = renew
        self._may_lack = may_lack
        self._at_start = settings_of(config)
        self._lock = LateLock()
        self._peers: Peers = Alone()
        self._followed: object = None

    def join(self, peers: Peers) -> None:
        """Be one of several workers from here on: start from the newest generation, or publish the first.

        Raises StateError, or what `prepare` raises when the newest generation can't be applied here.
        """
        with self._lock:
            self._peers = peers
            with peers.writing():
                if peers.newest() is None:  # also alone: then nothing is published
                    peers.publish(Generation(self.generation, self.config.to_json()))
                    self._in_use(self.config, self.generation, peers.mark())
                else:
                    self._catch_up()

    def follow(self) -> bool:
        """Apply what another worker has published since; whether there was something. Raises what `prepare` raises."""
        if self._peers.mark() == self._followed:
            return False
        with self._lock:
            return self._catch_up()

    def reload(self, body: bytes | None = None, *, if_match: str | None = None, wait: bool = True) -> Applied:
        """Use the configuration in `body` and persist it; without a body, use what the file says now.

        wait: for the other workers to have it too.

        if_match: the value of an If-Match header, which guards against overwriting somebody else's change.
        A body that means what is in use already is persisted too: how the file is written is the operator's choice,
        and a value that a flag or a variable hides now counts after a restart without them.
        """
        started = self._now()
        with self._lock, self._alone_among_workers():
            old, number = self._newest()
            if if_match is not None and not _matches(if_match, old.etag):
                raise PreconditionFailed(old.etag)
            config = self._load(self._read() if body is None else body)
            use_certificate = self._renew(config)
            changed = config.etag != old.etag
            use = self._prepare(config) if config.etag != self.etag else _nothing
            undo = _nothing if body is None else self._persist(body)
            try:
                renewed = use_certificate()
                if changed or renewed:
                    number += 1
                    self._peers.publish(Generation(number, config.to_json()))
            except BaseException as error:  # also when the request's greenlet is killed
                _undo(undo, error)
                raise
            use()
            self._in_use(config, number, self._peers.mark())
        # Unlocked: the next one need not wait for a worker that does not answer, and may come from there.
        confirmed = self._peers.wait(number, CONFIRM_S if wait else 0.0)
        return report(
            old,
            config,
            self._at_start,
            number,
            confirmed,
            changed=changed,
            renewed=renewed,
            persisted=self._source is not None,
            took_s=self._now() - started,
        )

    def rebuild(self) -> None:
        """Build all anew for the configuration in use, as what it leads to has changed; raises what `prepare` raises."""
        with self._lock:
            self._prepare(self.config)()

    @contextlib.contextmanager
    def _alone_among_workers(self) -> Iterator[None]:
        """Keep the other workers' reloads out; raises NotShared when that can't be done, or the state directory fails us."""
        try:
            with self._peers.writing():
                yield
        except StateError as error:
            raise NotShared(f"{error}; nothing changed") from error

    def _newest(self) -> tuple[Config, int]:
        """Return the edge's newest configuration and its number, which may not be in use here yet; called under the lock."""
        if self._peers.mark() == self._followed or (newest := self._peers.newest()) is None:
            return self.config, self.generation
        return self._exact(newest.config), newest.number

    def _catch_up(self) -> bool:
        """Apply the newest generation, unless it is in use; called under the lock."""
        mark = self._peers.mark()  # first: what comes after it is news again
        if mark == self._followed or (newest := self._peers.newest()) is None:
            return False
        config = self._exact(newest.config)
        use_certificate = self._renew(config)
        use = self._prepare(config) if config.etag != self.etag else _nothing
        use_certificate()
        use()
        self._in_use(config, newest.number, mark)
        return True

    def _in_use(self, config: Config, number: int, mark: object) -> None:
        """Say that this generation is in use here. mark: of the file that it was read from or written to."""
        self.config, self.etag, self.generation, self._followed = config, config.etag, number, mark
        self._peers.confirm(number)

    def _read(self) -> bytes:
        if self._source is None:
            raise NotReadable("there is no configuration file; send the configuration as the request's body")
        try:
            text = self._source.read()
        except OSError as error:
            if self._may_lack and isinstance(error, FileNotFoundError):
                return b"{}"
            raise NotReadable(f"{self._source.path} cannot be read: {_reason(error)}") from error
        self._may_lack = False
        return text

    def _persist(self, body: bytes) -> Callable[[], None]:
        """Write the file, unless it is the same; return what puts the old one back."""
        source = self._source
        if source is None:
            return _nothing
        self._may_lack = False
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
