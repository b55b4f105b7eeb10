"""A whole edge whose backends a file names: what becomes of them in its pool, its pages and its file."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest

from smartedge.app import SmartEdge, create_app
from smartedge.balancer.cells import OK
from smartedge.config.model import load
from tests.fakes import local_client
from tests.house import until

LONG_S = 30


@pytest.fixture
def edge_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., SmartEdge]]:
    """Makes an edge that serves with this configuration, and the file api.json as its source."""
    monkeypatch.setenv("SMARTEDGE_STATE_DIR", str(tmp_path / "state"))
    made: list[SmartEdge] = []

    def make(**more: Any) -> SmartEdge:
        file = tmp_path / "backends.json"
        file.write_text(json.dumps({"discover": {"file": {"path": "api.json"}}, "health": {"interval_s": 60}} | more))
        made.append(create_app(load(file), path=str(file)))
        until(lambda: made[-1].edge.began, LONG_S)
        return made[-1]

    with gevent.Timeout(90):
        yield make
        for app in made:
            app.edge.stop()


def names(folder: Path, *entries: Any) -> None:
    """Have the source say these."""
    (folder / "api.new").write_text(json.dumps(entries))
    os.replace(folder / "api.new", folder / "api.json")


def ids(app: SmartEdge) -> list[str]:
    return [backend.id for backend in app.edge.pool.backends]


A, B = {"url": "http://127.0.0.1:1", "id": "a"}, {"url": "http://127.0.0.1:2", "id": "b"}


def test_an_edge_starts_with_what_its_source_names(edge_of: Callable[..., SmartEdge], tmp_path: Path) -> None:
    names(tmp_path, A, B)

    app = edge_of()

    assert ids(app) == ["a", "b"]
    assert app.edge.generation == 2


def test_one_that_is_written_counts_before_a_found_one_with_its_address_and_that_is_said_once(
    edge_of: Callable[..., SmartEdge], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names(tmp_path, A, B)
    app = edge_of(backends=[{"url": A["url"], "id": "w"}])
    assert ids(app) == ["w", "b"]

    names(tmp_path, A, B, {"url": "http://127.0.0.1:3", "id": "c"})
    until(lambda: ids(app) == ["w", "b", "c"], LONG_S)
    assert [record.getMessage() for record in caplog.records if "address" in record.getMessage()] == [
        "discovery default (file): a has the id or address of one that is written, or of another source's, which counts"
    ]


def test_the_history_of_configurations_tells_what_was_found(edge_of: Callable[..., SmartEdge], tmp_path: Path) -> None:
    names(tmp_path, A)
    app = edge_of()
    names(tmp_path, A, B)
    until(lambda: ids(app) == ["a", "b"], LONG_S)

    newest, oldest = local_client(app).get("/smartedge/generations").get_json()["configurations"]

    assert (newest["origin"], newest["id"], newest["generation"]) == ("discovery", None, app.edge.generation)
    assert newest["note"].startswith("discovered default +1 (new b)")
    assert (oldest["origin"], oldest["in_use"]) == ("start", True)


def test_what_stays_keeps_what_was_learned_and_the_other_goes(
    edge_of: Callable[..., SmartEdge], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "smartedge")
    names(tmp_path, A, B)
    app = edge_of(backends=[{"url": "http://127.0.0.1:9", "id": "w"}])
    _, stays, goes = app.edge.pool.backends
    stays.learned.health.probed(True)
    stays.learned.add(OK, 5)
    before, etag = app.edge.config.written.to_json(), app.edge.config.etag

    names(tmp_path, A | {"weight": 7}, {"url": "http://127.0.0.1:3", "id": "c"})
    until(lambda: ids(app) == ["w", "a", "c"], LONG_S)

    now = app.edge.pool.backends[1]
    assert (now.learned is stays.learned, now.full_weight, now.learned.cells[OK]) == (True, 7, 5)
    assert now.learned.health.state == "healthy"
    assert goes.key in app.edge.registry._leaving or goes.key not in app.edge.registry._learned
    assert (app.edge.config.written.to_json(), app.edge.config.etag, app.edge.generation) == (before, etag, 3)
    assert any(
        one.getMessage() == "generation 3: discovered default +1 -1 ~1 (new c; gone b; changed a)" for one in caplog.records
    )
    assert [one["discovered"] for one in local_client(app).get("/api/status").json["backends"]] == [False, True, True]


def test_an_edge_whose_source_says_nothing_answers_503_and_says_why(edge_of: Callable[..., SmartEdge]) -> None:
    app = edge_of()

    answer = local_client(app).get("/")

    assert answer.status_code == 503
    assert "there are no backends: none has been found yet" in answer.get_json(force=True)["detail"]
    health = local_client(app).get("/health")
    assert (health.status_code, health.json) == (503, {"status": "no_backend", "up": 0, "total": 0})
    (source,) = local_client(app).get("/api/status").json["services"]["default"]["discovery"]
    assert (source["source"], source["state"], source["backends"]) == ("file", "never", 0)
    assert 'smartedge_discovery_age_seconds{service="default",source="file"} +Inf' in local_client(app).get("/metrics").text


def test_what_was_found_last_time_is_used_while_the_source_is_gone(edge_of: Callable[..., SmartEdge], tmp_path: Path) -> None:
    names(tmp_path, A)
    edge_of().edge.stop()
    (tmp_path / "api.json").unlink()

    app = edge_of()

    assert ids(app) == ["a"]
    (source,) = local_client(app).get("/api/status").json["services"]["default"]["discovery"]
    assert (source["state"], source["backends"]) == ("stale", 1)


def test_a_reload_keeps_what_was_found_and_begins_no_source_anew(edge_of: Callable[..., SmartEdge], tmp_path: Path) -> None:
    names(tmp_path, A)
    app = edge_of()
    asked = dict(app.edge.discovery._asked)

    text = json.dumps({"discover": {"file": {"path": "api.json"}}, "backends": ["http://127.0.0.1:9"], "strategy": "ewma"})
    answer = local_client(app).post("/api/reload", data=text, headers={"If-Match": f'"{app.edge.config.etag}"'})

    assert answer.json["added"] == ["127.0.0.1-9"]
    assert ids(app) == ["127.0.0.1-9", "a"]
    assert app.edge.discovery._asked == asked
    assert json.loads((tmp_path / "backends.json").read_text()).get("backends") == ["http://127.0.0.1:9"]


def test_the_will_for_a_discovered_backend_holds_but_cannot_be_written_down(
    edge_of: Callable[..., SmartEdge], tmp_path: Path
) -> None:
    names(tmp_path, A, B)
    app = edge_of()

    refused = local_client(app).post("/smartedge/backends/a/drain", json={"persist": True})
    done = local_client(app).post("/smartedge/backends/a/drain", json={})
    names(tmp_path, A, B, {"url": "http://127.0.0.1:3", "id": "c"})
    until(lambda: ids(app) == ["a", "b", "c"], LONG_S)

    assert refused.status_code == 409
    assert "its source would have to say it" in refused.get_json(force=True)["detail"]
    assert (done.status_code, app.edge.pool.backends[0].state) == (200, "draining")


def test_what_cannot_be_used_of_what_was_found_does_not_keep_the_rest_out(
    edge_of: Callable[..., SmartEdge], tmp_path: Path
) -> None:
    """Its file is there, and is no certificate: only the edge finds that, when it builds the whole."""
    (tmp_path / "no.pem").write_text("no certificate")
    names(tmp_path, A)
    app = edge_of()

    names(tmp_path, A, {"url": "https://127.0.0.1:4", "id": "bad", "tls": {"ca_file": str(tmp_path / "no.pem")}}, B)

    until(lambda: ids(app) == ["a", "b"], LONG_S)
