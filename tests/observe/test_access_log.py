from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from smartedge.app import create_app
from smartedge.config.model import parse
from smartedge.observe.access_log import LineOutput
from tests.fakes import local_client
from tests.live.peers import Script, answers


@pytest.mark.parametrize(
    ("trusted", "client"),
    [
        ([], "127.0.0.1"),
        (["127.0.0.0/8"], "192.0.2.7"),
        (["127.0.0.0/8", "192.0.2.0/24"], "203.0.113.9"),
        (["10.0.0.0/8"], "127.0.0.1"),
    ],
)
def test_access_log_and_explanation_name_the_client_and_not_the_proxy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trusted: list[str], client: str
) -> None:
    """Behind a trusted proxy every line said that the proxy was the client."""
    monkeypatch.setenv("SMARTEDGE_STATE_DIR", str(tmp_path / "state"))
    log = tmp_path / "access.log"
    settings: dict[str, Any] = {"trusted_proxies": trusted, "access_log": str(log), "explain": {"sample_ratio": 1}}
    with Script(answers()) as backend:
        app = create_app(parse(json.dumps({"backends": [backend.url], **settings})))
        asking = local_client(app)
        chain = {"X-Forwarded-For": "203.0.113.9, 192.0.2.7", "X-Request-Id": "r-1"}
        assert asking.get("/", headers=chain, buffered=True).status_code == 200
        assert asking.get("/smartedge/decisions/r-1").get_json()["client"] == client
        assert asking.get("/api/status", headers=chain).status_code == 403
        assert app.edge.access_log.flush(5)
        assert [json.loads(line)["client"] for line in log.read_text().splitlines()] == [client, "127.0.0.1", client]
        app.edge.stop()


def test_the_trace_of_a_request_is_in_its_log_line_its_decision_and_its_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SMARTEDGE_STATE_DIR", str(tmp_path / "state"))
    log = tmp_path / "access.log"
    settings: dict[str, Any] = {"access_log": str(log), "explain": {"sample_ratio": 1}, "retry": {"wait_s": 0}}
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    traced = {"traceparent": f"00-{trace_id}-00f067aa0ba902b7-01", "tracestate": "a=1,b=2"}
    with Script(answers()) as backend:
        app = create_app(parse(json.dumps({"backends": [backend.url], **settings})))
        asking = local_client(app)
        assert asking.get("/", headers=traced | {"X-Request-Id": "r-1"}, buffered=True).status_code == 200
        assert asking.get("/", headers={"X-Request-Id": "r-2"}, buffered=True).status_code == 200
        sent = backend.requests[0].lower()
        for line in traced.items():  # nobody traces here, so both go on as they are
            assert "{}: {}\r\n".format(*line).encode() in sent
        assert asking.get("/smartedge/decisions/r-1").get_json()["trace_id"] == trace_id
        assert asking.get("/smartedge/decisions/r-2").get_json()["trace_id"] is None
        backend_id = app.edge.pool.backends[0].id
        assert asking.post(f"/smartedge/backends/{backend_id}/disable").status_code == 200
        assert asking.get("/", headers=traced, buffered=True).get_json()["trace_id"] == trace_id
        assert "trace_id" not in asking.get("/", buffered=True).get_json()
        assert app.edge.access_log.flush(5)
        found = [(line["trace_id"], line["status"]) for line in lines(log) if line["path"] == "/"]
        assert found == [(trace_id, 200), (None, 200), (trace_id, 503), (None, 503)]
        app.edge.stop()


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_each_request_is_one_line_of_json_with_the_time_first(tmp_path: Path) -> None:
    log = LineOutput(str(tmp_path / "access.log"))
    log.write({"request_id": "a", "path": "/ä"})
    log.write({"request_id": "b", "path": '/"\n'})
    assert log.flush(5)
    log.close()
    first, second = lines(tmp_path / "access.log")
    assert (list(first), first["path"], second["path"]) == (["time", "request_id", "path"], "/ä", '/"\n')
    assert str(first["time"]).endswith("Z")


def test_a_file_that_was_moved_away_is_followed_by_a_new_one(tmp_path: Path) -> None:
    """Regression: after logrotate the old file went on growing."""
    path = tmp_path / "access.log"
    log = LineOutput(str(path))
    log.write({"request_id": "a"})
    log.write({"request_id": "b"})
    assert log.flush(5)
    path.rename(tmp_path / "access.log.1")
    log.reopen()
    assert log.flush(5)
    log.write({"request_id": "c"})
    assert log.flush(5)
    log.close()
    assert [line["request_id"] for line in lines(tmp_path / "access.log.1")] == ["a", "b"]
    assert [line["request_id"] for line in lines(path)] == ["c"]


def test_true_means_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    log = LineOutput(True)
    log.write({"request_id": "a"})
    log.reopen()
    log.close()
    assert json.loads(capsys.readouterr().out)["request_id"] == "a"


def test_a_file_that_cannot_be_opened_is_an_error_at_once(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        LineOutput(str(tmp_path / "missing" / "access.log"))
