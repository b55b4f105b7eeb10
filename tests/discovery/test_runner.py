"""A source at work: what it does wrong takes nothing away, and what it says is handed on soon and together."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from math import inf
from random import Random
from typing import Any

import gevent
import pytest
from gevent.event import Event

from smartedge.discovery.runner import SourceOptions, SourceRunner
from smartedge.discovery.source import SourceError
from tests.fakes import FakeClock
from tests.house import until

A, B, C = "http://10.0.0.1:80", "http://10.0.0.2:80", "http://10.0.0.3:80"


class Script:
    """A source that gives what it is told to, life after life: answers, errors to raise, and functions to call in between."""

    def __init__(self, *lives: list[Any]) -> None:
        self.lives = list(lives)
        self.begun = 0
        self.closed = 0

    def __call__(self) -> Script:
        self.begun += 1
        return self

    def snapshots(self) -> Iterator[Any]:
        try:
            for step in self.lives.pop(0):
                if isinstance(step, BaseException):
                    raise step
                if callable(step):
                    step()
                else:
                    yield step
        finally:
            self.closed += 1


def runner(source: Any, clock: Callable[[], float] | None = None, **options: Any) -> SourceRunner:
    made = SourceRunner("web", "dns", source, SourceOptions(**options), Random(1), clock or FakeClock())
    made.changed = lambda: None
    return made


def urls(made: SourceRunner) -> list[str] | None:
    return None if made.found is None else [one.url for one in made.found]


def pause(seconds: float) -> Callable[[], None]:
    return lambda: gevent.sleep(seconds)


def take(made: SourceRunner, *answer: Any) -> None:
    made.take_answer(list(answer))
    made.settle()


@pytest.fixture(autouse=True)
def heard(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "smartedge")


def test_before_the_first_answer_nothing_is_known() -> None:
    made = runner(Script())
    assert made.found is None
    assert made.health() == {
        "source": "dns",
        "state": "never",
        "age_s": None,
        "errors": 0,
        "problem": None,
        "backends": 0,
    }


def test_an_answer_is_kept_and_ages() -> None:
    clock = FakeClock()
    made = runner(Script(), clock)
    take(made, A, B)
    clock.advance(7.5)
    assert urls(made) == [A, B]
    assert made.health() == {"source": "dns", "state": "fresh", "age_s": 7.5, "errors": 0, "problem": None, "backends": 2}
    assert repr(made) == "<SourceRunner web (dns): fresh, 2 backends>"


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        (lambda: SourceError("127.0.0.1:53 does not answer"), "127.0.0.1:53 does not answer"),
        (lambda: ValueError("no\nbook"), "ValueError: no book ("),
        (lambda: SystemExit(3), "SystemExit: 3 ("),
        (lambda: gevent.Timeout(5), "Timeout: 5 seconds ("),
    ],
)
def test_a_source_that_fails_loses_nothing_and_is_begun_anew(
    trouble: Callable[[], BaseException], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    clock, source = FakeClock(), Script([[A, B], trouble()], [trouble()], [[A, B]])
    made = runner(source, clock)
    made.ask_until_it_fails()
    made.settle()
    assert urls(made) == [A, B]
    assert (made.state, made.errors) == ("stale", 1)
    assert made.health()["problem"].startswith(said)
    made.ask_until_it_fails()
    assert (urls(made), made.errors, source.begun) == ([A, B], 2, 2)
    assert caplog.messages[0].startswith(f"discovery web (dns): {said}")
    take(made, A, B)
    assert (made.state, made.health()["problem"]) == ("fresh", None)
    assert caplog.messages[-1] == "discovery web (dns): it answers again: 2 backends"


def test_a_problem_is_logged_once_and_says_what_is_kept(caplog: pytest.LogCaptureFixture) -> None:
    made = runner(Script(*[[SourceError("no answer")]] * 3))
    take(made, A)
    for _ in range(3):
        made.ask_until_it_fails()
    assert caplog.messages == ["discovery web (dns): no answer; what it found before stays: 1 backend"]
    assert made.errors == 3


def test_a_class_that_cannot_be_made_is_a_failure_as_any_other() -> None:
    def make() -> Any:
        raise RuntimeError("no key")

    made = runner(make)
    assert 0.25 <= made.ask_until_it_fails() <= 0.5
    assert str(made.health()["problem"]).startswith("RuntimeError: no key (")


def test_a_generator_that_ends_is_a_failure() -> None:
    source = Script([[A]])
    made = runner(source)
    made.ask_until_it_fails()
    made.settle()
    assert (urls(made), made.state) == ([A], "stale")
    assert made.health()["problem"] == "it has ended, which a source never does"
    assert source.closed == 1


@pytest.mark.parametrize(
    ("garbage", "said"),
    [
        (None, "gave a NoneType in place of a list of backends"),
        ("http://h", "gave a str in place of a list of backends"),
        ({"url": "http://h"}, "gave a dict in place of a list of backends"),
        (7, "gave a int in place of a list of backends"),
        ([A] * 10_001, "gave more than 10000 backends"),
    ],
)
def test_an_answer_that_is_no_list_is_a_failure(garbage: object, said: str) -> None:
    made = runner(Script([[A], garbage, [B]]))
    made.ask_until_it_fails()
    made.settle()
    assert urls(made) == [A]
    assert made.health()["problem"] == said


@pytest.mark.parametrize("before", [[], [A]])
def test_an_empty_answer_is_not_believed(before: list[str], caplog: pytest.LogCaptureFixture) -> None:
    """An empty answer that empties the pool has taken whole sites down (traefik#1689)."""
    clock = FakeClock()
    made = runner(Script(), clock)
    if before:
        take(made, *before)
    clock.advance(3)
    take(made)
    take(made)
    assert urls(made) == (before or None)
    assert (made.state, made.errors) == ("stale" if before else "never", 2)
    assert made.health()["age_s"] == (3 if before else None)
    assert made.health()["problem"] == 'its answer is empty, and "allow_empty" is not true'
    assert len(caplog.messages) == 1
    take(made, B)
    assert (urls(made), made.state) == ([B], "fresh")


def test_an_empty_answer_is_believed_where_that_is_allowed() -> None:
    made = runner(Script(), allow_empty=True)
    take(made)
    assert (urls(made), made.state) == ([], "fresh")
    take(made, A)
    take(made)
    assert (urls(made), made.errors) == ([], 0)


def test_an_answer_in_which_nothing_is_right_is_not_believed_though_empty_ones_are() -> None:
    made = runner(Script(), allow_empty=True)
    take(made, A)
    take(made, "rubbish")
    assert (urls(made), made.state) == ([A], "stale")
    assert made.health()["problem"] == "nothing in its answer is right"


def test_rubbish_in_one_entry_is_counted_and_logged_once_and_the_others_count(caplog: pytest.LogCaptureFixture) -> None:
    made = runner(Script(), defaults={"weight": 3})
    for _ in range(3):
        take(made, A, {"url": B, "wieght": 2})
    assert (urls(made), made.state, made.errors) == ([A], "fresh", 1)
    assert "wieght is an unknown key" in made.health()["problem"]
    assert len(caplog.messages) == 1
    take(made, A, B)
    assert (made.health()["problem"], made.found and made.found[1].weight) == (None, 3)


def test_waits_grow_while_a_source_fails_and_begin_again_when_it_has_lived() -> None:
    clock = FakeClock()
    lives = [[[A], SourceError("gone")]] * 8 + [[[A], lambda: clock.advance(120), SourceError("gone")]] * 2
    made = runner(Script(*lives), clock)
    waits = [made.ask_until_it_fails() for _ in range(10)]
    for wait, most in zip(waits, [0.5, 1, 2, 4, 8, 16, 30, 30, 0.5, 0.5], strict=True):
        assert most / 2 <= wait <= most


def test_changes_are_handed_on_together_and_those_that_change_nothing_not_at_all() -> None:
    seen: list[list[str] | None] = []

    burst = [[A, B], [A], [A, B], [B, C]]
    said: list[str] = []
    source = Script([[A], pause(0.1), *burst, pause(0.3), [C, B], lambda: said.append("all"), pause(30)])
    made = SourceRunner("web", "dns", source, SourceOptions(), Random(1))
    made.changed = lambda: seen.append(urls(made))
    made.start()
    made.start()
    until(lambda: len(seen) == 2)
    until(lambda: said and made._gap.due == inf)  # the same two in another order: no news
    made.stop()
    assert seen == [[A], [B, C]]
    until(lambda: source.closed == 1)
    assert source.begun == 1


def test_what_is_made_of_a_change_may_fail_and_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    calls: list[int] = []

    def changed() -> None:
        calls.append(1)
        if len(calls) == 1:
            raise RuntimeError("the disk is full")

    made = SourceRunner("web", "dns", Script([[A], lambda: gevent.sleep(30)]), SourceOptions(), Random(1))
    made.changed = changed
    made.start()
    until(lambda: len(calls) == 2)
    made.stop()
    assert [record.levelname for record in caplog.records] == ["ERROR"]


def test_an_answer_whose_objects_raise_as_they_are_looked_at_loses_nothing_and_the_next_one_counts() -> None:
    class Unreadable(dict[str, Any]):
        def get(self, *_: Any) -> Any:
            raise RuntimeError("the connection of this row is closed")

    goes_on = Event()
    made = SourceRunner(
        "web", "rows", Script([[A], pause(0.1), [Unreadable(url=B)], goes_on.wait, [C], pause(30)]), SourceOptions(), Random(1)
    )
    made.start()
    until(lambda: made.health()["problem"])
    assert (made.state, urls(made)) == ("stale", [A])
    assert "its answer cannot be read: RuntimeError: the connection of this row is closed" in made.health()["problem"]
    goes_on.set()
    until(lambda: urls(made) == [C])
    assert made.state == "fresh"
    made.stop()


def test_one_that_is_stopped_by_what_it_calls_ends_by_itself() -> None:
    calls: list[int] = []
    made = SourceRunner("web", "dns", Script([[A], lambda: gevent.sleep(30)]), SourceOptions(), Random(1))

    def changed() -> None:
        calls.append(1)
        made.stop()

    made.changed = changed
    made.start()
    greenlets = made._greenlets
    until(lambda: all(one.ready() for one in greenlets), 20)
    assert calls == [1]


def test_a_source_that_does_not_end_well_is_ended(caplog: pytest.LogCaptureFixture) -> None:
    class Stubborn:
        def snapshots(self) -> Iterator[Any]:
            try:
                yield [A]
                yield None
            finally:
                raise RuntimeError("not so")

    made = runner(Stubborn)
    made.ask_until_it_fails()
    assert any("did not end well: RuntimeError: not so" in message for message in caplog.messages)
