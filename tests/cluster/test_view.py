"""A view made of keys, and of events that came since."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from smartedge.cluster.keys import Keys
from smartedge.cluster.secret_keys import first_secrets
from smartedge.cluster.stored import Stored
from smartedge.cluster.view import Proposal, View, view_after, view_of
from smartedge.discovery.etcd_client import Event, KeyValue

KEYS = Keys("/p")
STORED = Stored(3, "text", "one", 0.0, "nonce", "id", 5)
SECRETS = first_secrets(0.0)


def pairs(values: Mapping[str, bytes]) -> list[KeyValue]:
    return [KeyValue(key, value, 1, 5, 5, 0) for key, value in values.items()]


def put(key: str, value: Any, revision: int = 6) -> Event:
    return Event("put", key, value if isinstance(value, bytes) else json.dumps(value).encode(), revision)


def gone(key: str) -> Event:
    return Event("delete", key, b"", 6)


ALL = {
    "/p/config": STORED.to_value(),
    "/p/nodes/a%2Fb": b'{"node": "a/b", "generation": 3}',
    "/p/will/backends/web/b1/state": b'"draining"',
    "/p/secrets": SECRETS.to_value(),
    "/p/secrets-fresh": b"",
    "/p/proposals/12": b'{"text": "t", "by": "one", "lease": "77"}',
    "/p/answers/12/one": b'{"ok": true}',
}


def test_a_view_has_what_the_keys_say() -> None:
    view = view_of(KEYS, 9, pairs(ALL), View())
    assert view.stored == STORED
    assert view.cards == {"a/b": {"node": "a/b", "generation": 3}}
    assert view.will == {"backends/web/b1/state": "draining"}
    assert view.secrets is not None
    assert view.secrets.sticky == SECRETS.sticky
    assert view.proposals == {"12": Proposal("t", "one", 77)}
    assert (view.revision, view.problems) == (9, {})
    assert repr(view) == "<View at 9: generation 3, nodes a/b>"


def test_no_secret_stands_in_its_repr() -> None:
    secrets = view_of(KEYS, 9, pairs(ALL), View()).secrets
    assert repr(secrets) == "<SecretKeys 2 for cookies, 2 for tickets>"


def test_events_change_what_they_are_about_and_a_view_that_was_given_away_stays() -> None:
    before = view_of(KEYS, 9, pairs(ALL), View())
    view = view_after(
        KEYS,
        before,
        10,
        [
            put("/p/nodes/c", {"node": "c"}),
            gone("/p/nodes/a%2Fb"),
            put("/p/will/x", 2),
            gone("/p/will/backends/web/b1/state"),
            gone("/p/proposals/12"),
            put("/p/elsewhere", b"\xff"),
        ],
    )
    assert (view.cards, view.will, view.proposals, view.revision) == ({"c": {"node": "c"}}, {"x": 2}, {}, 10)
    assert before.cards.keys() == {"a/b"}
    assert view.changed_from(before) == {"nodes", "will"}
    assert view_after(KEYS, view, 11, [gone("/p/config"), gone("/p/secrets")]).changed_from(view) == {"config", "secrets"}


def test_a_view_that_says_the_same_has_not_changed() -> None:
    before = view_of(KEYS, 9, pairs(ALL), View())
    assert view_of(KEYS, 99, pairs(ALL), before).changed_from(before) == frozenset()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("/p/config", b"{}"),
        ("/p/secrets", b'{"sticky": ["AAAA"], "tickets": [], "rotated_at": 1}'),
        ("/p/secrets", b"[]"),
        ("/p/nodes/a%2Fb", b"3"),
        ("/p/nodes/a%2Fb", b'{"node": "another"}'),
        ("/p/will/backends/web/b1/state", b"draining"),
        ("/p/will/backends/web/b1/state", b"NaN"),
        ("/p/will/backends/web/b1/state", b"[" * 200_000),
        ("/p/proposals/12", b"{}"),
    ],
)
def test_a_key_that_is_damaged_is_named_and_taken_for_what_it_was(key: str, value: bytes) -> None:
    before = view_of(KEYS, 9, pairs(ALL), View())
    view = view_after(KEYS, before, 10, [put(key, value)])
    assert view.problems.keys() == {key}
    assert len(view.problems[key]) < 300
    assert f"the key {key} in etcd holds" in view.problems[key]
    assert view.changed_from(before) == frozenset()
    mended = view_after(KEYS, view, 11, [put(key, ALL[key])])
    assert (mended.problems, mended.changed_from(before)) == ({}, frozenset())


def test_it_is_so_too_where_all_is_read_anew() -> None:
    before = view_of(KEYS, 9, pairs(ALL), View())
    damaged = dict.fromkeys(("/p/config", "/p/secrets", "/p/will/backends/web/b1/state"), b"?")
    view = view_of(KEYS, 10, pairs(ALL | damaged), before)
    assert view.problems.keys() == damaged.keys()
    assert view.changed_from(before) == frozenset()


def test_keys_that_are_not_there_any_more_where_all_is_read_anew_are_gone() -> None:
    before = view_of(KEYS, 9, pairs(ALL), View())
    assert view_of(KEYS, 10, [], before) == View(10)
