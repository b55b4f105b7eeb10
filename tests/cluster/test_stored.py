"""The value of the configuration's key."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smartedge.cluster.errors import Foreign
from smartedge.cluster.stored import Stored, stored_of

ONE = Stored(18, '{"backends": ["http://a:1"]}\n', "edge-1", 1764201600.25, "nonce", "id", 7)


def test_it_is_an_object_that_an_operator_can_read() -> None:
    assert json.loads(ONE.to_value()) == {
        "generation": 18,
        "by": "edge-1",
        "at": 1764201600.25,
        "id": "id",
        "nonce": "nonce",
        "text": '{"backends": ["http://a:1"]}\n',
    }
    assert "é" in replace(ONE, text="é").to_value().decode()


@given(st.text(), st.integers(1, 2**52), st.floats(allow_nan=False, allow_infinity=False))
def test_what_is_written_is_read_again(text: str, generation: int, at: float) -> None:
    stored = replace(ONE, text=text, generation=generation, at=at, mod_revision=0)
    assert stored_of(stored.to_value(), "/p/config") == stored


def test_a_text_that_is_no_unicode_comes_back_as_it_was() -> None:
    assert stored_of(replace(ONE, text="\ud800").to_value(), "/p/config", 7).text == "\ud800"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("generation", 0),
        ("generation", "18"),
        ("generation", 18.0),
        ("generation", True),
        ("generation", 2**60),
        ("at", "yesterday"),
        ("at", None),
        ("at", float("inf")),
        ("at", float("nan")),
        ("text", None),
        ("text", {}),
        ("by", 3),
        ("nonce", []),
        ("id", None),
    ],
)
def test_what_another_program_wrote_is_not_taken_for_a_configuration(name: str, value: object) -> None:
    with pytest.raises(Foreign, match="the key /p/config in etcd holds no configuration of SmartEdge's"):
        stored_of(json.dumps(json.loads(ONE.to_value()) | {name: value}).encode(), "/p/config")


@given(st.binary(max_size=40))
def test_no_bytes_whatever_are_an_error_of_another_kind(value: bytes) -> None:
    with pytest.raises(Foreign):
        stored_of(value, "/p/config")


def test_neither_are_a_thousand_brackets_and_a_number_without_end() -> None:
    for value in (b"[" * 200_000, b'{"generation": ' + b"1" * 10_000 + b"}"):
        with pytest.raises(Foreign):
            stored_of(value, "/p/config")


def test_a_configuration_is_lost_where_an_older_one_or_none_of_the_same_cluster_is() -> None:
    older, newer = replace(ONE, generation=17), replace(ONE, generation=19)
    assert ONE.is_lost_in(None)
    assert ONE.is_lost_in(older)
    assert not ONE.is_lost_in(newer)
    assert not ONE.is_lost_in(replace(ONE, nonce="another"))
    assert not ONE.is_lost_in(replace(older, id="another"))


def test_two_writes_are_the_same_by_what_they_say_wherever_they_were_read() -> None:
    assert ONE.is_same(replace(ONE, mod_revision=9))
    assert not ONE.is_same(replace(ONE, nonce="another"))
    assert not ONE.is_same(replace(ONE, text="edited by hand"))
    assert not ONE.is_same(None)
