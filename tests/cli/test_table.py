"""Columns, objects of an answer, and times as people say them."""

from __future__ import annotations

import pytest

from smartedge.cli.table import duration_text, entries_of, table_lines


def test_words_stand_to_the_left_and_numbers_to_the_right() -> None:
    assert table_lines([["NAME", "COUNT", "STATE"], ["one", "7", ""]], numbers=[1]) == ["NAME  COUNT  STATE", "one       7"]


@pytest.mark.parametrize(
    ("seconds", "text"), [(-1.0, "0 s"), (59.9, "59 s"), (62, "1 min 2 s"), (7_860, "2 h 11 min"), (90_000, "1 d 1 h")]
)
def test_a_time_is_said_in_its_two_largest_units(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


@pytest.mark.parametrize(("value", "entries"), [([{"a": 1}, 3], [{"a": 1}]), (None, []), ({"a": 1}, []), ("x", [])])
def test_what_another_version_may_answer_is_no_error(value: object, entries: list[object]) -> None:
    assert entries_of(value) == entries
