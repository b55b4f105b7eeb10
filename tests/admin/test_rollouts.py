"""The pages about changes: plan, confirm, roll back, history, patches; on a whole app with a file of its own."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest
from flask.testing import FlaskClient

from smartedge.admin.edit import merged
from smartedge.admin.plan import scenario
from smartedge.app import SmartEdge, create_app
from smartedge.balancer.cells import IN_FLIGHT, SESSION_REQUESTS, TUNNELS
from smartedge.config.model import load, parse
from smartedge.simulator.scenario import load as load_scenario
from tests.admin.small_edge import done, refused
from tests.fakes import local_client

A, B = "http://127.0.0.1:1", {"url": "http://127.0.0.1:2", "id": "b"}
FILE: dict[str, Any] = {"backends": [A, B], "health": {"interval_s": 60}}


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("SMARTEDGE_STATE_DIR", str(tmp_path / "state"))
    file = tmp_path / "backends.json"
    file.write_text(json.dumps(FILE, indent=2) + "\n")
    with gevent.Timeout(20):
        yield file


@pytest.fixture
def app(path: Path) -> Iterator[SmartEdge]:
    app = create_app(load(path), path=str(path))
    yield app
    app.edge.stop()


@pytest.fixture
def client(app: SmartEdge) -> FlaskClient:
    return local_client(app)


# ---- plan ----


def test_a_plan_changes_nothing_and_says_what_would(client: FlaskClient, app: SmartEdge, path: Path) -> None:
    before = path.read_bytes()
    b = app.edge.pool.backends[1]
    b.learned.cells[IN_FLIGHT], b.learned.cells[TUNNELS] = 14, 3
    plan = done(client.post("/smartedge/plan", json=FILE | {"backends": [A, "http://127.0.0.1:3"], "workers": 2, "drain_s": 30}))
    assert plan["changed"] is True
    assert [(one["path"], one["what"]) for one in plan["changes"]] == [
        ("backends.127.0.0.1-3", "added"),
        ("backends.b", "removed"),
        ("drain_s", "changed"),
        ("workers", "changed"),
    ]
    assert plan["meaning"] == [
        "b leaves: 14 requests and 3 tunnels in flight have up to 30 s to end",
        "127.0.0.1-3 comes: it gets requests after its first good probe",
    ]
    assert plan["restart_needed"] == ["workers"]
    assert plan["shares"] == {
        "default": {"by": "weights", "requests_per_s": 0.0, "ratios": {"127.0.0.1-1": 0.5, "127.0.0.1-3": 0.5}}
    }
    assert plan["etag"] == app.edge.etag != plan["new_etag"]
    assert (app.edge.generation, path.read_bytes()) == (1, before)


def test_a_plan_says_how_many_requests_lately_came_with_the_cookie_of_who_leaves(client: FlaskClient, app: SmartEdge) -> None:
    sticky = FILE | {"sticky": {"cookie": "edge"}}
    done(client.post("/api/reload", json=sticky))
    app.edge.recent.tick(app.edge.now(), app.edge.pool.backends)
    app.edge.pool.backends[1].learned.cells[SESSION_REQUESTS] = 41
    said = done(client.post("/smartedge/plan", json=sticky | {"backends": [A]}))["meaning"][0]
    assert re.fullmatch(
        r"b leaves: nothing is in flight there; its sticky sessions move to others"
        r" \(41 requests of the last \d s came with its cookie\)",
        said,
    )


def test_the_etag_of_a_plan_is_what_it_is_applied_with(client: FlaskClient) -> None:
    new = FILE | {"strategy": "ewma"}
    answer = client.post("/smartedge/plan", json=new)
    done(client.post("/api/reload", json=new, headers={"If-Match": answer.headers["ETag"]}))
    refused(client.post("/api/reload", json=FILE, headers={"If-Match": answer.headers["ETag"]}), 412)


def test_a_plan_without_a_change_says_so(client: FlaskClient) -> None:
    assert done(client.post("/smartedge/plan", json=FILE))["changed"] is False
    assert done(client.post("/smartedge/plan"))["changed"] is False


def test_a_plan_of_a_broken_text_is_refused_as_the_reload_would_be(client: FlaskClient) -> None:
    assert "wieght" in refused(client.post("/smartedge/plan", json=FILE | {"wieght": 1}), 422)
    assert "line 1" in refused(client.post("/smartedge/plan", data=b"{"), 400)


def test_what_may_be_wrong_with_it_is_said(client: FlaskClient, app: SmartEdge) -> None:
    app.edge.pool.backends[1].learned.cells[IN_FLIGHT] = 9
    document = {
        "services": {"web": {"backends": [A]}},
        "backends": [A, B | {"max_in_flight": 5}],
        "health": {"type": "none"},
        "routes": [{"to": "default"}],
    }
    warnings = done(client.post("/smartedge/plan", json=document))["warnings"]
    assert "default: health.type is none, so a backend that is down is found by requests that fail" in warnings
    assert "b: 9 are in flight, more than the cap of 5: new ones wait or get 503" in warnings
    assert any("web" in one and "no route" in one for one in warnings), warnings


def test_the_capacity_that_goes_and_sessions_that_move_are_said(client: FlaskClient) -> None:
    meaning = done(client.post("/smartedge/plan", json=FILE | {"backends": [A, B | {"weight": 3}]}))["meaning"]
    assert meaning == ["the capacity of default grows by 100% (weights together: 2 before, 4 then)"]
    moved = done(client.post("/smartedge/plan", json=FILE | {"backends": [A, B | {"url": "http://127.0.0.1:9"}]}))["meaning"]
    assert "b is another server then (http://127.0.0.1:9): what is known of it begins anew" in moved


def test_what_the_simulator_is_asked_is_a_scenario() -> None:
    service = parse(json.dumps(FILE | {"strategy": "ewma"})).all_services()[0]
    document = scenario(service, service.config.backends, 50.0, {"b": 0.02})
    loaded = load_scenario(json.dumps(document).encode(), "it", strategies=("ewma",))
    assert [machine.service.mean_s for machine in loaded.world.backends] == [0.02, 0.02], "who is new is as quick as the others"
    assert loaded.world.arrivals.per_s == 50.0


# ---- confirm, roll back, history ----


def test_a_reload_may_be_for_a_time(client: FlaskClient, app: SmartEdge, path: Path) -> None:
    answer = done(client.post("/api/reload", json=FILE | {"strategy": "ewma", "confirm_s": 60, "author": "ana"}))
    assert answer["trial"]["rollback_on"] == {"error_ratio": None, "p99_factor": None}
    assert (app.edge.config.strategy, json.loads(path.read_text())) == ("ewma", FILE)
    assert done(client.get("/api/status"))["trial"]["author"] == "ana"
    assert "on trial" in refused(client.post("/api/reload", json=FILE), 409)
    assert "on trial" in refused(client.patch("/api/reload", json={"strategy": "random"}), 409)

    assert done(client.post("/smartedge/confirm"))["message"] == "generation 2 is confirmed"
    assert json.loads(path.read_text())["strategy"] == "ewma"
    assert "was confirmed already" in refused(client.post("/smartedge/confirm"), 409)


def test_without_a_body_the_file_is_read_and_the_members_still_count(client: FlaskClient, app: SmartEdge, path: Path) -> None:
    app.edge.rollouts.note_start()
    path.write_text(json.dumps(FILE | {"strategy": "ewma"}))
    answer = done(client.post("/api/reload", json={"confirm_s": 60, "rollback_on": {"error_ratio": 0.05, "p99_factor": 2}}))
    assert answer["trial"]["rollback_on"] == {"error_ratio": 0.05, "p99_factor": 2}
    assert done(client.post("/smartedge/rollback"))["changed"] is True
    assert json.loads(path.read_text()) == FILE


@pytest.mark.parametrize(
    ("members", "why"),
    [
        ({"confirm_s": 0}, "confirm_s must be a number from 1 to 86,400."),
        ({"confirm_s": "soon"}, "confirm_s must be a number"),
        ({"confirm_s": True}, "confirm_s must be a number"),
        ({"rollback_on": {"error_ratio": 0.1}}, "rollback_on is for a reload with confirm_s"),
        ({"confirm_s": 9, "rollback_on": {}}, "rollback_on must be an object"),
        ({"confirm_s": 9, "rollback_on": {"errors": 1}}, "rollback_on must be an object"),
        ({"confirm_s": 9, "rollback_on": {"error_ratio": 2}}, "rollback_on.error_ratio must be a number from 0 to 1."),
        ({"author": "a\nb"}, "author must be a text"),
        ({"require_all": 1}, "require_all must be true or false."),
    ],
)
def test_a_member_that_is_wrong_is_named_and_nothing_changes(
    members: dict[str, Any], why: str, client: FlaskClient, app: SmartEdge
) -> None:
    assert why in refused(client.post("/api/reload", json=FILE | {"strategy": "ewma"} | members), 400)
    assert app.edge.generation == 1


def test_history_and_the_way_back(client: FlaskClient, app: SmartEdge) -> None:
    app.edge.rollouts.note_start()
    done(client.post("/api/reload", json=FILE | {"strategy": "ewma"}))
    found = done(client.get("/smartedge/generations"))
    assert [(one["id"], one["origin"], one["in_use"]) for one in found["configurations"]] == [
        (2, "api", True),
        (1, "start", False),
    ]
    assert done(client.post("/smartedge/rollback", json={"id": 1}))["generation"] == 3
    assert app.edge.config.strategy == "adaptive"
    assert "No configuration 9 is kept" in refused(client.post("/smartedge/rollback?id=9"), 404)
    assert "id must be" in refused(client.post("/smartedge/rollback?id=x"), 400)
    assert "Send" in refused(client.post("/smartedge/rollback", json={"to": 1}), 400)


# ---- single changes ----


def test_a_merge_patch_changes_what_it_names_in_file_and_use(client: FlaskClient, app: SmartEdge, path: Path) -> None:
    etag = client.get("/api/status").headers["ETag"]
    answer = client.patch("/api/reload", json={"strategy": "ewma", "health": None}, headers={"If-Match": etag})
    assert done(answer)["settings_changed"] == ["strategy", "health"]
    assert json.loads(path.read_text()) == {"backends": [A, B], "strategy": "ewma"}
    refused(client.patch("/api/reload", json={"strategy": "random"}, headers={"If-Match": etag}), 412)
    assert app.edge.config.strategy == "ewma"


@pytest.mark.parametrize(
    ("body", "status"), [(b"[]", 400), (b"{", 400), (b'{"strategy": "luck"}', 422), (b'{"backends": null}', 422)]
)
def test_a_wrong_patch_changes_nothing(body: bytes, status: int, client: FlaskClient, path: Path) -> None:
    before = path.read_bytes()
    refused(client.patch("/api/reload", data=body, content_type="application/merge-patch+json"), status)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_patches_are_those_of_the_standard(target: Any, patch: Any, result: Any) -> None:
    """RFC 7396, appendix A."""
    assert merged(target, patch) == result


def test_a_backend_comes_and_goes(client: FlaskClient, app: SmartEdge, path: Path) -> None:
    fresh = {"url": "http://127.0.0.1:3", "id": "c", "weight": 2}
    assert done(client.post("/smartedge/services/default/backends", json=fresh), 201)["added"] == ["c"]
    assert json.loads(path.read_text())["backends"] == [A, B, fresh]
    assert done(client.post("/smartedge/backends", json="http://127.0.0.1:4"), 201)["added"] == ["127.0.0.1-4"]
    assert done(client.delete("/smartedge/services/default/backends/b"))["removed"] == ["b"]
    assert json.loads(path.read_text())["backends"] == [A, fresh, "http://127.0.0.1:4"]
    assert [one.id for one in app.edge.pool.backends] == ["127.0.0.1-1", "c", "127.0.0.1-4"]


def test_what_is_wrong_with_a_backend_is_said_and_nothing_changes(client: FlaskClient, path: Path) -> None:
    before = path.read_bytes()
    assert "wieght" in refused(client.post("/smartedge/backends", json={"url": "http://127.0.0.1:3", "wieght": 1}), 422)
    refused(client.post("/smartedge/backends", json=[1]), 400)
    refused(client.post("/smartedge/backends", data=b'"http://a', content_type="application/json"), 400)
    refused(client.post("/smartedge/services/none/backends", json=A), 404)
    refused(client.delete("/smartedge/services/default/backends/none"), 404)
    etag = '"0000000000000000"'
    refused(client.delete("/smartedge/services/default/backends/b", headers={"If-Match": etag}), 412)
    assert path.read_bytes() == before


def test_one_service_of_several_gets_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMARTEDGE_STATE_DIR", str(tmp_path / "state"))
    file = tmp_path / "site.json"
    document = {"services": {"web": {"backends": [A]}, "api": {"backends": [B]}}, "routes": [{"to": "web"}]}
    file.write_text(json.dumps(document))
    app = create_app(load(file), path=str(file))
    try:
        client = local_client(app)
        assert "one of" in refused(client.post("/smartedge/backends", json=A), 400)
        done(client.post("/smartedge/services/api/backends", json="http://127.0.0.1:7"), 201)
        assert json.loads(file.read_text())["services"]["api"]["backends"] == [B, "http://127.0.0.1:7"]
    finally:
        app.edge.stop()
