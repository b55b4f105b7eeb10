"""The sources of all services at work: asked by one worker for all, and handed on together.

A `SourceRunner` looks after one source; here is which of them run, what is used while one has not answered yet, and what becomes
of what they find: it is handed to `use_found`, which makes a generation of it that all workers apply.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from math import inf
from time import monotonic, time
from typing import Any, Final, NamedTuple

import gevent
from gevent.event import Event

from smartedge.balancer.errors import EdgeError
from smartedge.config.discover import SourceConfig
from smartedge.config.found import Found, Sets, sources_of
from smartedge.config.model import Config, ConfigError
from smartedge.discovery.kept_found import KeptFound, KeptSet
from smartedge.discovery.menu import MadeSource, Surroundings, make_sources
from smartedge.discovery.runner import SourceRunner
from smartedge.discovery.source_health import HealthFile, SourceHealth, State

log = logging.getLogger("smartedge")

FIRST_S: Final = 1.0
"""How long a start waits for sources; then what was kept is used in place of those that have not answered."""

OTHERS_S: Final = FIRST_S + 0.5
"""How long a worker that asks no source waits at its start for backends, where a service has none."""

AGAIN_S: Final = 1.0
"""What could not be put to use is tried again after so long."""

KEEP_AT_MOST_S: Final = 1.0
"""What was found is kept on disk no more often."""

KEEP_S: Final = 60.0
"""The file with the last good sets is at most so much older than the sources' last answers."""

_WAIT_S: Final = 0.01

Key = tuple[str, str]
"""Service and kind of a source."""


class RunningSource(NamedTuple):
    """A source that is asked. question: what it was made of; another one has it begun anew."""

    said: SourceConfig
    question: object
    runner: SourceRunner


class Discovery:
    """Keeps the sources of all services asked while this worker leads; owned by the `Edge`.

    use_found: makes a generation of what sources have found; raises ConfigError or EdgeError, and has changed nothing. found:
    gives what is in use. around: what sources are given, but for `resolve_s`, which is the configuration's. make: makes the
    sources of a service.

    In a worker that does not lead, nothing is asked; when it comes to lead, it goes on from what is in use.
    """

    def __init__(
        self,
        use_found: Callable[[Sets], object],
        found: Callable[[], Found],
        kept: KeptFound,
        around: Surroundings,
        clock: Callable[[], float] = monotonic,
        make: Callable[[Any, Surroundings], Any] = make_sources,
    ) -> None:
        self._use_found = use_found
        self._found = found
        self._kept = kept
        self._around = around
        self._clock = clock
        self._make = make
        self._config: Config | None = None
        self._asked: dict[Key, RunningSource] = {}
        self._answered_before: dict[Key, float] = {}
        self._errors_before: dict[Key, int] = {}
        self._handed_on: Sets = {}
        self._file = HealthFile(None)
        self._leads = self._is_unused = self._is_unkept = False
        self._kept_at = -inf
        self._said = ""
        self._wake = Event()
        self._greenlet: Any = None

    def __repr__(self) -> str:
        return f"<Discovery: {', '.join(map(repr, (one.runner for one in self._asked.values()))) or 'nothing is asked'}>"

    # ---- life ----

    def begin(self, file: HealthFile, *, leads: bool, is_waiting: Callable[[], bool], follow: Callable[[], object]) -> None:
        """Begin when the worker does; wait a moment for what sources find, so that the first requests are served.

        file: how the workers tell each other of sources. leads: this one asks them. is_waiting: a service has no backends yet;
        follow: catches up with the worker that asks.
        """
        self._file = file
        if leads:
            self._lead()
            self._wait(FIRST_S, lambda: any(one.runner.found is None and not one.runner.errors for one in self._asked.values()))
            self._use(self._sets_of(self._kept.read(self._questions())))
        else:
            self._wait(OTHERS_S, is_waiting, follow)
        self._greenlet = gevent.spawn(self._run)

    def stop(self) -> None:
        """Ask nobody any more."""
        if self._greenlet is not None:
            self._greenlet.kill()
            self._greenlet = None
        if self._is_unkept:
            self._keep()
        self._follow_lead()

    def follow_config(self, config: Config) -> None:
        """Ask the sources of this configuration from here on: those of which nothing is another go on as they are."""
        self._config = config
        if self._leads:
            self._match_sources()

    def look(self, *, leads: bool) -> None:
        """Hear whether this worker asks the sources; called many times a second, once begun."""
        if self._greenlet is not None and leads != self._leads:
            if leads:
                self._lead()
            else:
                self._follow_lead()

    def tell_others(self) -> None:
        """Tell the other workers how the sources are, and keep what they have found for the next start; called once a second."""
        if self._leads and self._asked:
            self._file.write(self.healths())
            if self._is_unkept or self._clock() - self._kept_at > KEEP_S:
                self._keep()

    def healths(self) -> list[SourceHealth]:
        """Return how each source is, by the worker that asks them."""
        if not self._leads:
            asked = self._questions()
            return [one for one in self._file.read() if (one.service, one.source) in asked]
        return [self._health(key, one.runner) for key, one in self._asked.items()]

    # ---- which sources are asked ----

    def _lead(self) -> None:
        self._leads, self._handed_on = True, {}
        for told in self._file.read():
            self._errors_before[told.service, told.source] = told.errors
            if told.answered_at is not None:
                self._answered_before[told.service, told.source] = told.answered_at
        self._match_sources()

    def _follow_lead(self) -> None:
        self._leads = False
        for one in self._asked.values():
            one.runner.stop()
        self._asked = {}

    def _match_sources(self) -> None:
        """Begin and end sources, so that those of the configuration are asked."""
        questions = self._questions()
        for key, one in list(self._asked.items()):
            if key not in questions or one.question != self._question(key, questions[key]):
                one.runner.stop()
                del self._asked[key]
        if self._asked.keys() != questions.keys():
            made = self._made()
            self._asked = {key: self._asked.get(key) or self._begin_source(key, made[key]) for key in questions}

    def _questions(self) -> dict[Key, SourceConfig]:
        return {} if self._config is None else sources_of(self._config.all_services())

    def _question(self, key: Key, said: SourceConfig) -> object:
        return said, self._config.resolve_s if self._config is not None and key[1] == "dns" else None

    def _made(self) -> dict[Key, MadeSource]:
        assert self._config is not None
        around = replace(self._around, resolve_s=self._config.resolve_s)
        discovers = {one.name: one.config.discover for one in self._config.all_services() if one.config.discover is not None}
        return {(name, made.kind): made for name, discover in discovers.items() for made in self._make(discover, around)}

    def _begin_source(self, key: Key, made: MadeSource) -> RunningSource:
        known = self._found().sets.get(key, ())
        runner = SourceRunner(key[0], made.kind, made.make, made.options, self._around.rng, self._clock, known)
        runner.changed = self._wake.set
        runner.start()
        return RunningSource(made.said, self._question(key, made.said), runner)

    # ---- what they find ----

    def _run(self) -> None:
        while True:
            self._wake.wait(AGAIN_S if self._is_unused else None)
            self._wake.clear()
            if self._leads:
                self._use(self._sets_of({}))
                if self._is_unkept:
                    self._keep()  # at once: gunicorn ends its workers without a word to the edge

    def _sets_of(self, kept: Mapping[Key, KeptSet]) -> Sets:
        """Return what the sources have found; of one that has not answered what was kept, unless there is something in use."""
        sets = {key: one.runner.found for key, one in self._asked.items() if one.runner.found is not None}
        for key in kept.keys() - sets.keys() - self._found().sets.keys():
            self._answered_before[key] = self._clock() - max(time() - kept[key].answered_at, 0.0)
            sets[key] = kept[key].backends
            age_s = self._clock() - self._answered_before[key]
            words = "discovery %s (%s): it has not answered yet; what it has found before is used: %d, %.0f s old"
            log.warning(words, *key, len(sets[key]), age_s)
        return sets

    def _use(self, sets: Sets) -> None:
        """Hand on what is another; what cannot be put to use is said once, and tried again."""
        if all(self._handed_on.get(key) is backends for key, backends in sets.items()):
            return
        try:
            self._use_found(sets)
        except (ConfigError, EdgeError, OSError) as error:
            self._is_unused = True
            if str(error) != self._said:
                self._said = str(error)
                log.error("what was discovered cannot be put to use, and is tried again: %s", error)
        else:
            self._handed_on, self._is_unused, self._is_unkept, self._said = sets, False, True, ""
            if self._clock() - self._kept_at >= KEEP_AT_MOST_S:  # at once, for the machine may stop; else once a second
                self._keep()

    def _keep(self) -> None:
        self._is_unkept, self._kept_at = False, self._clock()
        sets = {}
        for key, one in self._asked.items():
            answered_at, backends = self._answered_at(key, one.runner), self._found().sets.get(key)
            if answered_at is not None and backends is not None:
                sets[key] = one.said, KeptSet(time() - (self._clock() - answered_at), backends)
        self._kept.write(sets)

    def _answered_at(self, key: Key, runner: SourceRunner) -> float | None:
        return self._answered_before.get(key) if runner.answered_at is None else runner.answered_at

    def _health(self, key: Key, runner: SourceRunner) -> SourceHealth:
        told, backends = runner.health(), self._found().sets.get(key, ())
        state: State = "stale" if told["state"] == "never" and backends else told["state"]
        errors = told["errors"] + self._errors_before.get(key, 0)
        return SourceHealth(*key, state, self._answered_at(key, runner), errors, told["problem"], len(backends))

    def _wait(self, wait_s: float, is_waiting: Callable[[], bool], meanwhile: Callable[[], object] = lambda: None) -> None:
        until = self._clock() + wait_s
        while is_waiting() and self._clock() < until:
            gevent.sleep(_WAIT_S)
            meanwhile()
