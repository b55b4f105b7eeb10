from __future__ import annotations

from collections import defaultdict

import pytest

from smartedge.balancer.blame import INQUIRY_S, Results
from smartedge.balancer.learned import Learned

NOW = 1000.0
WHO: defaultdict[str, Learned] = defaultdict(Learned)


def told(story: str, results: Results | None = None, now: float = NOW, step_s: float = 0.01) -> Results:
    """A story such as "a! b": the backend a fails, b answers."""
    results = results or Results()
    for word in story.split():
        results.note(WHO[word[0]], now, failed=word.endswith("!"))
        now += step_s
    return results


@pytest.mark.parametrize(
    ("story", "blame"),
    [
        ("a!", "unknown"),
        ("b a!", "unknown"),  # nothing is noted while nothing fails
        ("a! b a!", "own"),
        ("a! b! a!", "shared"),
        ("a! b! c a!", "own"),  # two of three fail, and the third shows that it can be done
        ("a! b! b b! b a! a!", "shared"),  # both fail often
        ("a! b b b b b b b b! a!", "own"),  # the other fails now and then, this one always
    ],
)
def test_a_failure_is_compared_with_what_the_others_make_of_the_same(story: str, blame: str) -> None:
    assert told(story).blame(WHO["a"], NOW + 0.2) == blame


def test_one_of_twenty_that_is_sound_does_not_make_the_others_to_blame() -> None:
    story = " ".join(f"{name}!" for name in "bcdefghijklmnopqrst")
    assert told(f"{story} u a!").blame(WHO["a"], NOW + 1.0) == "shared"


def test_what_another_did_long_ago_says_nothing() -> None:
    results = told("a! b")
    assert results.blame(WHO["a"], NOW + INQUIRY_S + 1.0) == "unknown"


def test_when_the_database_dies_the_good_times_before_are_no_evidence() -> None:
    """The others' answers of the last seconds are all good, and the first backend to fail is not to blame."""
    results = told("a! b b b b b b b b b b")
    now = NOW + 5.0
    for _ in range(20):
        results.note(WHO["a"], now, failed=True)
    assert results.blame(WHO["a"], now) in ("unknown", "own")
    for _ in range(20):
        results.note(WHO["b"], now + 0.01, failed=True)
        results.note(WHO["a"], now + 0.01, failed=True)
    assert results.blame(WHO["a"], now + 0.02) == "shared"


def test_an_inquiry_ends_when_nothing_fails_any_more() -> None:
    results = told("a! b a b")
    results.note(WHO["b"], NOW + INQUIRY_S + 1.0, failed=False)
    assert results.sharers() == []


def test_another_try_is_hopeless_while_the_others_fail_too() -> None:
    assert not Results().is_hopeless(WHO["a"], NOW)
    assert told("b!").is_hopeless(WHO["a"], NOW + 0.1)
    assert told("b! c").is_hopeless(WHO["a"], NOW + 0.1)
    assert not told("b! c d").is_hopeless(WHO["a"], NOW + 0.1)
    assert not told("a! b").is_hopeless(WHO["a"], NOW + 0.1)


def test_what_a_backend_did_that_has_left_is_nobodys_measure() -> None:
    """After a reload with other backends the first 500 was not tried again, for those before had failed, too."""
    results = told("a! b!")
    results.keep({WHO["b"], WHO["c"]})
    assert not results.is_hopeless(WHO["b"], NOW + 0.1)
