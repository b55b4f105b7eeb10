"""GET /smartedge/events: what happened, in pages and as a stream."""

from __future__ import annotations

from typing import Any

import pytest
from flask.testing import FlaskClient

from tests.admin.small_edge import SITE, SmallEdge, client_of, problem

PATH = "/smartedge/events"
REFUSED = (
    "backends.json: backends: must hold at least one backend; the smallest configuration is "
    '{"backends": ["http://localhost:8081"]}'
)


def texts(answer: Any) -> list[str]:
    assert answer.status_code == 200
    return [event["text"] for event in answer.get_json()["events"]]


def tell(edge: SmallEdge, *numbers: int, service: str | None = "web", backend: str | None = "b1") -> None:
    for number in numbers:
        edge.told.wall += 1.0
        edge.chronicle.events.write("up", "info", f"e{number}", service, backend)


def test_without_a_cursor_the_newest_are_given_oldest_first(edge: SmallEdge, client: FlaskClient) -> None:
    assert client.get(PATH).get_json() == {"events": [], "cursor": "0-0"}
    tell(edge, *range(200))
    assert texts(client.get(PATH)) == [f"e{number}" for number in range(100, 200)]
    assert texts(client.get(f"{PATH}?limit=2")) == ["e198", "e199"]


def test_a_cursor_goes_on_where_the_answer_before_ended(edge: SmallEdge, client: FlaskClient) -> None:
    tell(edge, 0, 1)
    cursor = client.get(PATH).get_json()["cursor"]
    assert client.get(f"{PATH}?after={cursor}").get_json() == {"events": [], "cursor": cursor}
    tell(edge, 2, 3, 4)
    first = client.get(f"{PATH}?after={cursor}&limit=2")
    assert texts(first) == ["e2", "e3"]
    assert texts(client.get(f"{PATH}?after={first.get_json()['cursor']}&limit=2")) == ["e4"]


def test_the_first_cursor_of_an_edge_without_events_gives_all_that_come(edge: SmallEdge, client: FlaskClient) -> None:
    cursor = client.get(PATH).get_json()["cursor"]
    tell(edge, 1)
    assert texts(client.get(f"{PATH}?after={cursor}")) == ["e1"]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("service=web", ["e0", "e1"]),
        ("service=api&backend=b1", ["e2"]),
        ("backend=web/b1", ["e0"]),
        ("backend=b2", ["e1"]),
        ("backend=10.0.0.5", ["e3", "e4"]),
        ("backend=gone", ["e5"]),
        ("service=gone", ["e5"]),
        ("backend=nobody", []),
        ("since=1750000003.5", ["e3", "e4", "e5", "e6"]),
    ],
)
def test_only_what_is_asked_for(query: str, found: list[str]) -> None:
    edge = SmallEdge(**SITE)
    tell(edge, 0)
    tell(edge, 1, backend="b2")
    tell(edge, 2, service="api")
    tell(edge, 3, service="api", backend="10.0.0.5")
    tell(edge, 4, service="api", backend="10.0.0.5/::1")
    tell(edge, 5, service="gone", backend="gone")
    tell(edge, 6, service=None, backend=None)
    assert texts(client_of(edge).get(f"{PATH}?{query}")) == found


def test_an_id_that_several_services_have_is_refused_without_its_service(services: SmallEdge) -> None:
    answer = client_of(services).get(f"{PATH}?backend=b1")
    assert problem(answer, 409)["detail"] == 'Several services have a backend "b1": say api/b1, web/b1.'


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ("after=x", "after must be the cursor of an answer: it is none that an answer has given."),
        ("limit=0", "limit must be a whole number from 1 to 1000."),
        ("limit=1001", "limit must be a whole number from 1 to 1000."),
        ("limit=%D9%A3", "limit must be a whole number from 1 to 1000."),
        ("since=yesterday", "since must be a Unix time in seconds."),
        ("since=nan", "since must be a Unix time in seconds."),
        ("since=-1", "since must be a Unix time in seconds."),
    ],
)
def test_a_wrong_question_is_told_what_would_be_right(client: FlaskClient, query: str, detail: str) -> None:
    assert problem(client.get(f"{PATH}?{query}"), 400)["detail"] == detail


def test_what_operators_do_is_an_event_with_their_address(edge: SmallEdge, client: FlaskClient) -> None:
    client.post("/smartedge/backends/b2/drain")
    client.post("/smartedge/backends/b2/drain")  # no news
    client.post("/smartedge/backends/b2/weight", json={"weight": 7})
    client.post("/smartedge/drain")
    client.post("/smartedge/enable")
    client.post("/api/reload", json={"backends": []})
    assert [(event["kind"], event["by"], event["text"]) for event in edge.told.all()] == [
        ("state_changed", "127.0.0.1", "b2 was drained by 127.0.0.1"),
        ("weight_changed", "127.0.0.1", "b2 was given weight 7 by 127.0.0.1, after 1"),
        ("edge_drained", "127.0.0.1", "the edge drained by 127.0.0.1"),
        ("edge_enabled", "127.0.0.1", "the edge enabled by 127.0.0.1"),
        ("reload_refused", "127.0.0.1", "reload refused, nothing changed: " + REFUSED),
    ]


def test_a_reload_says_who_asked_for_it(edge: SmallEdge, client: FlaskClient) -> None:
    client.post("/api/reload")
    assert edge.asked_by == "127.0.0.1"


def test_who_may_not_administer_hears_nothing(edge: SmallEdge) -> None:
    edge.token = "s3cret"
    client = client_of(edge)
    assert problem(client.get(PATH, headers={"Authorization": "Bearer wrong"}), 401)
    stream = client.get(PATH, headers={"Authorization": "Bearer wrong", "Accept": "text/event-stream"})
    assert problem(stream, 401)
    assert texts(client.get(PATH, headers={"Authorization": "Bearer s3cret"})) == []


@pytest.mark.parametrize(
    ("accept", "is_stream"),
    [
        ("text/event-stream", True),
        ("text/event-stream, */*;q=0.5", True),
        ("text/event-stream, */*", True),
        ("*/*", False),
        ("application/json", False),
        ("text/html,application/xhtml+xml,*/*;q=0.8", False),
        ("application/json, text/event-stream;q=0.5", False),
        ("nonsense", False),
    ],
)
def test_a_stream_is_for_those_who_would_rather_have_one(
    edge: SmallEdge, client: FlaskClient, accept: str, is_stream: bool
) -> None:
    answer = client.head(PATH, headers={"Accept": accept})
    assert (answer.status_code, answer.mimetype == "text/event-stream") == (200, is_stream)


def test_a_stream_begins_after_its_cursor_or_the_last_event_that_came(edge: SmallEdge, client: FlaskClient) -> None:
    tell(edge, 0)
    cursor = client.get(PATH).get_json()["cursor"]
    tell(edge, 1, 2)
    for query, headers in ((f"?after={cursor}", {}), ("", {"Last-Event-ID": cursor})):
        answer = client.get(PATH + query, headers={"Accept": "text/event-stream", **headers})
        pieces = iter(answer.response)
        assert next(pieces) == b"retry: 1000\n\n"
        assert [line for line in next(pieces).split(b"\n") if line.startswith(b"event")] == [b"event: up"] * 2
        assert answer.headers["X-Accel-Buffering"] == "no"
        answer.close()
    assert not edge.chronicle.feed._streams


def test_a_worker_takes_a_hundred_streams(edge: SmallEdge, client: FlaskClient) -> None:
    streams = [client.get(PATH, headers={"Accept": "text/event-stream"}) for _ in range(100)]
    answer = client.get(PATH, headers={"Accept": "text/event-stream"})
    assert problem(answer, 503)["title"] == "Too many streams"
    assert answer.headers["Retry-After"] == "5"
    for stream in streams:
        stream.close()
    assert client.head(PATH, headers={"Accept": "text/event-stream"}).status_code == 200
