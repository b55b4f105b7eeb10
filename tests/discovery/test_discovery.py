"""Which sources are asked, what is used before they have answered, and what becomes of what they find."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from time import time
from typing import Any

import gevent
import pytest
from gevent.queue import Queue

from smartedge.config.backends import BackendConfig
from smartedge.config.discover import DiscoverConfig, FileConfig
from smartedge.config.found import NOTHING_FOUND, Sets
from smartedge.config.model import ConfigError, Problem, parse
from smartedge.discovery.discovery import Discovery
from smartedge.discovery.kept_found import KeptFound, KeptSet
from smartedge.discovery.menu import MadeSource, Surroundings
from smartedge.discovery.runner import SourceOptions
from smartedge.discovery.source import Entry, SourceError
from smartedge.discovery.source_health import HealthFile
from tests.house import until


class Told:
    """A source that says what the test puts in; it fails by what is raised for an exception. begun: how often it was."""

    def __init__(self) -> None:
        self.says: Any = Queue()
        self.begun = 0
        self.live = 0

    def snapshots(self) -> Iterator[Sequence[Entry]]:
        self.begun += 1
        self.live += 1
        try:
            while True:
                said = self.says.get()
                if isinstance(said, Exception):
                    raise said
                yield said
        finally:
            self.live -= 1


class Worker:
    """A worker's discovery, the reloader that it tells, and its sources by service and kind."""

    def __init__(self, folder: Path, text: str, file: HealthFile | None = None) -> None:
        self.sources: dict[tuple[str, ...], Told] = {}
        self.found = NOTHING_FOUND
        self.used: list[Sets] = []
        self.refuse: Exception | None = None
        self.file = file or HealthFile(None)
        around = Surroundings(str(folder), 5.0, {}, Random(7))
        kept = KeptFound(str(folder / "backends.json"))
        self.discovery = Discovery(self.use_found, lambda: self.found, kept, around, make=self.make)
        self.follow(text)

    def follow(self, text: str) -> None:
        self.discovery.follow_config(parse(text))

    def make(self, discover: DiscoverConfig, around: Surroundings) -> Iterator[MadeSource]:
        for kind, said in discover.sources.items():
            source = self.sources.setdefault((kind, str(said.model_dump().get("path"))), Told())
            yield MadeSource(kind, lambda source=source: source, SourceOptions(said.allow_empty, said.entry_defaults), said)  # type: ignore[misc]

    def use_found(self, sets: Sets) -> None:
        if self.refuse is not None:
            raise self.refuse
        self.used.append(sets)
        self.found = self.found.replaced(sets)

    def begin(self, *, leads: bool = True) -> None:
        self.discovery.begin(self.file, leads=leads, is_waiting=lambda: False, follow=lambda: None)

    def source(self, path: str = "x", kind: str = "file") -> Told:
        return self.sources[kind, path]

    def ids(self, service: str = "default") -> list[str]:
        return [backend.id for backend in self.found.backends.get(service, ())]


def config(path: str = "x", **more: Any) -> str:
    return json.dumps({"discover": {"file": {"path": path}}, **more})


TWO = json.dumps(
    {
        "services": {
            "web": {"discover": {"file": {"path": "web"}}},
            "api": {"discover": {"file": {"path": "api"}, "etcd": {"prefix": "/"}}},
        },
        "routes": [{"path": "/api", "to": "api"}, {"to": "web"}],
    }
)


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[Any]:
    made: list[Worker] = []

    def make(text: str = config(), **more: Any) -> Worker:
        made.append(Worker(tmp_path, text, **more))
        return made[-1]

    yield make
    for worker in made:
        worker.discovery.stop()


def begin_with(worker: Worker, *said: Any) -> None:
    """Begin, while the sources say these, in the order of the services."""
    starting = gevent.spawn(worker.begin)
    until(lambda: sum(source.begun for source in worker.sources.values()) >= len(said))
    for source, what in zip(worker.sources.values(), said, strict=False):
        source.says.put(what)
    starting.get(timeout=20)


def test_a_start_waits_for_what_the_sources_find_and_uses_it_at_once(workers: Any) -> None:
    worker = workers(TWO)

    begin_with(worker, ["http://api:1"], ["http://api:2"], ["http://web:1"])

    assert len(worker.used) == 1
    assert worker.ids("api") == ["api-1", "api-2"] or worker.ids("api") == ["api-2", "api-1"]
    assert worker.ids("web") == ["web-1"]


def test_what_a_source_finds_later_is_handed_on(workers: Any) -> None:
    worker = workers()
    begin_with(worker, ["http://a:1"])

    worker.source().says.put(["http://a:1", "http://b:1"])

    until(lambda: worker.ids() == ["a-1", "b-1"], 20)


def test_a_worker_that_does_not_lead_asks_nobody_until_it_does(workers: Any) -> None:
    worker = workers()
    worker.begin(leads=False)
    assert worker.sources == {}

    worker.discovery.look(leads=True)
    until(lambda: worker.source().begun == 1, 20)
    worker.source().says.put(["http://a:1"])
    until(lambda: worker.ids() == ["a-1"], 20)
    worker.discovery.look(leads=False)

    until(lambda: worker.source().live == 0, 20)
    assert worker.ids() == ["a-1"]


def test_a_worker_that_does_not_lead_waits_a_moment_for_backends_where_it_has_none(workers: Any) -> None:
    worker = workers()
    followed: list[int] = []

    worker.discovery.begin(worker.file, leads=False, is_waiting=lambda: len(followed) < 3, follow=lambda: followed.append(1))

    assert len(followed) == 3


def test_another_configuration_begins_only_those_sources_anew_that_are_others(workers: Any) -> None:
    worker = workers(TWO)
    begin_with(worker, ["http://api:1"], ["http://api:2"], ["http://web:1"])

    worker.follow(TWO.replace('"path": "web"', '"path": "other"'))

    until(lambda: ("file", "other") in worker.sources and worker.source("other").begun == 1, 20)
    until(lambda: worker.source("web").live == 0, 20)
    assert (worker.source("api").begun, worker.source("api").live) == (1, 1)
    assert worker.ids("web") == ["web-1"], "until the new one has answered"
    worker.source("other").says.put(["http://other:1"])
    until(lambda: worker.ids("web") == ["other-1"], 20)


def test_a_source_that_a_configuration_has_no_more_is_ended(workers: Any) -> None:
    worker = workers()
    begin_with(worker, ["http://a:1"])

    worker.follow('{"backends": ["http://a:1"]}')

    until(lambda: worker.source().live == 0, 20)
    assert worker.discovery.healths() == []


def test_what_was_kept_is_used_while_a_source_is_silent(workers: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "smartedge")
    before = (BackendConfig.model_validate({"url": "http://a:1", "id": "a"}),)
    KeptFound(str(tmp_path / "backends.json")).write({("default", "file"): (FileConfig(path="x"), KeptSet(time() - 100, before))})
    worker = workers()

    begin_with(worker, SourceError("x cannot be read: no such file"))

    assert worker.ids() == ["a"]
    (health,) = worker.discovery.healths()
    assert (health.state, health.problem, health.backends) == ("stale", "x cannot be read: no such file", 1)
    assert health.age_s(worker.discovery._clock()) == pytest.approx(100, abs=30)
    assert any("what it has found before is used: 1, 100 s old" in one.getMessage() for one in caplog.records)


def test_what_was_kept_is_not_used_where_there_is_something_newer(workers: Any, tmp_path: Path) -> None:
    old = (BackendConfig.model_validate({"url": "http://old:1", "id": "old"}),)
    KeptFound(str(tmp_path / "backends.json")).write({("default", "file"): (FileConfig(path="x"), KeptSet(1.0, old))})
    answering, following = workers(), workers()
    following.found = following.found.replaced(
        {("default", "file"): (BackendConfig.model_validate({"url": "http://b:1", "id": "b"}),)}
    )

    begin_with(answering, ["http://a:1"])
    begin_with(following, SourceError("silent"))

    assert (answering.ids(), following.ids()) == (["a-1"], ["b"])


@pytest.mark.parametrize("ends", [True, False])
def test_what_is_found_is_kept_for_the_next_start_at_once(workers: Any, tmp_path: Path, ends: bool) -> None:
    """Under gunicorn nobody tells a worker that it ends."""
    worker = workers()
    begin_with(worker, ["http://a:1"])

    if ends:
        worker.discovery.stop()

    (kept,) = KeptFound(str(tmp_path / "backends.json")).read({("default", "file"): FileConfig(path="x")}).values()
    assert [backend.id for backend in kept.backends] == ["a-1"]
    assert kept.answered_at == pytest.approx(time(), abs=60)


def test_a_change_is_kept_as_soon_as_it_is_in_use(workers: Any, tmp_path: Path) -> None:
    """A worker of gunicorn is ended without being told: what was found in its last second was not kept."""
    worker = workers()
    begin_with(worker, ["http://a:1"])

    worker.source().says.put(["http://a:1", "http://b:1"])

    file = tmp_path / ".backends.json.found.json"
    until(lambda: file.exists() and "http://b:1" in file.read_text())
    assert worker.ids() == ["a-1", "b-1"]


def test_what_cannot_be_put_to_use_is_said_once_and_tried_again(workers: Any, caplog: pytest.LogCaptureFixture) -> None:
    worker = workers()
    worker.refuse = ConfigError([Problem("backends", "no room")], status=422)
    begin_with(worker, ["http://a:1"])
    worker.source().says.put(["http://a:1", "http://b:1"])
    until(lambda: worker.discovery._is_unused and worker.discovery._asked["default", "file"].runner.found[1:], 20)

    worker.refuse = None

    until(lambda: worker.ids() == ["a-1", "b-1"], 20)
    said = [record.getMessage() for record in caplog.records if "cannot be put to use" in record.getMessage()]
    assert said == ["what was discovered cannot be put to use, and is tried again: backends.json: backends: no room"]


def test_others_are_told_how_the_sources_are(workers: Any, tmp_path: Path) -> None:
    leader, other = (workers(file=HealthFile(tmp_path / "discovery.json")) for _ in range(2))
    begin_with(leader, ["http://a:1"])
    other.begin(leads=False)
    leader.source().says.put(SourceError("x cannot be read"))
    until(lambda: leader.discovery.healths()[0].problem, 20)

    leader.discovery.tell_others()

    assert other.discovery.healths() == leader.discovery.healths()
    (health,) = other.discovery.healths()
    assert (health.service, health.source, health.state, health.errors, health.backends) == ("default", "file", "stale", 1, 1)


def test_a_new_leader_goes_on_counting(workers: Any, tmp_path: Path) -> None:
    first, second = (workers(file=HealthFile(tmp_path / "discovery.json")) for _ in range(2))
    begin_with(first, ["http://a:1"])
    first.source().says.put(SourceError("x cannot be read"))
    until(lambda: first.discovery.healths()[0].errors, 20)
    first.discovery.tell_others()
    (told,) = first.discovery.healths()
    second.begin(leads=False)

    first.discovery.look(leads=False)
    second.discovery.look(leads=True)

    (health,) = second.discovery.healths()
    assert (health.errors, health.answered_at) == (1, told.answered_at)
    until(lambda: second.source().begun == 1, 20)
    second.source().says.put(SourceError("again"))
    until(lambda: second.discovery.healths()[0].errors == 2, 20)
