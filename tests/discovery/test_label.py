from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smartedge.config import values
from smartedge.discovery.label import label_of


@pytest.mark.parametrize(
    ("text", "label"),
    [("web-1", "web-1"), ("10.0.0.1:8000", "10.0.0.1-8000"), ("[::1]:80", "1-80"), ("dc1/web", "dc1-web"), ("a b", "a-b")],
)
def test_a_name_becomes_a_plain_one(text: str, label: str) -> None:
    assert label_of(text) == label


@given(st.text(max_size=200))
def test_any_text_becomes_a_label(text: str) -> None:
    assert values.label(label_of(text)) == label_of(text)


def test_long_ones_that_begin_alike_stay_apart() -> None:
    first, second = label_of("x" * 70 + "1"), label_of("x" * 70 + "2")
    assert first != second
    assert values.label(first) == first
    assert label_of("x" * 64) == "x" * 64
