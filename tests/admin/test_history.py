"""GET /smartedge/history: the last 15 minutes of backends and services."""

from __future__ import annotations

from typing import Any

import pytest
from flask.testing import FlaskClient

from tests.admin.small_edge import SITE, SmallEdge, client_of, problem, serve

PATH = "/smartedge/history"


def pass_ticks(edge: SmallEdge, count: int) -> None:
    for _ in range(count):
        edge.told.wall += 5.0
        edge.chronicle.history.look(leading=True)


def ask(client: FlaskClient, query: str = "") -> dict[str, Any]:
    """What is told two and a half seconds after the last tick."""
    answer = client.get(PATH + query)
    assert (answer.status_code, answer.headers["Cache-Control"]) == (200, "no-store")
    document: dict[str, Any] = answer.get_json()
    return document


@pytest.fixture
def site() -> SmallEdge:
    edge = SmallEdge(**SITE)
    edge.chronicle.history.look(leading=True)
    serve(edge.backend("b1"), 7)
    pass_ticks(edge, 2)
    edge.told.wall += 2.5
    return edge


def test_all_backends_are_told_briefly(site: SmallEdge) -> None:
    document = ask(client_of(site), "?points=3")
    assert (document["every_s"], document["from"], document["points"]) == (5, 1.75e9 - 5.0, 3)
    assert list(document["series"]) == ["api/b1", "api/10.0.0.5", "web/b1", "web/b2"]
    assert document["series"]["api/b1"] == {
        "requests": [None, 7, 0],
        "failed": [None, 0, 0],
        "p50_s": [None, 0.010925, None],
        "p99_s": [None, 0.012763, None],
    }
    assert list(document["services"]) == ["api", "web"]
    assert document["services"]["api"] == {
        "requests": [None, 7, 0],
        "failed": [None, 0, 0],
        "p50_s": [None, 0.010925, None],
        "p99_s": [None, 0.012763, None],
        "in_flight": [0, 0, 0],
        "state": ["unprobed", "unprobed", "unprobed"],
    }


def test_one_backend_is_told_whole(site: SmallEdge) -> None:
    document = ask(client_of(site), "?backend=api/b1")
    assert list(document["series"]) == ["api/b1"]
    series = document["series"]["api/b1"]
    assert {name: len(values) for name, values in series.items()} == dict.fromkeys(
        ("requests", "failed", "p50_s", "p99_s", "in_flight", "state"), 180
    )
    assert series["requests"][-2:] == [7, 0]
    assert document == ask(client_of(site), "?service=api&backend=b1")


def test_one_service_is_told_alone(site: SmallEdge) -> None:
    document = ask(client_of(site), "?service=api&points=1")
    assert (list(document["services"]), list(document["series"])) == (["api"], ["api/b1", "api/10.0.0.5"])


def test_names_are_told_as_they_are() -> None:
    name = '"<script>\u202e🚀'
    edge = SmallEdge(services={"web": {"backends": [{"url": "http://a", "id": "b1"}]}})
    edge.services = {name: edge.services["web"]}
    assert list(ask(client_of(edge))["services"]) == [name]


@pytest.mark.parametrize(
    ("query", "status", "detail"),
    [
        ("points=0", 400, "points must be a whole number from 1 to 180."),
        ("points=181", 400, "points must be a whole number from 1 to 180."),
        ("points=1e2", 400, "points must be a whole number from 1 to 180."),
        ("service=nobody", 404, 'There is no service "nobody". There are: api, web.'),
        ("backend=b1", 409, 'Several services have a backend "b1": say api/b1, web/b1.'),
        ("backend=nobody", 404, 'There is no backend "nobody". There are: api/b1, api/10.0.0.5, web/b1, web/b2.'),
    ],
)
def test_a_wrong_question_is_told_what_would_be_right(site: SmallEdge, query: str, status: int, detail: str) -> None:
    found = problem(client_of(site).get(f"{PATH}?{query}"), status)["detail"]
    assert found == detail


def test_who_may_not_administer_is_told_nothing(site: SmallEdge) -> None:
    site.token = "s3cret"
    assert problem(client_of(site).get(PATH, headers={"Authorization": "Bearer wrong"}), 401)
