"""The pages that drain, enable, disable and weigh backends, on a whole app with a file of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest
from werkzeug.test import TestResponse

from smartedge.admin.operator_word import edited
from smartedge.app import SmartEdge, create_app
from smartedge.config.model import load
from tests.admin.small_edge import SmallEdge, client_of, done, refused
from tests.fakes import local_client

FILE = {
    "backends": [
        "http://127.0.0.1:1",
        {"url": "http://127.0.0.1:2", "id": "b2", "weight": 3},
        {"url": "http://127.0.0.1:3", "id": "b.3"},
    ],
    "health": {"interval_s": 60},
}
IDS = ["127.0.0.1-1", "b2", "b.3"]


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("SMARTEDGE_STATE_DIR", str(tmp_path / "state"))
    file = tmp_path / "backends.json"
    file.write_text(json.dumps(FILE, indent=2))
    with gevent.Timeout(10):
        yield file


@pytest.fixture
def app(path: Path) -> Iterator[SmartEdge]:
    app = create_app(load(path), path=str(path))
    yield app
    app.edge.stop()


def post(app: SmartEdge, what: str, body: Any = None, **more: Any) -> TestResponse:
    return local_client(app).post(f"/smartedge/backends/{what}", json=body, **more)


def shown(app: SmartEdge, id_: str) -> tuple[str, int, float, str | None]:
    """What the status says of a backend: will, weight, effective weight, why not."""
    status = local_client(app).get("/api/status").get_json()
    one = next(one for one in status["backends"] if one["id"] == id_)
    return one["state"], one["weight"], one["effective_weight"], one["why_not"]


# ---- what it does ----


@pytest.mark.parametrize(
    ("action", "state", "said"),
    [
        ("drain", "draining", "b2 is draining: no new requests but those of sticky sessions; 0 in flight"),
        ("disable", "disabled", "b2 is disabled: no new requests; 0 in flight"),
    ],
)
def test_a_backend_is_taken_out_at_once_and_taken_back(app: SmartEdge, action: str, state: str, said: str) -> None:
    answer = done(post(app, f"b2/{action}"))
    assert answer == {
        "service": "default",
        "id": "b2",
        "url": "http://127.0.0.1:2",
        "changed": True,
        "before": {"state": "enabled", "will": "enabled", "weight": 3},
        "after": {"state": state, "will": state, "weight": 3, "effective_weight": 3},
        "in_flight": 0,
        "persisted": False,
        "generation": 1,
        "warning": None,
        "message": said,
    }
    assert shown(app, "b2") == (state, 3, 3, state)
    assert "b2" not in [one.id for one in app.edge.pool.candidates(app.edge.now())]

    again = done(post(app, f"b2/{action}"))
    assert (again["changed"], again["message"]) == (False, f"{said}; unchanged")

    back = done(post(app, "b2/enable"))
    assert (back["before"]["state"], back["after"]["state"], back["message"]) == (state, "enabled", "b2 is enabled; 0 in flight")
    assert "b2" in [one.id for one in app.edge.pool.candidates(app.edge.now())]


def test_a_weight_is_in_force_at_once_until_it_is_taken_back(app: SmartEdge) -> None:
    answer = done(post(app, "b2/weight", {"weight": 7}))
    assert (answer["before"]["weight"], answer["after"]) == (
        3,
        {"state": "enabled", "will": "enabled", "weight": 7, "effective_weight": 7},
    )
    assert answer["message"] == "b2 has weight 7; 0 in flight"
    assert shown(app, "b2")[1:3] == (7, 7)
    back = done(post(app, "b2/weight", {"weight": None}))
    assert (back["before"]["weight"], back["after"]["weight"]) == (7, 3)


def test_a_weight_of_0_lets_a_backend_run_empty(app: SmartEdge) -> None:
    answer = done(post(app, "b2/weight", {"weight": 0}))
    assert answer["after"] == {"state": "enabled", "will": "enabled", "weight": 0, "effective_weight": 0}
    assert answer["message"] == "b2 has weight 0: no new requests but those of sticky sessions; 0 in flight"
    assert shown(app, "b2") == ("enabled", 0, 0, "zero_weight")
    done(post(app, "b2/weight", {"weight": None}))
    assert shown(app, "b2")[1] == 3


def test_open_leases_are_told_so_that_one_sees_when_it_is_drained(app: SmartEdge) -> None:
    local_client(app).get("/health")  # it serves from here on
    backend = app.edge.pool.backends[1]
    backend.learned.cells[0] += 2
    assert done(post(app, "b2/drain"))["in_flight"] == 2
    backend.learned.cells[0] -= 2


def test_taking_out_the_last_one_is_done_and_warned_of(app: SmartEdge) -> None:
    for id_ in IDS[1:]:
        assert done(post(app, f"{id_}/disable"))["warning"] is None
    warning = done(post(app, f"{IDS[0]}/drain"))["warning"]
    assert warning == "No backend is left that may be picked: requests are answered with 503."
    assert local_client(app).get("/health").status_code == 503


def test_the_will_outlives_a_reload_of_something_else(app: SmartEdge, path: Path) -> None:
    done(post(app, "b2/drain"))
    done(post(app, "b2/weight", {"weight": 9}))
    path.write_text(json.dumps(FILE | {"strategy": "ewma"}))
    assert local_client(app).post("/api/reload").get_json()["changed"] is True
    assert shown(app, "b2") == ("draining", 9, 9, "draining")


def test_a_backend_of_another_url_is_another_backend(app: SmartEdge, path: Path) -> None:
    done(post(app, "b2/drain"))
    path.write_text(json.dumps({"backends": [{"url": "http://127.0.0.1:9", "id": "b2"}]}))
    local_client(app).post("/api/reload")
    assert shown(app, "b2")[0] == "enabled"


# ---- the pages that only show ----


def test_the_list_and_one_backend_are_as_in_the_status(app: SmartEdge) -> None:
    done(post(app, "b2/drain"))
    client = local_client(app)
    listed = client.get("/smartedge/backends").get_json()
    assert [one["id"] for one in listed["backends"]] == IDS
    one = client.get("/smartedge/backends/b2").get_json()
    assert one.keys() == listed["backends"][1].keys()
    assert (one["id"], one["state"], one["in_flight"]) == ("b2", "draining", 0)


# ---- bad input ----


@pytest.mark.parametrize("what", ["nobody/drain", "nobody/weight", "%22b2%22/enable", "b%202/disable"])
def test_an_unknown_backend_is_told_with_those_that_there_are(app: SmartEdge, what: str) -> None:
    detail = refused(post(app, what), 404)
    assert detail.startswith("There is no backend")
    assert detail.endswith(f"There are: {', '.join(IDS)}.")
    assert refused(local_client(app).get("/smartedge/backends/nobody"), 404).endswith(f"{IDS[-1]}.")


def test_ids_may_be_percent_encoded(app: SmartEdge) -> None:
    assert done(post(app, "b%2e3/drain"))["id"] == "b.3"


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_other_methods_are_405_and_change_nothing(app: SmartEdge, method: str) -> None:
    answer = local_client(app).open("/smartedge/backends/b2/drain", method=method)
    assert (answer.status_code, answer.headers["Allow"]) == (405, "POST")
    assert local_client(app).post("/smartedge/backends/b2").status_code == 405
    assert shown(app, "b2")[0] == "enabled"


@pytest.mark.parametrize(
    ("what", "body", "said"),
    [
        ("weight", None, 'must say the weight, as {"weight": 3}'),
        ("weight", {}, "must say the weight"),
        ("weight", {"weight": -1}, "weight must be a whole number from 0 to 1000, or null"),
        ("weight", {"weight": 1001}, "from 0 to 1000"),
        ("weight", {"weight": 2.0}, "from 0 to 1000"),
        ("weight", {"weight": True}, "from 0 to 1000"),
        ("weight", {"weight": "2"}, "from 0 to 1000"),
        ("weight", {"weight": 2, "persist": "yes"}, "persist must be true or false"),
        ("weight", {"wieght": 2}, "an object with at most persist and weight"),
        ("drain", {"weight": 2}, "an object with at most persist"),
        ("drain", [1], "an object with at most persist"),
        ("drain?persist=maybe", {}, "persist must be true or false"),
    ],
)
def test_a_wrong_body_is_refused_and_changes_nothing(app: SmartEdge, what: str, body: Any, said: str) -> None:
    assert said in refused(post(app, f"b2/{what}", body), 400)
    assert shown(app, "b2") == ("enabled", 3, 3, "unprobed")


def test_a_body_that_is_not_json_is_refused(app: SmartEdge) -> None:
    client = local_client(app)
    assert "not JSON" in refused(client.post("/smartedge/backends/b2/drain", data="{", content_type="application/json"), 400)
    assert "application/json" in refused(client.post("/smartedge/backends/b2/drain", data="x", content_type="text/plain"), 415)
    assert "nested too deeply" in refused(client.post("/smartedge/backends/b2/drain", data="[" * 100_000), 400)


def test_an_unknown_action_is_told_with_those_that_there_are(app: SmartEdge) -> None:
    assert "drain, enable, disable or weight" in refused(post(app, "b2/kill"), 404)


def test_strangers_may_do_nothing(app: SmartEdge) -> None:
    for what in ("b2/drain", "b2/weight"):
        refused(post(app, what, environ_base={"REMOTE_ADDR": "192.0.2.1"}), 403)
    for page in ("/smartedge/backends", "/smartedge/backends/b2"):
        refused(local_client(app).get(page, environ_base={"REMOTE_ADDR": "192.0.2.1"}), 403)
    assert shown(app, "b2")[0] == "enabled"


# ---- persistence ----


def written(path: Path) -> Any:
    return json.loads(path.read_text())["backends"]


def test_what_is_persisted_is_in_the_file_and_found_after_a_restart(app: SmartEdge, path: Path) -> None:
    assert done(post(app, "127.0.0.1-1/drain", {"persist": True}))["persisted"] is True
    done(post(app, "b2/weight", {"weight": 7, "persist": True}))
    done(post(app, "b.3/disable?persist=true"))
    assert written(path) == [
        {"url": "http://127.0.0.1:1", "state": "draining"},
        {"url": "http://127.0.0.1:2", "id": "b2", "weight": 7},
        {"url": "http://127.0.0.1:3", "id": "b.3", "state": "disabled"},
    ]
    assert [shown(app, id_)[:2] for id_ in IDS] == [("draining", 1), ("enabled", 7), ("disabled", 1)]

    again = create_app(load(path), path=str(path))
    assert [shown(again, id_)[:2] for id_ in IDS] == [("draining", 1), ("enabled", 7), ("disabled", 1)]
    again.edge.stop()

    done(post(app, "127.0.0.1-1/enable", {"persist": True}))
    assert written(path)[0] == "http://127.0.0.1:1"


def test_persisting_goes_the_way_of_every_reload(app: SmartEdge) -> None:
    answer = post(app, "b2/drain", {"persist": True})
    assert (answer.get_json()["generation"], answer.headers["ETag"]) == (2, f'"{app.edge.config.etag}"')
    assert done(post(app, "b2/drain", {"persist": True}))["generation"] == 2  # nothing to write


def test_if_match_guards_against_overwriting(app: SmartEdge, path: Path) -> None:
    before = path.read_text()
    assert "ETag" in refused(post(app, "b2/drain", {"persist": True}, headers={"If-Match": '"other"'}), 412)
    assert (path.read_text(), shown(app, "b2")[0]) == (before, "enabled")


def test_changes_in_the_file_that_are_not_in_use_are_not_put_to_use_on_the_way(app: SmartEdge, path: Path) -> None:
    local_client(app).get("/health")
    path.write_text(json.dumps(FILE | {"strategy": "ewma"}))
    assert "reload it first" in refused(post(app, "b2/drain", {"persist": True}), 409)
    assert shown(app, "b2")[0] == "enabled"


def test_a_backend_that_the_file_does_not_name_cannot_be_persisted(path: Path) -> None:
    """A flag or a variable names the backends; the file has others, or none at that place."""
    overrides = {"backends": ["http://127.0.0.1:2"]}
    app = create_app(load(path, overrides=overrides), path=str(path), overrides=overrides)
    before = path.read_text()
    assert "does not come from the configuration's file" in refused(post(app, "127.0.0.1-2/drain", {"persist": True}), 409)
    assert (path.read_text(), shown(app, "127.0.0.1-2")[0]) == (before, "enabled")
    app.edge.stop()


def test_without_a_file_or_with_one_that_cannot_be_read_nothing_is_persisted(app: SmartEdge, path: Path) -> None:
    nowhere = create_app(load(path))
    assert "no configuration file" in refused(post(nowhere, "b2/drain", {"persist": True}), 409)
    nowhere.edge.stop()
    local_client(app).get("/health")
    path.unlink()
    assert "cannot be read" in refused(post(app, "b2/drain", {"persist": True}), 409)


def test_taking_a_weight_back_for_good_changes_no_file(app: SmartEdge, path: Path) -> None:
    before = path.read_text()
    done(post(app, "b2/weight", {"weight": 9}))
    answer = done(post(app, "b2/weight", {"weight": None, "persist": True}))
    assert (answer["after"]["weight"], path.read_text()) == (3, before)


def test_after_persisting_the_next_edit_of_the_file_counts(app: SmartEdge, path: Path) -> None:
    done(post(app, "b2/weight", {"weight": 3, "persist": True}))  # what the file says already
    path.write_text(path.read_text().replace('"weight": 3', '"weight": 4'))
    local_client(app).post("/api/reload")
    assert shown(app, "b2")[1] == 4


@pytest.mark.parametrize(
    ("text", "changes", "wanted"),
    [
        ('{"backends": ["http://a"]}', {"state": "disabled"}, '{"backends": [{"url": "http://a", "state": "disabled"}]}\n'),
        ('{"backends": [{"url": "http://a", "state": "disabled"}]}', {"state": "enabled"}, '{"backends": ["http://a"]}\n'),
        ('{"backends": [{"url": "http://a", "id": "é"}]}', {"weight": 1}, '{"backends": [{"url": "http://a", "id": "é"}]}\n'),
        ('{\n"backends": ["http://a"]}', {}, '{\n  "backends": [\n    "http://a"\n  ]\n}\n'),
    ],
)
def test_the_text_keeps_its_layout_roughly_and_says_no_defaults(text: str, changes: Any, wanted: str) -> None:
    assert edited(text.encode(), ("backends", 0), changes) == wanted.encode()


def test_long_lists_of_backends_are_told_in_part(path: Path) -> None:
    path.write_text(json.dumps({"backends": [f"http://127.0.0.1:{port}" for port in range(1, 31)]}))
    app = create_app(load(path), path=str(path))
    assert refused(post(app, "x/drain"), 404).endswith("127.0.0.1-20 and 10 more.")
    app.edge.stop()


# ---- several services ----


def test_a_backend_is_drained_in_one_service_and_serves_on_in_the_other(services: SmallEdge) -> None:
    client = client_of(services)
    answer = done(client.post("/smartedge/services/web/backends/b1/drain"))
    assert (answer["service"], answer["id"], answer["message"]) == (
        "web",
        "b1",
        "web/b1 is draining: no new requests but those of sticky sessions; 0 in flight",
    )
    states = {
        one["service"]: one["state"] for one in client.get("/smartedge/backends").get_json()["backends"] if one["id"] == "b1"
    }
    assert states == {"web": "draining", "api": "enabled"}
    assert client.get("/smartedge/services/web/backends/b1").get_json()["state"] == "draining"
    assert done(client.post("/smartedge/services/web/backends/b1/weight", json={"weight": 5}))["after"]["weight"] == 5


def test_an_id_that_several_services_have_is_refused_and_changes_nothing(services: SmallEdge) -> None:
    client = client_of(services)
    for answer in (client.post("/smartedge/backends/b1/drain"), client.get("/smartedge/backends/b1")):
        assert refused(answer, 409) == 'Several services have a backend "b1": say api/b1, web/b1.'
    assert {backend.state for backend in services.backends()} == {"enabled"}
    assert done(client.post("/smartedge/backends/b2/drain"))["message"].startswith("web/b2 is draining")


def test_the_last_one_of_a_service_is_warned_of_by_its_name(services: SmallEdge) -> None:
    client = client_of(services)
    assert done(client.post("/smartedge/services/api/backends/b1/disable"))["warning"] is None
    answer = done(client.post("/smartedge/services/api/backends/10.0.0.5/disable"))
    assert answer["warning"] == "No backend of api is left that may be picked: requests are answered with 503."


def test_services_have_pages_of_their_own(services: SmallEdge) -> None:
    client = client_of(services)
    document = client.get("/smartedge/services").get_json()
    assert list(document["services"]) == ["api", "web"]
    assert client.get("/smartedge/services/api").get_json() == document["services"]["api"]
    listed = client.get("/smartedge/services/api/backends").get_json()["backends"]
    assert [one["id"] for one in listed] == ["b1", "10.0.0.5"]
    for path in ("shop", "shop/backends", "shop/backends/b1"):
        assert refused(client.get(f"/smartedge/services/{path}"), 404) == 'There is no service "shop". There are: api, web.'


def test_what_is_written_into_the_file_is_written_where_the_service_stands() -> None:
    text = json.dumps({"services": {"web": {"backends": ["http://a"]}, "api": {"backends": ["http://b", "http://c"]}}})
    new = json.loads(edited(text.encode(), ("services", "api", "backends", 1), {"state": "draining"}))
    assert new["services"] == {
        "web": {"backends": ["http://a"]},
        "api": {"backends": ["http://b", {"url": "http://c", "state": "draining"}]},
    }


def test_what_the_operator_wants_in_one_service_outlives_a_reload_of_it_and_may_be_persisted(path: Path) -> None:
    one, two = {"url": "http://127.0.0.1:1", "id": "b1"}, {"url": "http://127.0.0.1:2", "id": "b2"}
    written: dict[str, Any] = {
        "services": {"web": {"backends": [one, two]}, "my-api": {"backends": [one]}},
        "health": {"interval_s": 60},
        "routes": [{"path": "/api", "to": "my-api"}, {"to": "web"}],
    }
    path.write_text(json.dumps(written))
    app = create_app(load(path), path=str(path))
    client = local_client(app)

    def states() -> dict[str, str]:
        return {f"{one['service']}/{one['id']}": one["state"] for one in client.get("/smartedge/backends").get_json()["backends"]}

    done(client.post("/smartedge/services/web/backends/b1/drain"))
    path.write_text(json.dumps(written | {"strategy": "ewma"}))
    assert client.post("/api/reload").get_json()["settings_changed"] == ["strategy"]
    assert states() == {"my-api/b1": "enabled", "web/b1": "draining", "web/b2": "enabled"}

    answer = done(client.post("/smartedge/services/my-api/backends/b1/disable?persist=true"))
    assert (answer["persisted"], answer["message"]) == (True, "my-api/b1 is disabled: no new requests; 0 in flight")
    services = json.loads(path.read_text())["services"]
    assert services == {
        "web": {"backends": [one, two]},
        "my-api": {"backends": [{**one, "state": "disabled"}]},
    }
    assert states() == {"my-api/b1": "disabled", "web/b1": "draining", "web/b2": "enabled"}

    moved = {"web": {"backends": [two]}, "my-api": {"backends": [one]}}  # in another service it is another backend
    path.write_text(json.dumps(written | {"services": moved}))
    answer = client.post("/api/reload").get_json()
    assert (answer["removed"], answer["changed_backends"]) == (["web/b1"], ["my-api/b1"])
    app.edge.stop()
