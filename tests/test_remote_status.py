"""The answers of a running balancer, as people read them."""

from __future__ import annotations

import re

import pytest

from smartedge.remote_status import reload_text, status_text


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ({"generation": 2, "message": "generation 2: added c"}, "generation 2: added c"),
        ({"message": "\x1b[2J"}, "\\u001b[2J"),
        ({"generation": 2}, '{"generation": 2}'),
    ],
)
def test_a_reload_is_told_in_one_line(answer: dict[str, object], text: str) -> None:
    assert reload_text(answer) == text


STATUS = {
    "strategy": "ewma",
    "generation": 4,
    "backends": [
        {
            "id": "a",
            "url": "http://a:1",
            "health": "healthy",
            "breaker": "closed",
            "in_flight": 3,
            "requests": 12345,
            "share_ratio": 0.75,
            "failed": 0,
            "ewma_s": 0.0123,
            "p50_s": 0.01,
            "p99_s": 1.5,
        },
        {"id": "longer", "url": "http://b:2", "health": "unknown", "breaker": "open", "ewma_s": 0.0, "p50_s": None},
        "not a backend",
    ],
}


def test_the_status_is_a_table_with_words_to_the_left_and_numbers_to_the_right() -> None:
    assert status_text(STATUS).splitlines() == [
        "strategy ewma, generation 4",
        "BACKEND  URL         HEALTH   BREAKER  IN FLIGHT  REQUESTS  SHARE  FAILED     EWMA      P50         P99",
        "a        http://a:1  healthy  closed           3    12,345  75.0%       0  12.3 ms  10.0 ms  1,500.0 ms",
        "longer   http://b:2  unknown  open             -         -      -       -        -        -           -",
    ]


@pytest.mark.parametrize(
    ("will", "shown"), [("enabled", "healthy"), ("draining", "healthy, draining"), ("disabled", "healthy, disabled")]
)
def test_a_backend_that_the_operator_took_out_is_shown_so(will: str, shown: str) -> None:
    text = status_text({"backends": [{"id": "a", "url": "http://a:1", "health": "healthy", "will": will, "breaker": "closed"}]})
    assert re.split(" {2,}", text.splitlines()[2])[2] == shown


def test_a_status_without_backends_has_only_its_head() -> None:
    assert len(status_text({}).splitlines()) == 2
