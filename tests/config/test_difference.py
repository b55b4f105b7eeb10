"""What differs between two configurations."""

from __future__ import annotations

import json
from typing import Any

from smartedge.config.difference import Difference, differences
from smartedge.config.model import parse

A, B = {"url": "http://a:1", "id": "a"}, {"url": "http://b:2", "id": "b"}


def between(old: Any, new: Any) -> list[Difference]:
    return differences(parse(json.dumps(old)), parse(json.dumps(new)))


def test_the_same_has_no_differences() -> None:
    assert between({"backends": [A, B]}, {"backends": [A, B], "strategy": "adaptive"}) == []


def test_a_value_is_named_with_old_and_new() -> None:
    found = between({"backends": [A]}, {"backends": [A | {"weight": 3}], "retry": {"attempts": 2}})
    assert found == [Difference("backends.a.weight", "changed", 1, 3), Difference("retry.attempts", "changed", 3, 2)]


def test_backends_come_and_go_as_a_whole_and_their_order_is_none_of_it() -> None:
    (gone,) = between({"backends": [A, B]}, {"backends": [B]})
    assert (gone.path, gone.what, gone.old["url"], gone.new) == ("backends.a", "removed", "http://a:1", None)
    (fresh,) = between({"backends": [B]}, {"backends": [A, B]})
    assert (fresh.path, fresh.what) == ("backends.a", "added")


def test_services_and_routes_are_known_by_name_and_id() -> None:
    site = {"services": {"web": {"backends": [A]}}, "routes": [{"id": "all", "to": "web"}]}
    more = {
        "services": {"web": {"backends": [A]}, "api": {"backends": [B]}},
        "routes": [{"id": "api", "path": "/api", "to": "api"}, {"id": "all", "to": "web"}],
    }
    assert [(one.path, one.what) for one in between(site, more)] == [("routes.api", "added"), ("services.api", "added")]


def test_secrets_are_masked() -> None:
    probe = {"backends": [A], "health": {"headers": {"Authorization": "Bearer x"}}}
    assert "Bearer" not in str(between({"backends": [A]}, probe))
