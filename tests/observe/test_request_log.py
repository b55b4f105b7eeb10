"""What the access log says of requests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from smartedge.app import create_app
from smartedge.config.model import parse
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
        assert app.edge.request_log.flush(5)
        assert [json.loads(line)["client"] for line in log.read_text().splitlines()] == [client, "127.0.0.1", client]
        app.edge.stop()
