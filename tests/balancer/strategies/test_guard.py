"""A user's strategy that fails: every kind of failing, what is picked instead, and what is said of it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from smartedge.balancer.backend import Backend
from smartedge.balancer.strategies.guard import PAUSE_S, Guarded, Trouble
from tests.fakes import FakeClock
from tests.house import backends, names


class User:
    """A strategy that does what the test says, and keeps what it was told."""

    reason = "the test says so"

    def __init__(self, pick: Callable[..., Any] = lambda candidates, *_: candidates[-1]) -> None:
        self._pick = pick
        self.told: list[Any] = []

    def pick(self, candidates: Any, now: float, rng: Random, key: bytes) -> Any:
        self.told.append((now, key))
        return self._pick(candidates, now, rng, key)

    def score(self, backend: Backend, candidates: Any, now: float) -> float:
        return 7

    def prepare(self, candidates: Any) -> None:
        self.told.append(("prepare", names(candidates)))

    def keep(self, backends: Any) -> None:
        self.told.append(("keep", names(backends)))

    def failed(self, backend: Backend) -> None:
        self.told.append(("failed", backend.id))


MEMBERS = backends(1, 1, 1)


def guarded(strategy: Any, clock: Callable[[], float] = lambda: 0.0) -> Guarded:
    made = Guarded(strategy, "test:User", clock)
    made.prepare(MEMBERS)
    return made


def pick(strategy: Guarded) -> str:
    return strategy.pick(MEMBERS, 1000.0, Random(1), b"key").id


def test_what_it_picks_is_taken_and_nothing_is_said() -> None:
    user = User()
    strategy = guarded(user)
    assert [pick(strategy) for _ in range(3)] == ["c", "c", "c"]
    assert user.told[-1] == (1000.0, b"key")
    assert strategy.troubles() == []
    assert strategy.reason == "the test says so"
    assert strategy.score(MEMBERS[0], MEMBERS, 1000.0) == 7.0
    assert strategy.name == "test:User"


def test_its_hooks_are_called_and_those_of_round_robin_too() -> None:
    user = User(lambda *_: None)
    strategy = guarded(user)
    strategy.keep(MEMBERS)
    strategy.failed(MEMBERS[0])
    assert user.told == [("prepare", "a b c"), ("keep", "a b c"), ("failed", "a")]
    assert pick(strategy) == "b"  # round robin's, which has heard of a's failure


def test_one_without_hooks_and_score_is_a_strategy() -> None:
    class Least:
        def pick(self, candidates: Any, now: float, rng: Random, key: bytes) -> Any:
            return candidates[0]

    strategy = guarded(Least())
    strategy.keep(MEMBERS)
    strategy.failed(MEMBERS[0])
    assert pick(strategy) == "a"
    assert strategy.score(MEMBERS[0], MEMBERS, 1000.0) is None
    assert strategy.reason == "test:User says so"
    assert strategy.troubles() == []


def test_one_that_raises_is_round_robin_and_the_place_is_named() -> None:
    strategy = guarded(User(lambda *_: {}["price"]))
    assert [pick(strategy) for _ in range(4)] == ["a", "b", "c", "a"]
    assert "failed" in strategy.reason
    (trouble,) = strategy.troubles()
    assert (trouble.kind, trouble.picks) == ("raised", 4)
    assert trouble.detail.startswith("pick raised KeyError at ")
    assert "test_guard.py:" in trouble.detail
    assert trouble.detail.endswith(": 'price'")
    assert strategy.troubles() == []


def test_one_that_wants_the_process_to_end_is_round_robin_too() -> None:
    class Leaves(User):
        def prepare(self, candidates: Any) -> None:
            sys.exit("no candidates")

    strategy = guarded(Leaves(lambda *_: sys.exit(3)))
    assert [pick(strategy) for _ in range(3)] == ["a", "b", "c"]
    (trouble,) = strategy.troubles()
    assert (trouble.kind, trouble.picks) == ("raised", 3)
    assert trouble.detail.startswith("prepare raised SystemExit at ")
    assert trouble.detail.endswith(": no candidates")


@pytest.mark.parametrize("number", [float("inf"), float("-inf"), float("nan"), "nan"])
def test_a_score_that_json_has_no_word_for_is_none(number: Any) -> None:
    class Endless(User):
        def score(self, *_: Any) -> Any:
            return number

    assert guarded(Endless()).score(MEMBERS[0], MEMBERS, 1000.0) is None


class Everything:
    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "None"),
        ("a", "'a'"),
        (Everything(), "<tests.balancer.strategies.test_guard.Everything object"),
        (backends(1)[0], "<Backend a http://a:80>"),
        (Unprintable(), "a Unprintable"),
        ("x\n" * 500, "'x\\nx\\n"),
    ],
)
def test_what_is_no_candidate_is_not_taken(value: object, shown: str) -> None:
    strategy = guarded(User(lambda *_: value))
    assert [pick(strategy) for _ in range(3)] == ["a", "b", "c"]
    (trouble,) = strategy.troubles()
    assert (trouble.kind, trouble.picks) == ("no candidate", 3)
    assert trouble.detail.startswith(f"pick returned {shown}")
    assert len(trouble.detail) < 300


def test_a_backend_that_was_tried_is_no_candidate_of_a_retry() -> None:
    strategy = guarded(User(lambda *_: MEMBERS[0]))
    assert strategy.pick([*MEMBERS[1:]], 1000.0, Random(1), b"") in MEMBERS[1:]


def test_hooks_and_scores_that_raise_harm_nobody() -> None:
    class Bad(User):
        @property
        def reason(self) -> str:  # type: ignore[override]
            raise RuntimeError("none")

        def prepare(self, candidates: Any) -> None:
            raise RuntimeError("not today")

        def score(self, *_: Any) -> Any:
            return "much"

    strategy = guarded(Bad())
    assert pick(strategy) == "c"
    assert strategy.reason == "test:User says so"
    assert strategy.score(MEMBERS[0], MEMBERS, 1000.0) is None
    (trouble,) = strategy.troubles()
    assert (trouble.kind, trouble.picks) == ("raised", 0)
    assert trouble.detail.startswith("prepare raised RuntimeError")


def test_slow_picks_count_until_the_third_in_a_row_and_then_it_is_left_alone_for_a_while() -> None:
    clock = FakeClock()
    took_s = 0.02

    def slow(candidates: Any, *_: Any) -> Backend:
        clock.now += took_s
        picked: Backend = candidates[-1]
        return picked

    strategy = guarded(User(slow), lambda: clock.now)
    assert [pick(strategy) for _ in range(3)] == ["c", "c", "c"]
    (trouble,) = strategy.troubles()
    assert trouble == Trouble("slow", 0, trouble.detail)
    assert trouble.detail.startswith("pick took 20 ms")
    assert [pick(strategy) for _ in range(3)] == ["a", "b", "c"]
    assert [(t.kind, t.picks) for t in strategy.troubles()] == [("slow", 3)]
    clock.now += PAUSE_S
    assert [pick(strategy) for _ in range(2)] == ["c", "a"]  # one more chance, and one slow pick is enough
    clock.now += PAUSE_S
    took_s = 0.001
    assert [pick(strategy) for _ in range(5)] == ["c"] * 5


def test_one_that_is_slow_to_raise_is_left_alone_too() -> None:
    clock = FakeClock()

    def waits_in_vain(*_: Any) -> Any:
        clock.now += 5.0
        raise TimeoutError("no prices")

    strategy = guarded(User(waits_in_vain), lambda: clock.now)
    before = clock.now
    assert [pick(strategy) for _ in range(20)] == ["a", "b", "c"] * 6 + ["a", "b"]
    assert clock.now == before + 15.0
    assert [(trouble.kind, trouble.picks) for trouble in strategy.troubles()] == [("raised", 3), ("slow", 17)]


def test_a_slow_pick_now_and_then_is_forgiven() -> None:
    clock = FakeClock()
    times = iter([0.02, 0.02, 0.001] * 10)

    def sometimes(candidates: Any, *_: Any) -> Any:
        clock.now += next(times)
        return candidates[-1]

    strategy = guarded(User(sometimes), lambda: clock.now)
    assert [pick(strategy) for _ in range(30)] == ["c"] * 30
    assert strategy.troubles() == []


def test_one_that_is_killed_is_not_asked_for_an_excuse() -> None:
    """GreenletExit and KeyboardInterrupt are for the one who waits, not for the strategy."""

    def killed(*_: Any) -> Any:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pick(guarded(User(killed)))
