from __future__ import annotations

import pytest

from smartedge.http.own_answer import own_answer


def test_an_answer_of_ours_has_a_type_and_a_length() -> None:
    assert own_answer(200, [("X-A", "1")], b"hi") == (
        200,
        [("X-A", "1"), ("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", "2")],
        b"hi",
    )


def test_a_type_that_is_written_stays_and_an_empty_body_has_none() -> None:
    assert own_answer(200, [("content-type", "text/html")], b"x")[1] == [("content-type", "text/html"), ("Content-Length", "1")]
    assert own_answer(301, [("Location", "/")], b"")[1] == [("Location", "/"), ("Content-Length", "0")]


@pytest.mark.parametrize("status", [204, 205, 304])
def test_a_status_that_has_no_body_says_no_length(status: int) -> None:
    assert own_answer(status, [], b"") == (status, [], b"")
