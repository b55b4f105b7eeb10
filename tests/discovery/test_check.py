"""Entries of a source: right ones become backends as in the file, rubbish takes nothing away."""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

import gevent
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smartedge.config.backends import BackendConfig
from smartedge.config.values import origin
from smartedge.discovery.check import PAUSE_EVERY, SLICE, Checked, EntryChecker, in_a_sentence

A, B = "http://10.0.0.1:80", "http://10.0.0.2:80"


def ids(checked: Checked) -> list[str]:
    return [one.id for one in checked.backends]


def check(*entries: object, defaults: dict[str, Any] | None = None, known: Sequence[BackendConfig] = ()) -> Checked:
    return EntryChecker(defaults or {}, known).check_entries(entries)


def test_urls_and_objects_become_the_backends_that_the_file_would_make_of_them() -> None:
    found = check(A, MappingProxyType({"url": B, "id": "b", "weight": 3, "labels": {"rack": "r1"}}))
    assert found == ((BackendConfig(url=A, id="10.0.0.1-80"), BackendConfig(url=B, id="b", weight=3, labels={"rack": "r1"})), ())


def test_defaults_hold_for_what_an_entry_does_not_say_key_by_key() -> None:
    defaults = {"weight": 5, "labels": {"from": "dns", "rack": "r0"}}
    found = check(A, {"url": B, "weight": 1, "labels": {"rack": "r1"}}, defaults=defaults)
    assert [(one.weight, dict(one.labels)) for one in found.backends] == [
        (5, {"from": "dns", "rack": "r0"}),
        (1, {"from": "dns", "rack": "r1"}),
    ]


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (
            "10.0.0.9:80",
            '"10.0.0.9:80": url "10.0.0.9:80" has no scheme; a backend looks like "http://localhost:8081"; it is left out',
        ),
        ({"url": "http://h", "wieght": 2}, '"http://h": wieght is an unknown key; did you mean "weight"? Allowed: '),
        ({"url": "http://h", "weight": "2"}, '"http://h": weight must be a whole number, not "2" (write it without quotes)'),
        ({"id": "c"}, '"c": url is missing; it is left out'),
        (
            {"url": "http://user:hush@h"},
            '"http://***@h": url "http://***@h" must not hold a user name or password; it is left out',
        ),
        ({}, "entry 1: url is missing; it is left out"),
        (7, 'entry 1: must be a URL or an object with a "url", not 7; it is left out'),
        (None, 'entry 1: must be a URL or an object with a "url", not null; it is left out'),
        (b"http://h", 'entry 1: must be a URL or an object with a "url", not a bytes; it is left out'),
        (["http://h"], 'entry 1: must be a URL or an object with a "url", not a list; it is left out'),
        ({"url": "http://h", "labels": {1, 2}}, "not an object that holds something else than JSON; it is left out"),
        ({"url": ["http://h"]}, 'entry 1: must be a URL or an object with a "url", not an object that holds something else'),
        ({"url": "http://h", "max_in_flight": float("nan")}, "not an object that holds something else than JSON; it is left out"),
    ],
)
def test_rubbish_that_is_new_is_left_out_and_said(entry: object, said: str) -> None:
    found = check(A, entry, B)
    assert ids(found) == ["10.0.0.1-80", "10.0.0.2-80"]
    (finding,) = found.findings
    assert said in finding
    assert "hush" not in finding


@pytest.mark.parametrize(
    "rubbish",
    [{"id": "b", "url": "nonsense"}, {"id": "b"}, {"url": B, "weight": -1}, {"url": "http://10.0.0.2", "weight": None}],
)
def test_rubbish_about_a_known_backend_leaves_it_as_it_was(rubbish: object) -> None:
    checker = EntryChecker({})
    before = checker.check_entries([A, {"url": B, "id": "b", "weight": 3}])
    found = checker.check_entries([A, rubbish])
    assert found.backends == before.backends
    assert found.findings[0].endswith("; it stays as it was")
    again = checker.check_entries([A, rubbish])
    assert again == found


def test_what_was_found_before_the_source_was_begun_is_known_too() -> None:
    known = BackendConfig(url=B, id="b", weight=3)
    assert check({"id": "b", "url": "?"}, known=[known]).backends == (known,)


def test_a_backend_that_is_gone_is_forgotten() -> None:
    checker = EntryChecker({})
    checker.check_entries([A, {"url": B, "id": "b"}])
    checker.check_entries([A])
    assert ids(checker.check_entries([A, {"id": "b"}])) == ["10.0.0.1-80"]


def test_an_answer_with_nothing_right_in_it_forgets_nothing() -> None:
    checker = EntryChecker({})
    checker.check_entries([{"url": B, "id": "b"}])
    assert checker.check_entries(["rubbish"]).backends == ()
    assert ids(checker.check_entries([{"id": "b"}])) == ["b"]


@pytest.mark.parametrize(
    ("first", "second", "name"),
    [
        (A, A, A),
        (A, "http://10.0.0.1", "http://10.0.0.1"),  # the same address, written otherwise
        ({"url": A, "id": "x"}, {"url": B, "id": "x"}, "x"),
        ({"url": A, "id": "x"}, {"url": A, "id": "y"}, "y"),
    ],
)
def test_of_two_with_one_id_or_address_the_first_counts(first: Any, second: Any, name: str) -> None:
    found = check(first, second)
    assert [one.url for one in found.backends] == [A]
    assert found.findings == (f'"{name}": has the id or address of {found.backends[0].id}, which came first and counts',)


def test_ids_that_would_be_the_same_differ_and_stay() -> None:
    """http and https on one port: host and port alone would name both."""
    plain, tls = "http://h:8443", "https://h:8443"
    checker = EntryChecker({})
    assert ids(checker.check_entries([tls])) == ["h-8443"]
    both = checker.check_entries([plain, tls])
    assert {one.url: one.id for one in both.backends}[tls] == "h-8443"
    assert both.backends[0].id.startswith("h-8443-")
    assert checker.check_entries([plain, tls]) == both


def test_an_entry_that_says_the_same_is_the_same_backend_object() -> None:
    checker = EntryChecker({})
    first = checker.check_entries([{"url": A, "id": "a"}, B])
    second = checker.check_entries([{"url": A, "id": "a"}, B])
    assert first.backends[0] is second.backends[0]
    assert checker.check_entries([{"url": A, "id": "a", "weight": 2}, B]).backends[0].weight == 2


def test_many_new_entries_do_not_hold_up_the_requests_of_the_worker() -> None:
    turns: list[int] = []

    def other() -> None:
        while True:
            turns.append(1)
            gevent.sleep(0)

    greenlet = gevent.spawn(other)
    checker, entries = EntryChecker({}), [f"http://10.0.{number // 250}.{number % 250}:80" for number in range(1000)]
    checker.check_entries(entries)
    assert len(turns) >= 1000 // PAUSE_EVERY - 1
    before = len(turns)
    checker.check_entries(entries[: SLICE - 1])  # those that stay cost next to nothing: 3 µs each
    assert len(turns) == before
    checker.check_entries(entries[:SLICE])
    assert len(turns) > before
    greenlet.kill()


def test_a_source_that_changes_its_own_objects_is_heard() -> None:
    checker, entry = EntryChecker({}), {"url": A, "labels": {"v": "1"}}
    checker.check_entries([entry])
    entry["labels"]["v"] = "2"  # type: ignore[index]
    assert dict(checker.check_entries([entry]).backends[0].labels) == {"v": "2"}


def test_findings_are_one_sentence_however_many_there_are() -> None:
    assert in_a_sentence([]) == ""
    assert in_a_sentence(["a", "b"]) == "a; b"
    assert in_a_sentence(list("abcdefg")) == "a; b; c; and 4 more"


def test_what_a_right_entry_says_goes_before_what_a_wrong_one_was() -> None:
    """The address of a pod that has gone may be another one's by now."""
    checker = EntryChecker({})
    checker.check_entries([{"url": A, "id": "old"}])
    found = checker.check_entries([{"id": "old"}, {"url": A, "id": "new"}])
    assert ids(found) == ["new"]


def test_rubbish_is_about_the_address_where_another_entry_is_about_its_id() -> None:
    """The same answer, given twice, found one backend less the second time."""
    checker = EntryChecker({})
    checker.check_entries([A])
    answer = [{"url": B, "id": "a"}, {"url": A, "id": "a", "labels": None}]
    first = checker.check_entries(answer)
    assert ids(first) == ["a", "10.0.0.1-80"]
    assert checker.check_entries(answer) == first


def test_a_backend_without_an_id_keeps_the_one_that_it_has_had() -> None:
    checker = EntryChecker({})
    checker.check_entries([{"url": B, "id": "10.0.0.1-80"}, A])
    first = checker.check_entries([{"url": B, "id": "10.0.0.1-80"}, A])
    assert checker.check_entries([A]).backends == first.backends[1:]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats() | st.text(max_size=5) | st.binary(max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
URLS = st.sampled_from([A, B, "http://10.0.0.1", "https://10.0.0.1:80", "unix:/run/app.sock", "http://", "10.0.0.1:80", ""])
KEYS = st.sampled_from(["url", "id", "weight", "labels", "tls", "state", "zone", "wieght", "health"])
ENTRIES = (
    URLS
    | JSON
    | st.dictionaries(KEYS, JSON, max_size=4)
    | st.fixed_dictionaries(
        {"url": URLS}, optional={"id": st.sampled_from(["a", "b", ""]) | JSON, "weight": JSON, "labels": JSON}
    )
)


@given(st.lists(st.lists(ENTRIES, max_size=6), min_size=1, max_size=4))
def test_whatever_a_source_says_backends_are_right_and_apart_and_the_same_answer_gives_the_same(answers: list[list[Any]]) -> None:
    checker = EntryChecker({"weight": 2})
    known: set[str] = set()
    for answer in answers:
        found = checker.check_entries(answer)
        assert len({one.id for one in found.backends}) == len(found.backends)
        assert len({origin(one.url) for one in found.backends}) == len(found.backends)
        assert "" not in {one.id for one in found.backends}
        assert len(found.findings) <= len(answer)
        assert len(found.backends) <= len(answer)
        right = {one.url for one in EntryChecker({"weight": 2}).check_entries(answer).backends}
        assert {one.url for one in found.backends} <= right | known
        assert checker.check_entries(answer) == found
        known |= {one.url for one in found.backends}
