"""What the operator of a cluster says: as keys, and as what backends and nodes then do."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

from smartedge.balancer.backend import Backend
from smartedge.balancer.learned import Learned
from smartedge.config.model import Config, parse
from smartedge.edge.operator_will import (
    ALL_DRAIN,
    STATE,
    WEIGHT,
    WillChange,
    backend_key,
    backend_wishes,
    drain_wishes,
    drains,
    node_key,
    outdated_wishes,
    use_wishes,
)
from tests.house import pool

A, B = "http://10.0.0.1:8081", "http://10.0.0.2:8081"


def config(**of_a: Any) -> Config:
    return parse(json.dumps({"backends": [{"url": A, "id": "a", **of_a}, {"url": B, "id": "b"}]}))


def said(wishes: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """What is in force after these changes."""
    return {key: value for key, value in {**wishes, **changes}.items() if value is not None}


def test_a_node_drains_by_its_own_wish_or_that_of_all_and_the_later_one_is_right() -> None:
    wishes: dict[str, Any] = {}
    for node, draining, expected in (
        ("one", True, (True, False)),
        ("one", False, (False, False)),
        (None, True, (True, True)),
        ("one", False, (False, True)),
        ("one", True, (True, True)),
        ("two", False, (True, False)),
        (None, True, (True, True)),
        (None, False, (False, False)),
    ):
        wishes = said(wishes, drain_wishes(wishes, node, draining=draining))
        assert (drains(wishes, "one"), drains(wishes, "two")) == expected
    assert wishes == {}
    assert drains({ALL_DRAIN: "rubbish", node_key("one"): 1}, "one") is False


def test_what_is_said_of_an_entry_takes_back_what_was_said_of_its_addresses() -> None:
    address, entry = backend_key("web", "a/10.0.0.1", STATE), backend_key("web", "a", STATE)
    wishes = said({}, backend_wishes({}, "web", "a/10.0.0.1", STATE, "draining"))
    assert wishes == {address: "draining"}
    other = backend_key("web", "ab/10.0.0.1", STATE)
    wishes = said({**wishes, other: "disabled"}, backend_wishes({**wishes, other: "disabled"}, "web", "a", STATE, "disabled"))
    assert wishes == {entry: "disabled", other: "disabled"}


def test_the_configuration_takes_back_what_it_says_otherwise_since_and_what_is_gone() -> None:
    wishes = {backend_key("default", name, what): "x" for name in ("a", "b", "found") for what in (STATE, WEIGHT)}
    assert outdated_wishes(wishes, config(), config()) == {}
    assert outdated_wishes(wishes, config(), config(weight=3)) == {backend_key("default", "a", WEIGHT): None}
    assert outdated_wishes(wishes, config(state="draining"), config()) == {backend_key("default", "a", STATE): None}
    alone = parse(json.dumps({"backends": [{"url": A, "id": "a"}]}))
    gone = {backend_key("default", "b", what): None for what in (STATE, WEIGHT)}
    assert outdated_wishes(wishes, config(), alone) == gone
    assert outdated_wishes({"rubbish": 1, "backends/x": 2, ALL_DRAIN: True}, config(), alone) == {}


def test_backends_are_as_was_said_and_else_as_is_written() -> None:
    backends = [Backend(spec, Learned(spec)) for spec in config(state="draining", weight=2).specs()]
    services: Any = {"default": SimpleNamespace(pool=pool(backends))}

    def standing() -> list[tuple[str, int]]:
        return [(backend.state, backend.full_weight) for backend in backends]

    assert standing() == [("draining", 2), ("enabled", 1)]
    wishes = {
        backend_key("default", "a", STATE): "enabled",
        backend_key("default", "a", WEIGHT): 0,
        backend_key("default", "b", STATE): "disabled",
        backend_key("default", "b", WEIGHT): 9,
        backend_key("default", "none", STATE): "disabled",
    }
    assert use_wishes(wishes, services) == [
        WillChange("default", "a", STATE, "draining", "enabled"),
        WillChange("default", "a", WEIGHT, 2, 0),
        WillChange("default", "b", STATE, "enabled", "disabled"),
        WillChange("default", "b", WEIGHT, 1, 9),
    ]
    assert standing() == [("enabled", 0), ("disabled", 9)]
    assert use_wishes(wishes, services) == []
    use_wishes({backend_key("default", "a", STATE): "gone fishing", backend_key("default", "b", WEIGHT): "much"}, services)
    assert standing() == [("draining", 2), ("enabled", 1)], "rubbish says nothing"
