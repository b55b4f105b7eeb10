"""The listener of admin_bind under gunicorn, which one worker opens for all."""

from __future__ import annotations

import json
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import gevent
import pytest

from smartedge.app import SmartEdge, create_app
from smartedge.config.model import parse
from smartedge.process.admin_door import AdminDoor
from smartedge.process.listening import listen_unix

Caplog = pytest.LogCaptureFixture


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "admin.sock")


@pytest.fixture
def app(tmp_path: Path, path: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[SmartEdge]:
    monkeypatch.setenv("SMARTEDGE_STATE_DIR", str(tmp_path / "state"))
    app = create_app(parse(json.dumps({"backends": ["http://127.0.0.1:1"], "admin_bind": f"unix:{path}"})))
    with gevent.Timeout(10):
        yield app
    app.edge.stop()


def asked(path: str, target: str = "/api/status") -> int:
    with gevent.socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        client.sendall(f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        return int(client.recv(65536).split(b" ")[1])


def test_whoever_leads_opens_it_and_closes_it_when_another_does(app: SmartEdge, path: str) -> None:
    door = AdminDoor(app)
    app.edge.follower.leading = False
    door.follow_leader()
    assert not os.path.exists(path)
    app.edge.follower.leading = True
    door.follow_leader()
    door.follow_leader()
    assert asked(path) == 200
    assert asked(path, "/elsewhere") == 404  # nothing is forwarded from here
    app.edge.follower.leading = False
    door.follow_leader()
    with pytest.raises(ConnectionRefusedError):
        asked(path)
    app.edge.follower.leading = True
    door.follow_leader()
    assert asked(path) == 200
    door.close()


def test_where_another_listens_it_is_said_once_and_tried_again(
    app: SmartEdge, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    door = AdminDoor(app)
    with listen_unix(path, removed_at_exit=False), caplog.at_level(logging.WARNING):
        door.follow_leader()
        door.follow_leader()
        assert [record.getMessage() for record in caplog.records] == [
            f"no admin pages yet: cannot listen on admin_bind unix:{path}: [Errno 98] another process listens there: '{path}'"
        ]
    door.follow_leader()
    assert asked(path) == 200
    door.close()


def test_where_the_server_has_opened_it_nothing_is_done(app: SmartEdge, path: str) -> None:
    app.edge.listeners = [("127.0.0.1", 8080), path]
    AdminDoor(app).follow_leader()
    assert not os.path.exists(path)
