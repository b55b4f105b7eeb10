"""The pages that say why, on a whole app before scripted backends."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest
from werkzeug.test import TestResponse

from smartedge.admin.decisions import LISTED, _is_of
from smartedge.app import SmartEdge, create_app
from smartedge.balancer.strategies.menu import LeastRequests
from smartedge.config.model import parse
from tests.fakes import local_client
from tests.live.peers import Script, answers, echo


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("SMARTEDGE_STATE_DIR", str(tmp_path / "state"))
    with gevent.Timeout(10):
        yield


@pytest.fixture
def good() -> Iterator[Script]:
    with Script(answers()) as script:
        yield script


def app_for(*backends: Script, ratio: float = 1.0, **settings: Any) -> SmartEdge:
    members = [{"url": backend.url, "id": f"b{number}"} for number, backend in enumerate(backends, 1)]
    return create_app(parse(json.dumps({"backends": members, "explain": {"sample_ratio": ratio}, **settings})))


def ask(app: SmartEdge, request_id: str, path: str = "/", **headers: str) -> TestResponse:
    """Have a request forwarded, to its last byte: then it is recorded."""
    return local_client(app).get(path, headers={"X-Request-Id": request_id, **headers}, buffered=True)


def probed(app: SmartEdge) -> SmartEdge:
    """Begin to serve, and wait until every backend has been probed."""
    app.edge.begin_serving()
    while any(backend.why_not(app.edge.now()) == "unprobed" for backend in app.edge.pool.backends):
        gevent.sleep(0.01)
    return app


def listed(app: SmartEdge, query: str = "") -> list[dict[str, Any]]:
    answer = local_client(app).get(f"/smartedge/decisions{query}")
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.get_json()["decisions"]
    return found


def test_the_list_is_newest_first_and_can_be_narrowed(good: Script) -> None:
    app = app_for(good)
    client = local_client(app)
    for number in range(5):
        ask(app, f"r-{number}", f"/{number}")
    found = listed(app)
    assert [one["request_id"] for one in found] == ["r-4", "r-3", "r-2", "r-1", "r-0"]
    assert found[0].keys() == {*LISTED, "backends"}
    assert (found[0]["path"], found[0]["status"], found[0]["outcome"], found[0]["backends"]) == ("/4", 200, "ok", ["b1"])
    assert found[0]["summary"].startswith("b1 was picked")
    assert len(listed(app, "?limit=2")) == 2
    assert len(listed(app, "?backend=b1&outcome=ok")) == 5
    assert listed(app, "?backend=b2") == listed(app, "?outcome=failed") == []
    whole = client.get("/smartedge/decisions?limit=1").get_json()
    assert (whole["found"], whole["sample_ratio"]) == (5, 1.0)
    app.edge.stop()


def test_one_request_is_told_in_full_and_its_id_may_hold_slashes(good: Script) -> None:
    app = app_for(good)
    client = local_client(app)
    ask(app, "a/b==")
    for path in ("a/b==", "a%2Fb%3D%3D"):
        found = client.get(f"/smartedge/decisions/{path}").get_json()
        assert found["request_id"] == "a/b=="
        assert found["tries"][0]["candidates"][0]["picked"] is True
    app.edge.stop()


def test_a_request_is_found_by_its_trace_too(good: Script) -> None:
    app = app_for(good)
    client, trace_id = local_client(app), "0af7651916cd43dd8448eb211c80319c"
    for request_id in ("r-1", "r-2", trace_id[::-1]):
        headers = {"X-Request-Id": request_id, "traceparent": f"00-{trace_id}-00f067aa0ba902b7-01"}
        client.get("/", headers=headers if request_id != trace_id[::-1] else {"X-Request-Id": trace_id[::-1]}, buffered=True)
    found = client.get(f"/smartedge/decisions/{trace_id}").get_json()
    assert (found["request_id"], found["trace_id"]) == ("r-2", trace_id)  # the last of it
    assert client.get(f"/smartedge/decisions/{trace_id[::-1]}").get_json()["request_id"] == trace_id[::-1]
    assert [one["trace_id"] for one in listed(app)] == [None, trace_id, trace_id]
    app.edge.stop()


@pytest.mark.parametrize(
    "query",
    ["?limit=0", "?limit=1001", "?limit=x", "?limit=-1", "?limit=", "?limit=²", "?limit=000000001" + "0" * 5000, "?outcome=bad"],
)
def test_wrong_filters_are_refused(good: Script, query: str) -> None:
    app = app_for(good)
    answer = local_client(app).get(f"/smartedge/decisions{query}")
    assert (answer.status_code, answer.content_type) == (400, "application/problem+json")
    app.edge.stop()


def test_an_unknown_request_is_told_what_is_kept(good: Script) -> None:
    app = app_for(good, ratio=0.0)
    ask(app, "r-1")
    answer = local_client(app).get("/smartedge/decisions/r-1")
    assert answer.status_code == 404
    assert "explain.sample_ratio" in answer.get_json(force=True)["detail"]
    app.edge.stop()


def test_other_methods_and_strangers_are_refused(good: Script) -> None:
    app = app_for(good)
    client = local_client(app)
    for page in ("/smartedge/decisions", "/smartedge/decisions/r-1"):
        assert client.post(page).status_code == 405
        assert client.get(page, environ_base={"REMOTE_ADDR": "192.0.2.1"}).status_code == 403
    app.edge.stop()


def test_an_answer_of_ours_is_always_kept() -> None:
    with Script(answers(), health=answers(500)) as down:
        app = probed(app_for(down, ratio=0.0))
        assert ask(app, "r-1").status_code == 503
        found = local_client(app).get("/smartedge/decisions/r-1").get_json()
        assert (found["why"], found["status"], found["blame"]) == (["error"], 503, "edge")
        app.edge.stop()


def test_a_failure_that_is_passed_on_is_always_kept() -> None:
    with Script(answers(503)) as bad:
        app = probed(app_for(bad, ratio=0.0))
        client = local_client(app)
        assert client.post("/", headers={"X-Request-Id": "r-1"}, buffered=True).status_code == 503
        found = client.get("/smartedge/decisions/r-1").get_json()
        assert (found["why"], found["status"], found["outcome"]) == (["failed"], 503, "failed")
        (only,) = found["tries"]
        assert (only["backend"], only["outcome"], only["status"], only["blame"]) == ("b1", "failed", 503, "backend")
        assert ask(app, "r-2").status_code == 503  # this one could be retried, if there were another
        again = client.get("/smartedge/decisions/r-2").get_json()
        assert [(one["backend"], one["outcome"]) for one in again["tries"]] == [("b1", "failed"), (None, "no backend")]
        assert (again["why"], again["outcome"]) == (["retry"], "failed")
        app.edge.stop()


def test_a_retry_is_always_kept_with_what_is_known_of_the_first_try(good: Script) -> None:
    with Script(answers(503)) as bad:
        app = probed(app_for(bad, good, ratio=0.0))
        client = local_client(app)
        ids = [f"r-{number}" for number in range(2)]
        for id_ in ids:
            assert ask(app, id_).status_code == 200
        (found,) = [
            one for id_ in ids if (one := client.get(f"/smartedge/decisions/{id_}").get_json(force=True))["status"] == 200
        ]
        first, second = found["tries"]
        assert (first["backend"], first["recorded"], first["outcome"], first["status"]) == ("b1", False, "failed", 503)
        assert (second["backend"], second["recorded"], second["kind"], second["outcome"]) == ("b2", True, "retry", "ok")
        assert second["left_out"] == [{"id": "b1", "reason": "tried", "for_s": None, "until": None}]
        assert found["why"] == ["retry"]
        assert found["try_count"] == 2
        app.edge.stop()


def test_one_who_may_ask_is_told_in_the_answer(good: Script) -> None:
    app = probed(app_for(good, ratio=0.0))
    told = ask(app, "r-1", **{"X-SmartEdge-Explain": "1"}).headers["X-SmartEdge-Decision"]
    assert told == "r-1; b1 was picked: next in turn, the only candidate"
    assert local_client(app).get("/smartedge/decisions/r-1").get_json()["why"] == ["asked"]
    app.edge.stop()


def test_an_error_of_ours_tells_it_too() -> None:
    with Script(answers(), health=answers(500)) as down:
        app = probed(app_for(down, ratio=0.0))
        answer = ask(app, "r-1", **{"X-SmartEdge-Explain": "1"})
        assert answer.status_code == 503
        assert answer.headers["X-SmartEdge-Decision"] == "r-1; no backend could be picked; b1 left out: unhealthy"
        app.edge.stop()


@pytest.mark.parametrize(
    ("said", "more"),
    [
        ("0", {}),
        ("yes", {}),
        ("", {}),
        ("1", {"X-Forwarded-For": "127.0.0.1"}),
        ("1", {"Host": "evil.example"}),
        ("1", {"Origin": "http://evil.example"}),
    ],
)
def test_others_are_not_told_and_their_wish_goes_no_further(said: str, more: dict[str, str]) -> None:
    with Script(echo()) as backend:
        app = probed(app_for(backend, ratio=0.0))
        answer = ask(app, "r-1", **{"X-SmartEdge-Explain": said}, **more)
        assert answer.status_code == 200
        assert "X-SmartEdge-Decision" not in answer.headers
        assert b"explain" not in answer.data.lower()
        assert local_client(app).get("/smartedge/decisions/r-1").status_code == 404
        app.edge.stop()


@pytest.mark.parametrize(
    ("headers", "told"),
    [
        ({"X-SmartEdge-Explain": "Bearer t0ken"}, True),
        ({"X-SmartEdge-Explain": "1", "Authorization": "Bearer t0ken"}, True),
        ({"X-SmartEdge-Explain": "1", "Authorization": "Bearer other"}, False),
        ({"X-SmartEdge-Explain": "Bearer other"}, False),
        ({"X-SmartEdge-Explain": "1"}, False),
    ],
)
def test_with_a_token_only_the_token_counts_and_it_goes_to_no_backend(headers: dict[str, str], *, told: bool) -> None:
    with Script(echo()) as backend:
        app = probed(app_for(backend, ratio=0.0))
        app.edge.token = "t0ken"
        answer = ask(app, "r-1", **headers)
        assert ("X-SmartEdge-Decision" in answer.headers) == told
        assert b"t0ken" not in answer.data
        assert b"explain" not in answer.data.lower()
        app.edge.stop()


def test_what_is_told_is_one_plain_line(good: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason may be a user's own text."""
    app = probed(app_for(good, ratio=0.0))
    app.edge.pool.strategy = LeastRequests()
    app.edge.pool.strategy.reason = "because\r\nSet-Cookie: a=1; é" + "x" * 5000
    answer = ask(app, "r-1", **{"X-SmartEdge-Explain": "1"})
    assert "Set-Cookie" not in answer.headers
    assert answer.headers["X-SmartEdge-Decision"].startswith("r-1; b1 was picked: because??Set-Cookie: a=1; ?xxx")
    app.edge.stop()


@pytest.mark.parametrize(
    ("tried", "service", "wanted", "found"),
    [
        ("b1", None, "b1", True),
        ("b1", None, "default/b1", True),
        ("b1", "web", "b1", True),
        ("b1", "web", "web/b1", True),
        ("b1", "web", "api/b1", False),
        ("b1", "web", "web", False),
        ("b1/10.0.0.5", "web", "web/b1", True),
        ("b1/10.0.0.5", "web", "b1/10.0.0.5", True),
        ("b10", "web", "web/b1", False),
        (None, "web", "web/b1", False),
    ],
)
def test_a_backend_is_asked_for_with_its_service_or_without(
    tried: str | None, service: str | None, wanted: str, found: bool
) -> None:
    assert _is_of(tried, service, wanted) is found


def test_requests_say_their_route_and_service(good: Script) -> None:
    app = app_for(good, routes=[{"id": "all", "to": "default"}])
    ask(app, "r-1")
    told = ask(app, "r-2", **{"X-SmartEdge-Explain": "1"}).headers["X-SmartEdge-Decision"]
    assert told.startswith("r-2; by route all to default; b1 was picked")
    _, one = listed(app, "?backend=default/b1")
    assert (one["route"], one["service"], one["backends"]) == ("all", "default", ["b1"])
    app.edge.stop()
