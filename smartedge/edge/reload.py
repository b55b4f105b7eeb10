"""A new configuration, from text to use: parse, build, persist, publish, apply; all of it or nothing, one writer at a time.

With several workers there is one writer among all of them, and the others follow (workers/generations.py). Nothing is
logged or printed here: `Applied` says what happened, an error says why nothing did.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from smartedge.config.found import NOTHING_FOUND, Change, Found, Sets, parse_found, sources_of
from smartedge.config.model import Config, at_once, parse_canonical
from smartedge.edge.files import Files, file_stamps, read_files
from smartedge.edge.origin import ConfigOrigin
from smartedge.edge.persistence import FilePersistence, Persistence
from smartedge.edge.reload_errors import NotShared, PreconditionFailed
from smartedge.edge.reload_report import Applied, report, settings_of
from smartedge.edge.setup import Setup
from smartedge.workers.generations import CONFIRM_S, Alone, Confirmed, Generation, Peers
from smartedge.workers.late_lock import LateLock
from smartedge.workers.periodic import Pauses, give_way
from smartedge.workers.state_dir import StateError

MANY: Final = 100
"""With so many backends requests go on between the steps of a reload."""

_HERE_ALONE: Final = Confirmed(1, {})
"""By this worker; the others are not waited for."""


class Newest(NamedTuple):
    """The newest generation of the edge. config: with what was found."""

    config: Config
    found: Found
    number: int
    serial: int


class Discovered(NamedTuple):
    """What another generation of found backends has changed."""

    generation: int
    changes: Sequence[Change]


class Reloader:
    """Holds the setup in use, and is the only way to another one; owned by the `Edge`, called by the pages and the Follower.

    Six things lead to another setup, and all take the same way: a setup is built (`build`, which raises and has changed
    nothing), and then put to use (`use`, which fails no more). `reload` is asked for; it parses a text, persists it, gives the
    configuration the next number (its generation) and publishes it for the other workers. `use_found` does so with what sources
    have found, `use_cluster` with what another node has reloaded. `follow_newest` finds that another worker has published one.
    `rebuild_setup` is called when names lead elsewhere, or the worker has taken its place: the configuration is the same.
    `use_replaced_files` finds that a file which the configuration names holds something else.

    One lock keeps them apart in this worker, and the lock of `Peers` keeps the reloads of all workers apart. Between the two a
    reload starts from the newest configuration of the edge, which this worker may not have applied yet.

    origin: has the file, if there is one. setup: what is in use now, as this generation; its configuration has the backends that
    were found (`found`) beside those that were written.
    """

    def __init__(
        self,
        origin: ConfigOrigin,
        setup: Setup,
        build: Callable[[Config, Setup, Files | None], Setup],
        use: Callable[[Setup], None],
        now: Callable[[], float] = time.monotonic,
        generation: int = 1,
    ) -> None:
        self.setup = setup
        self.etag = setup.config.etag
        self.found = NOTHING_FOUND
        self.generation, self.serial = generation, 1
        self._origin = origin
        self._build = build
        self._use = use
        self._now = now
        self._persistence: Persistence = FilePersistence(origin)
        self._at_start = settings_of(setup.config)
        self._lock = LateLock()
        self._peers: Peers = Alone()
        self._followed: object = None
        self._parsed: tuple[object, Config] = (None, setup.config)
        self._renewed: frozenset[str] = frozenset()

    @property
    def shown_etag(self) -> str:
        """What tells the configuration in use from others, as If-Match has it."""
        return self._persistence.etag_of(self.setup.config, self.generation)

    def keep_in(self, persistence: Persistence) -> None:
        """Keep configurations there from here on, instead of in the file."""
        self._persistence = persistence

    def join_workers(self, peers: Peers) -> None:
        """Be one of several workers from here on: start from the newest generation, or publish the first.

        Raises StateError, or what `build` raises when the newest generation can't be applied here.
        """
        with self._lock:
            self._peers = peers
            with peers.writing():
                if peers.newest() is None:  # also alone: then nothing is published
                    peers.publish(self.generation, self.serial, self.setup.config.to_json(), self.found.text)
                    self._confirm(self.generation, self.serial, peers.mark())
                else:
                    self._catch_up()

    def follow_newest(self) -> bool:
        """Apply what another worker has published since; whether there was something. Raises what `build` raises."""
        if self._peers.mark() == self._followed:
            return False
        with self._lock:
            return self._catch_up()

    def reload(
        self,
        body: bytes | None = None,
        *,
        if_match: str | None = None,
        wait: bool = True,
        seen: int | None = None,
        persist: bool = True,
    ) -> Applied:
        """Use the configuration in `body` and persist it, if wanted; without a body, use what the file says now.

        wait: for the other workers to have it too. seen: the generation that whoever asks goes by, None for the newest.

        if_match: the value of an If-Match header, which guards against overwriting somebody else's change.
        A body that means what is in use already is persisted too: how the file is written is the operator's choice,
        and a value that a flag or a variable hides now counts after a restart without them.
        """
        started = self._now()
        with self._lock, self._exclusive_among_workers():
            newest = self._newest()
            old, number, serial = newest.config, newest.number, newest.serial
            if if_match is not None and not _matches(if_match, etag := self._persistence.etag_of(old, number)):
                raise PreconditionFailed(etag)
            text = self._persistence.text_of(body)
            config = self._origin.parse_text(text)
            found = newest.found.only_for(sources_of(config.all_services()))
            config = config.with_found(found.backends)
            setup = self._build(config, self.setup, None)
            self._pause()
            renewed = self._renewed.union(setup.files.renewed_since(self.setup.files))
            is_other = config.etag != old.etag or bool(renewed)
            self._pause()
            canonical = config.to_json() if is_other else ""
            self._pause()
            kept_body = body if persist else None
            with self._persistence.persisted(kept_body, text, number if seen is None else seen, is_other=is_other) as kept:
                if is_other or kept != number:
                    serial += 1
                    self._peers.publish(kept, serial, canonical or config.to_json(), found.text)
            self._pause()
            number = kept
            self._use_if_other(setup, found)
            self._renewed = frozenset()
            self._confirm(number, serial, self._peers.mark())
        # Unlocked: the next one need not wait for a worker that does not answer, and may come from there.
        self._pause()
        confirmed = self._peers.wait(serial, CONFIRM_S if wait else 0.0)
        applied = self._report(old, config, number, confirmed, renewed, started, persisted=self._persistence.persists and persist)
        self._pause()
        return replace(applied, on_trial=not persist, etag=self._persistence.etag_of(config, number))

    def use_cluster(self, text: bytes, number: int, *, counts_up: bool = False) -> Applied | None:
        """Go on with what the cluster has, under its number; None where that is in use here already.

        counts_up: it is the cluster of before, so a lower number is old news: another worker here has reloaded meanwhile.
        Raises ConfigError, NotShared, or what `build` raises, and has changed nothing. Called by the worker that leads; the
        others are not waited for (see `confirmed`).
        """
        started = self._now()
        with self._lock, self._exclusive_among_workers():
            newest = self._newest()
            config = self._origin.parse_text(text)
            if (newest.number, newest.config.etag) == (number, config.etag) or (counts_up and number < newest.number):
                self._catch_up()
                return None
            found = newest.found.only_for(sources_of(config.all_services()))
            config = config.with_found(found.backends)
            setup = self._build(config, self.setup, None)
            renewed = setup.files.renewed_since(self.setup.files)
            self._publish_and_use(setup, found, number, newest.serial + 1)
        return self._report(newest.config, config, number, _HERE_ALONE, renewed, started, persisted=True)

    def confirmed(self, applied: Applied) -> Applied:
        """Wait for the other workers to have it, too, and return how many of them have."""
        started = self._now()
        confirmed = self._peers.wait(self.serial, CONFIRM_S)
        return applied.confirmed(confirmed, applied.took_s + self._now() - started)

    def check(self, text: bytes) -> None:
        """Raise what a reload with this text would raise before anything is changed: ConfigError, or what `build` raises."""
        self.preview(text)

    def preview(self, text: bytes) -> tuple[Config, Applied]:
        """Return the configuration of a text, and what a reload with it would do; raises as `check`, and changes nothing."""
        started = self._now()
        with self._lock:
            old, config = self.setup.config, self._origin.parse_text(text)
            config = config.with_found(self.found.only_for(sources_of(config.all_services())).backends)
            with _not_shared_without_room():
                setup = self._build(config, self.setup, None)
            renewed, persisted = setup.files.renewed_since(self.setup.files), self._persistence.persists
            applied = self._report(old, config, self.generation, _HERE_ALONE, renewed, started, persisted=persisted)
        return config, applied

    def text_of(self, body: bytes | None) -> bytes:
        """Return the text that a reload would use. Raises ReloadError."""
        return self._persistence.text_of(body)

    def text_in_use(self) -> bytes | None:
        """Return the text of what is kept now, to be edited; None where nothing keeps it. Raises OSError or ReloadError."""
        return self._persistence.text_in_use()

    def use_found(self, sets: Sets) -> Discovered | None:
        """Go on with what these sources have found; return what is another by that, None when nothing is.

        Raises NotShared, or what `build` raises, and has changed nothing. Called by the worker that asks the sources for all.
        """
        with self._lock, self._exclusive_among_workers():
            newest = self._newest()
            asked = sources_of(newest.config.all_services())
            found = newest.found.replaced({key: backends for key, backends in sets.items() if key in asked})
            if found is newest.found:
                return None
            config = newest.config.with_found(found.backends)
            files = self.setup.files if self.setup.files.are_all_of(config) else None
            setup = self._build(config, self.setup, files)
            number = self._persistence.number_of_found(newest.number)
            self._publish_and_use(setup, found, number, newest.serial + 1)
        return Discovered(number, found.changes_since(newest.found))

    def rebuild_setup(self) -> None:
        """Build all anew for the configuration in use, and use that; raises what `build` raises."""
        with self._lock:
            self._put_to_use(self._build(self.setup.config, self.setup, None))

    def use_replaced_files(self) -> tuple[str, ...]:
        """Go on with files that somebody has replaced, and return the keys that name them; called once a second.

        Of a file that cannot be used what it held before stays in use. Whoever reloads next hears of these, too.
        """
        if file_stamps(self.setup.config) == self.setup.files.stamps:
            return ()
        with self._lock:
            before = self.setup.files
            files = read_files(self.setup.config, self._origin, before, keep=True)
            if renewed := files.renewed_since(before):
                self._put_to_use(self._build(self.setup.config, self.setup, files))
                self._renewed = self._renewed.union(renewed)
            else:
                self.setup = replace(self.setup, files=files)
        return renewed

    def _pause(self) -> None:
        """Let requests go on between two steps of a reload, if there are so many backends that each takes milliseconds."""
        if self._has_many():
            give_way()

    def _has_many(self) -> bool:
        return sum(len(one.backends) for one in self.setup.services.values()) >= MANY

    @contextlib.contextmanager
    def _exclusive_among_workers(self) -> Iterator[None]:
        """Keep the other workers' reloads out; raises NotShared when that can't be done, or the state directory fails us."""
        with _not_shared_without_room(), self._peers.writing():
            yield

    def _newest(self) -> Newest:
        """Return what is the edge's newest, which may not be in use here yet; called under the lock."""
        if self._peers.mark() == self._followed or (newest := self._peers.newest()) is None:
            return Newest(self.setup.config, self.found, self.generation, self.serial)
        return self._understood(newest)

    def _understood(self, newest: Generation) -> Newest:
        """Make sense of what another worker has published; what is as it is here is taken from there."""
        if newest.config != self._parsed[0]:
            self._parsed = newest.config, parse_generation(newest, Pauses() if self._has_many() else at_once)
        try:
            found = parse_found(newest.found, self.found)
        except ValueError as error:
            raise StateError(f"what was discovered cannot be read: {error}") from error
        return Newest(self._parsed[1].with_found(found.backends), found, newest.number, newest.serial)

    def _catch_up(self) -> bool:
        """Apply the newest generation, unless it is in use; called under the lock."""
        mark = self._peers.mark()  # first: what comes after it is news again
        if mark == self._followed or (published := self._peers.newest()) is None:
            return False
        self._pause()
        newest = self._understood(published)
        self._pause()
        setup = self._build(newest.config, self.setup, None)
        self._pause()
        self._use_if_other(setup, newest.found)
        self._confirm(newest.number, newest.serial, mark)
        return True

    def _publish_and_use(self, setup: Setup, found: Found, number: int, serial: int) -> None:
        """Have the other workers follow, and use it here; called under both locks, when the build has succeeded."""
        self._pause()
        self._peers.publish(number, serial, setup.config.to_json(), found.text)
        self._pause()
        self._use_if_other(setup, found)
        self._confirm(number, serial, self._peers.mark())

    def _use_if_other(self, setup: Setup, found: Found) -> None:
        """Use a setup, unless it is of the configuration in use, the same was found, and its files hold the same."""
        if setup.config.etag != self.etag or found is not self.found or setup.files.renewed_since(self.setup.files):
            self.found = found
            self._put_to_use(setup)

    def _put_to_use(self, setup: Setup) -> None:
        self._use(setup)
        self.setup, self.etag = setup, setup.config.etag

    def _confirm(self, number: int, serial: int, mark: object) -> None:
        """Say that this generation is in use here. mark: of the file that it was read from or written to."""
        self.generation, self.serial, self._followed = number, serial, mark
        self._peers.confirm(number, serial)

    def _report(
        self,
        old: Config,
        new: Config,
        number: int,
        confirmed: Confirmed,
        renewed: Iterable[str],
        started: float,
        *,
        persisted: bool,
    ) -> Applied:
        """Tell what has changed between two configurations. renewed: keys of files. started: when the reload did."""
        return report(
            old,
            new,
            self._at_start,
            number,
            confirmed,
            changed=new.etag != old.etag,
            renewed=tuple(sorted(renewed)),
            persisted=persisted,
            took_s=self._now() - started,
        )


def parse_generation(generation: Generation, pause: Callable[[], None] = at_once) -> Config:
    """Make a Config of a generation's document, over which nothing is laid any more. Raises ConfigError."""
    return parse_canonical(generation.config, "the newest generation", pause)


def _matches(if_match: str, etag: str) -> bool:
    """Compare strongly, as If-Match must (RFC 9110 section 13.1.1): a weak tag never matches, `*` always does."""
    tags = [tag.strip() for tag in if_match.split(",")]
    return "*" in tags or f'"{etag}"' in tags


@contextlib.contextmanager
def _not_shared_without_room() -> Iterator[None]:
    """Have trouble with the state directory be a reload that is refused, through no fault of the configuration."""
    try:
        yield
    except StateError as error:
        raise NotShared(f"{error}; nothing changed") from error
