from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smartedge.discovery.check import EntryChecker
from smartedge.discovery.consul_values import entries_of, instances_of, next_index

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["Node", "Service", "Checks", "ID", "Tags", "Meta", "Weights", "Passing", "Address", "Port", "Status"]
            ),
            inner,
            max_size=6,
        )
    ),
    max_leaves=20,
)


def instance(checks: Any = None, node: Any = None, **service: Any) -> dict[str, Any]:
    return {
        "Node": {"Node": "n1", "Address": "10.0.0.1", "Meta": None, **(node or {})},
        "Service": {"ID": "api", "Service": "api", "Address": "10.1.1.1", "Port": 8000, "Tags": None, "Meta": None, **service},
        "Checks": checks or [],
    }


def entry(*arguments: Any, **more: Any) -> Any:
    return entries_of([instance(*arguments, **more)], "http")[0]


def test_an_instance_is_a_backend() -> None:
    assert entry() == {"id": "n1-api", "url": "http://10.1.1.1:8000", "labels": {}}


def test_no_address_of_its_own_is_that_of_its_machine() -> None:
    assert entry(Address="")["url"] == "http://10.0.0.1:8000"


def test_an_ipv6_address_is_in_brackets() -> None:
    assert entry(Address="2001:db8::1")["url"] == "http://[2001:db8::1]:8000"


def test_two_machines_may_have_the_same_id() -> None:
    ids = [one["id"] for one in entries_of([instance(), instance(node={"Node": "n2"})], "http")]  # type: ignore[call-overload, index]
    assert ids == ["n1-api", "n2-api"]


@pytest.mark.parametrize(
    ("statuses", "weight"),
    [((), 7), (("passing",), 7), (("passing", "warning"), 3), (("warning", "critical"), 7)],
)
def test_the_weight_is_that_of_its_health(statuses: tuple[str, ...], weight: int) -> None:
    checks = [{"Status": status} for status in statuses]
    assert entry(checks, Weights={"Passing": 7, "Warning": 3})["weight"] == weight


def test_weights_that_are_too_heavy_are_made_lighter_together() -> None:
    weights = [65535, 6553, 1, 0]
    found = entries_of([instance(ID=str(weight), Weights={"Passing": weight}) for weight in weights], "http")
    assert [one.get("weight") for one in found] == [1000, 100, 1, 0]  # type: ignore[union-attr]


def test_tags_and_meta_are_labels() -> None:
    found = entry(Tags=["prod", "eu"], Meta={"version": "7", "a b": "x\ny", "long": "z" * 300})
    assert found["labels"] == {"tags": "prod,eu", "version": "7", "a-b": "xy", "long": "z" * 256}


def test_labels_are_as_many_as_a_backend_may_have() -> None:
    found = entry(Tags=["t"], Meta={f"m{number:02}": "" for number in range(30)})
    assert list(found["labels"]) == ["tags", *(f"m{number:02}" for number in range(15))]


@pytest.mark.parametrize(
    ("service", "node", "zone"),
    [
        ({"Meta": {"zone": "eu-1a"}, "Locality": {"Zone": "other"}}, {"Meta": {"zone": "third"}}, "eu-1a"),
        ({"Locality": {"Region": "eu", "Zone": "eu-1b"}}, {}, "eu-1b"),
        ({}, {"Meta": {"zone": "rack 7"}}, "rack-7"),
        ({}, {"Locality": {"Zone": "eu-1c"}}, "eu-1c"),
        ({"Meta": {"zone": ""}}, {}, None),
    ],
)
def test_the_zone_is_in_the_meta_of_the_service_or_its_machine(service: Any, node: Any, zone: str | None) -> None:
    assert entry(node=node, **service).get("zone") == zone


def test_the_region_comes_likewise() -> None:
    assert entry(Locality={"Region": "eu"})["region"] == "eu"


def test_only_those_with_all_tags() -> None:
    """Consul filters itself; agents before 1.3 went by one tag only."""
    instances = [instance(ID="a", Tags=["prod"]), instance(ID="b", Tags=["prod", "eu"]), instance(ID="c")]
    assert [one["id"] for one in entries_of(instances, "http", ("prod", "eu"))] == ["n1-b"]  # type: ignore[call-overload, index]


@pytest.mark.parametrize(
    "rubbish",
    [
        7,
        None,
        {},
        {"Service": []},
        instance(Port="x"),
        instance(Port=0),
        instance(Address=7),
        instance(Address="a b"),
        instance(Weights={"Passing": "x"}),
        instance(Weights={"Passing": -1}),
        instance(ID=7, Service=None, Port=None),
    ],
)
def test_rubbish_is_told_and_loses_nothing(rubbish: Any) -> None:
    checked = EntryChecker({}).check_entries(entries_of([instance(), rubbish], "http"))
    assert [one.id for one in checked.backends] == ["n1-api"]
    assert len(checked.findings) == 1


@given(JSON)
def test_nothing_that_is_json_raises(found: Any) -> None:
    EntryChecker({}).check_entries(entries_of([found], "http", ()))
    entries_of([{"Service": found, "Node": found, "Checks": found}], "https", ("a",))


@pytest.mark.parametrize(
    ("before", "said", "following"), [(0, 7, 7), (7, 7, 7), (7, 9, 9), (9, 7, 0), (0, 0, 1), (1, 0, 1), (0, -3, 1), (5, 0, 0)]
)
def test_an_index_goes_up_or_begins_anew(before: int, said: int, following: int) -> None:
    assert next_index(before, said) == following


@given(st.lists(JSON, max_size=4), st.sampled_from([None, 2]))
def test_a_list_is_read_item_by_item(items: list[Any], indent: int | None) -> None:
    assert list(instances_of(f" {json.dumps(items, indent=indent)}\n")) == items


@pytest.mark.parametrize("text", ["", "{}", "null", "[", "[1", "[1,", "[1,]", "[1 2]", "[,]", "[]x", "[1] [2]", "1"])
def test_what_is_no_list_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        list(instances_of(text))


def test_an_item_is_there_before_the_rest_is_read() -> None:
    items = instances_of('[{"a": 1}, rubbish')
    assert next(items) == {"a": 1}
    with pytest.raises(ValueError):
        next(items)
