"""Documents as indented JSON: word for word what the standard library writes."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smartedge.admin.json_text import json_pieces

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=30)


class Colour(StrEnum):
    RED = "red"


def as_the_library_writes(document: Any) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False)


@given(st.dictionaries(st.text(), VALUES))
def test_any_document_is_written_as_the_library_does(document: dict[str, Any]) -> None:
    assert "".join(json_pieces(document)) == as_the_library_writes(document)


@given(st.lists(VALUES, min_size=1, max_size=3))
def test_long_lists_are_too_also_those_that_stand_there_twice(values: list[Any]) -> None:
    backends = values * 50
    document = {"backends": backends, "services": {"web": {"deeper": [1], "backends": backends}}, "others": tuple(backends)}
    assert "".join(json_pieces(document)) == as_the_library_writes(document)


@pytest.mark.parametrize(
    "value", [Colour.RED, float("nan"), float("-inf"), 10**30, "\ud800", "a\nb\r\u2028", (), ((),), {}, {"": {}}, [[]]]
)
def test_odd_values_are_written_as_the_library_does(value: Any) -> None:
    for document in ({"value": value}, {"values": [value] * 60}, {1: value, None: value, 1.5: value}, {True: value}):
        assert "".join(json_pieces(document)) == as_the_library_writes(document)


def test_what_cannot_be_written_is_an_error() -> None:
    with pytest.raises(TypeError):
        list(json_pieces({"value": object()}))


def test_a_long_list_comes_in_pieces() -> None:
    pieces = list(json_pieces({"backends": [{"id": number} for number in range(1000)]}))
    assert len(pieces) > 1000
