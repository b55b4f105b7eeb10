"""One source at work: asked in a greenlet, begun anew when it fails, checked, and never able to take away what was good."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from math import inf
from random import Random
from time import monotonic
from typing import Any, Final

import gevent
from gevent.event import Event

from smartedge.config.backends import BackendConfig
from smartedge.config.named_class import described
from smartedge.discovery.backoff import MOST_S, Backoff
from smartedge.discovery.check import EntryChecker, entries_of, in_a_sentence, why_unbelieved
from smartedge.discovery.quiet_gap import QuietGap
from smartedge.discovery.source import Source, SourceError

log = logging.getLogger("smartedge")

FAILURES: Final = (Exception, SystemExit, gevent.Timeout)
"""What a source may raise without ending anything but itself: `sys.exit()` is meant for a script."""

AGAIN_S: Final = 1.0
"""A change that could not be put to use is handed on again after so long."""


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """What every kind of source has. allow_empty: an empty answer is believed. defaults: keys of `backends` for all found.

    most_wait_s: how long at most a source that fails is left alone.
    """

    allow_empty: bool = False
    defaults: Mapping[str, Any] = field(default_factory=dict)
    most_wait_s: float = MOST_S


class SourceRunner:
    """Keeps the backends that one source of one service has found; made, started and stopped by the edge, in its leader.

    found: the last good set, None until there was one. changed: called when `found` is another one, after a quiet gap, in a
    greenlet of its own; what it raises is logged, and it is called again. answered_at: when the source last gave a good answer,
    None for never.

    A source that fails changes nothing; neither does an empty answer that is not allowed, nor one in which nothing is right.

    service, kind: what log lines and health call it. make_source: makes the source whenever it is begun. clock: seconds.
    known: what was found before this one began, so that an entry which is rubbish now is known by what it was.
    """

    def __init__(
        self,
        service: str,
        kind: str,
        make_source: Callable[[], Source],
        options: SourceOptions,
        rng: Random,
        clock: Callable[[], float] = monotonic,
        known: Iterable[BackendConfig] = (),
    ) -> None:
        self.service = service
        self.kind = kind
        self.found: tuple[BackendConfig, ...] | None = None
        self.changed: Callable[[], None] = lambda: None
        self.errors = 0
        self._make_source = make_source
        self._source: Source | None = None
        self._allow_empty = options.allow_empty
        self._checker = EntryChecker(options.defaults, known)
        self._backoff = Backoff(rng, most_s=options.most_wait_s)
        self._clock = clock
        self._gap = QuietGap()
        self._answer: tuple[object, ...] = ()
        self._came_at = 0.0
        self.answered_at: float | None = None
        self._failure = self._unbelieved = ""
        self._findings: tuple[str, ...] = ()
        self._said = ""
        self._is_unused = False
        self._wake = Event()
        self._greenlets: tuple[Any, ...] = ()

    def __repr__(self) -> str:
        return f"<SourceRunner {self.service} ({self.kind}): {self.state}, {len(self.found or ())} backends>"

    @property
    def state(self) -> str:
        """Whether what is kept is what the source says: "fresh", "stale", or "never" if it has never said anything good."""
        if self.found is None:
            return "never"
        return "stale" if self._failure or self._unbelieved else "fresh"

    def health(self) -> Mapping[str, Any]:
        """Return how it is, for pages and metrics. age_s: since the source last gave a good answer, None for never."""
        return {
            "source": self.kind,
            "state": self.state,
            "age_s": None if self.answered_at is None else max(0.0, self._clock() - self.answered_at),
            "errors": self.errors,
            "problem": self._failure or self._unbelieved or in_a_sentence(self._findings) or None,
            "backends": len(self.found or ()),
        }

    def start(self) -> None:
        """Begin to ask."""
        if not self._greenlets:
            self._greenlets = (gevent.spawn(self._keep_asking), gevent.spawn(self._hand_on_changes))

    def stop(self) -> None:
        """End the source; what it has found is kept."""
        greenlets, self._greenlets = self._greenlets, ()
        gevent.killall([one for one in greenlets if one is not gevent.getcurrent()], block=False)

    # ---- asking ----

    def _keep_asking(self) -> None:
        while True:
            wait_s = self.ask_until_it_fails()
            gevent.sleep(wait_s)

    def ask_until_it_fails(self) -> float:
        """Take what a new source gives until it fails; return after how many seconds it is to be tried again."""
        lived_since = None
        snapshots: Any = None
        try:
            self._source = self._make_source()
            snapshots = iter(self._source.snapshots())
            for answer in snapshots:
                self.take_answer(answer)
                lived_since = self._came_at if lived_since is None else lived_since
            problem = "it has ended, which a source never does"
        except SourceError as error:
            problem = str(error)
        except FAILURES as error:
            problem = described(error)
        finally:
            _close(snapshots)
        self._failure = problem
        self._tell_problem(problem)
        # One that answers and fails at once, again and again, is not well: it has to live for longer than it was waited for.
        wait_s = self._backoff.next_wait_s()
        if lived_since is not None and self._clock() - lived_since > 2 * wait_s:
            self._backoff.reset()
            wait_s = self._backoff.next_wait_s()
        return wait_s

    def take_answer(self, answer: Any) -> None:
        """Take one answer of the source, to be checked when it is handed on; raises SourceError for what is none."""
        entries = entries_of(answer)
        self._answer, self._came_at, self._failure = entries, self._clock(), ""
        self._gap.note(self._came_at)
        self._wake.set()

    # ---- handing on ----

    def _hand_on_changes(self) -> None:
        while gevent.getcurrent() in self._greenlets:  # stopped by what it has called, it ends by itself
            self._wake.wait(AGAIN_S if self._is_unused else None)
            self._wake.clear()
            # The first answer of all is waited for, and alone.
            while self.found is not None and 0 < (wait_s := self._gap.due - self._clock()) < inf:
                gevent.sleep(wait_s)
            if self._gap.due < inf:
                self._settle_guarded()
            if self._is_unused:
                self._hand_on()

    def _settle_guarded(self) -> None:
        """Keep going whatever an answer holds: objects of a source of one's own may raise as they are looked at."""
        try:
            self.settle()
        except FAILURES as error:
            self._unbelieved = f"its answer cannot be read: {described(error)}"
            self._tell_problem(self._unbelieved)

    def settle(self) -> None:
        """Check the last answer, and keep what it says if it is to be believed."""
        self._gap.clear()
        answer, came_at = self._answer, self._came_at
        checked = self._checker.check_entries(answer)
        self._tell_findings(checked.findings)
        self._unbelieved = why_unbelieved(answer, checked, allow_empty=self._allow_empty, source=self._source)
        if self._unbelieved:
            self._tell_problem(self._unbelieved)
            return
        self.answered_at, self._unbelieved = came_at, ""
        if self._said and not self._failure:
            self._said = ""
            log.warning("discovery %s (%s): it answers again: %s", self.service, self.kind, _counted(checked.backends))
        if self.found is None or _by_id(self.found) != _by_id(checked.backends):  # one that shuffles has said nothing new
            self.found = checked.backends
            self._is_unused = True

    def _hand_on(self) -> None:
        self._is_unused = False
        try:
            self.changed()
        except FAILURES:
            self._is_unused = True
            log.exception("what was discovered for %s could not be put to use, and is tried again", self.service)

    # ---- telling ----

    def _tell_problem(self, problem: str) -> None:
        """Count what is wrong with the source, and log it when it is something new."""
        self.errors += 1
        if problem != self._said:
            self._said = problem
            kept = f"; what it found before stays: {_counted(self.found)}" if self.found else ""
            log.warning("discovery %s (%s): %s%s", self.service, self.kind, problem, kept)

    def _tell_findings(self, findings: tuple[str, ...]) -> None:
        """Count and log what is wrong with single entries, each time that it is something new."""
        if new := [text for text in findings if text not in self._findings]:
            self.errors += len(new)
            log.warning("discovery %s (%s): %s", self.service, self.kind, in_a_sentence(new))
        self._findings = findings


def _by_id(backends: Iterable[BackendConfig]) -> dict[str, BackendConfig]:
    return {one.id: one for one in backends}


def _counted(backends: tuple[BackendConfig, ...] | None) -> str:
    return "1 backend" if backends is not None and len(backends) == 1 else f"{len(backends or ())} backends"


def _close(snapshots: Any) -> None:
    """End a generator, whose clean-up may fail as anything of a user's may."""
    try:
        if (close := getattr(snapshots, "close", None)) is not None:
            close()
    except FAILURES as error:
        log.warning("a source of discovery did not end well: %s", described(error))
