"""What was found beside what was written: which of both counts, what stays the very same object, and what is told of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from smartedge.config.backends import BackendConfig
from smartedge.config.found import NOTHING_FOUND, Change, Found, found_of, parse_backends, parse_found, sources_of, text_of
from smartedge.config.model import parse

WEB = {"backends": ["http://w:1"], "discover": {"dns": {"name": "web", "port": 1}, "file": {"path": "x"}}}
API = {"discover": {"etcd": {"prefix": "/api/"}}}
ROUTES = [{"path": "/api", "to": "api"}, {"to": "web"}]


def one(url: str, label: str = "", **more: Any) -> BackendConfig:
    return BackendConfig.model_validate({"url": url, "id": label or url.partition("//")[2].replace(":", "-"), **more})


A, B, C = one("http://a:1"), one("http://b:1"), one("http://c:1")


def ids(config: Any) -> dict[str, list[str]]:
    return {service.name: [backend.id for backend in service.config.backends] for service in config.all_services()}


def test_found_backends_stand_behind_the_written_ones_of_their_service_and_are_not_written() -> None:
    written = parse(json.dumps({"services": {"web": WEB, "api": API}, "routes": ROUTES}))

    whole = written.with_found({"web": (A, B), "other": (C,)})

    assert ids(whole) == {"api": [], "web": ["w-1", "a-1", "b-1"]}
    assert [spec.id for spec in whole.services["web"].specs("web")] == ["w-1", "a-1", "b-1"]
    assert (whole.etag, whole.to_json()) == (written.etag, written.to_json())
    assert whole.written is written
    assert whole.services["api"] is written.services["api"]
    assert whole.services["web"].written is written.services["web"]


def test_the_service_of_the_short_form_has_them_too_and_others_as_they_were_are_gone() -> None:
    written = parse(json.dumps({**WEB, "strategy": "ewma"}))
    first = written.with_found({"default": (A,)})

    again = first.with_found({"default": (B,)})

    assert ids(first) == {"default": ["w-1", "a-1"]}
    assert ids(again) == {"default": ["w-1", "b-1"]}
    assert (again.etag, again.strategy, again.written is written) == (written.etag, "ewma", True)
    assert again.with_found({}) is written


def test_the_same_found_again_is_the_same_object() -> None:
    written = parse(json.dumps({"services": {"web": WEB, "api": API}, "routes": ROUTES}))
    found = (A,)

    assert written.with_found({"web": found}).services["web"] is written.with_found({"web": found}).services["web"]


def test_a_service_that_asks_no_source_gets_nothing() -> None:
    written = parse('{"backends": ["http://w:1"]}')

    assert written.with_found({"default": (A,)}) is written


@pytest.mark.parametrize("double", [one("http://w:1", "other"), one("http://z:1", "w-1"), one("HTTP://W:1/", "x")])
def test_of_two_with_one_id_or_address_the_written_one_counts(double: BackendConfig) -> None:
    written = parse(json.dumps(WEB))

    assert ids(written.with_found({"default": (double, A)})) == {"default": ["w-1", "a-1"]}


def test_what_several_sources_find_is_added_together() -> None:
    found = found_of({("web", "dns"): (A,), ("web", "file"): (B, C), ("api", "etcd"): ()})

    assert found.backends == {"web": (A, B, C), "api": ()}


def test_of_two_with_one_id_or_address_that_of_the_first_source_counts() -> None:
    found = found_of({("web", "dns"): (A, B), ("web", "file"): (one("http://a:1", "later"), one("http://d:1", "b-1"), C)})

    assert found.backends == {"web": (A, B, C)}


def test_what_was_found_before_is_not_held_for_ever() -> None:
    """Each copy held the one before it, so that an edge grew by all that it had ever found."""
    written = parse(json.dumps(WEB))
    for port in range(3, 6):
        whole = written.with_found({"default": (one(f"http://a:{port}"),)})

    assert whole._with_found is None


def test_what_stays_the_same_is_the_same_object() -> None:
    before = found_of({("web", "dns"): (A,), ("web", "file"): (B,), ("api", "etcd"): (C,)})

    after = before.replaced({("api", "etcd"): (C, A)})

    assert after.backends["web"] is before.backends["web"]
    assert after.backends["api"] == (C, A)
    assert before.replaced({("web", "dns"): (one("http://a:1"),)}) is before


def test_what_a_source_that_is_asked_no_more_has_found_is_gone() -> None:
    written = parse(json.dumps({"services": {"web": WEB, "api": API}, "routes": ROUTES}))
    found = found_of({("web", "dns"): (A,), ("web", "etcd"): (B,), ("gone", "dns"): (C,)})

    kept = found.only_for(sources_of(written.all_services()))

    assert kept.backends == {"web": (A,)}
    assert kept.only_for(sources_of(written.all_services())) is kept


def test_changes_are_told_by_id() -> None:
    heavier = one("http://a:1", weight=2)
    before = found_of({("web", "dns"): (A, B), ("api", "dns"): (C,)})
    after = found_of({("web", "dns"): (heavier, C), ("new", "dns"): (A,), ("api", "dns"): (C,)}, before)

    assert after.changes_since(before) == [Change("new", ("a-1",), (), ()), Change("web", ("c-1",), ("b-1",), ("a-1",))]
    assert NOTHING_FOUND.changes_since(before)[0] == Change("api", (), ("c-1",), ())
    assert after.changes_since(after) == []


def test_other_workers_read_the_same_and_share_what_stays() -> None:
    full = one(
        "https://f:1/base", "f", weight=3, labels={"a": "b"}, health={"path": "/up"}, tls={"verify": False}, max_in_flight=7
    )
    here = found_of({("web", "dns"): (A, full), ('we"b', "own:Class"): (B,)})

    there = parse_found(json.loads(here.text))
    then = parse_found(json.loads(here.replaced({("web", "dns"): (A, full, C)}).text), there)

    assert there == Found(here.sets, here.backends)
    assert there.sets["web", "dns"][1].model_dump(exclude_unset=True) == full.model_dump(exclude_unset=True)
    assert [kept is was for kept, was in zip(then.sets["web", "dns"], there.sets["web", "dns"], strict=False)] == [True, True]
    assert then.sets["web", "dns"][2] == C
    assert parse_found(json.loads(there.text), there) is there


def test_one_of_which_something_else_is_said_is_read_anew() -> None:
    (heavier,) = parse_backends(json.loads(text_of([one("http://a:1", weight=2)])), (A,))

    assert (heavier.weight, A.weight) == (2, 1)


@pytest.mark.parametrize(
    "document", [[], {"web": []}, {"web": {"dns": [{}]}}, {"web": {"dns": [{"id": "a", "url": 3}]}}, {"a": {"b": 3}}]
)
def test_what_is_no_such_text_is_refused(document: Any) -> None:
    with pytest.raises(ValueError, match="does not say which backends were found"):
        parse_found(document)
