"""Our own errors as RFC 9457 has them."""

from __future__ import annotations

import json

import pytest

from smartedge.balancer.errors import BackendTimeout, ClientGone, ConnectFailed, EdgeError, NoBackend
from smartedge.http import problem


@pytest.mark.parametrize("error", [BackendTimeout("slow"), ConnectFailed("refused"), EdgeError("bug"), NoBackend("none")])
def test_a_problem_says_status_title_detail_and_request_id(error: EdgeError) -> None:
    status, fields, body = problem.answer(error, "id-7")
    document = json.loads(body)
    assert (document["status"], document["title"], document["detail"]) == (status, error.title, error.detail)
    assert document["request_id"] == "id-7"
    assert dict(fields)["Content-Type"] == "application/problem+json"
    assert dict(fields)["Content-Length"] == str(len(body))


def test_a_problem_names_the_trace_that_the_request_belongs_to() -> None:
    assert "trace_id" not in json.loads(problem.answer(ConnectFailed("refused"), "id-7")[2])
    assert json.loads(problem.answer(ConnectFailed("refused"), "id-7", "0af7")[2])["trace_id"] == "0af7"


def test_retry_after_is_whole_seconds_and_at_least_one() -> None:
    for given, told in ((0.0, "1"), (0.2, "1"), (1.2, "2"), (30.0, "30")):
        assert dict(problem.answer(NoBackend("none", retry_after_s=given), "i")[1])["Retry-After"] == told
    assert "Retry-After" not in dict(problem.answer(NoBackend("none"), "i")[1])


def test_every_status_has_a_reason() -> None:
    assert (problem.reason(404), problem.reason(499), problem.reason(299)) == ("Not Found", "Client Closed Request", "Unknown")
    assert ClientGone("x").status == 499
