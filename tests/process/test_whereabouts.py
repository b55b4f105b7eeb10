"""Where the edges of this machine answer: what each writes down, and what is believed of it."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from smartedge.config.model import parse
from smartedge.process.whereabouts import Whereabouts, running_edges, url_of, whereabouts_of, write_whereabouts
from smartedge.workers.state_dir import StateDir


class Machine:
    """Edges that run, each with a state directory of its own."""

    def __init__(self, directory: Path) -> None:
        self.env = {"SMARTEDGE_STATE_DIR": str(directory / "state")}
        self.locks: list[object] = []

    def runs(self, url: str) -> StateDir:
        state = StateDir.find(f"edge-{len(self.locks)}", self.env)
        self.locks.append(state.take_slot())
        write_whereabouts(state, Whereabouts(url))
        return state


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    machine = Machine(tmp_path)
    yield machine
    for lock in machine.locks:
        lock.release()  # type: ignore[attr-defined]


def test_one_that_has_ended_or_writes_nonsense_is_not_found(machine: Machine) -> None:
    gone, odd = machine.runs("http://127.0.0.1:1"), machine.runs("http://127.0.0.1:2")
    machine.locks[0].release()  # type: ignore[attr-defined]
    (odd.path / "edge.json").write_text('{"url": 5}')
    assert running_edges(machine.env) == []
    for text in ("[]", "{", '{"url": "x", "more": 1}', '{"url": "x", "config": 5}'):
        (odd.path / "edge.json").write_text(text)
        assert running_edges(machine.env) == []
    assert (gone.path / "edge.json").exists()


def test_what_another_user_could_have_written_is_not_believed(machine: Machine) -> None:
    state = machine.runs("http://127.0.0.1:1")
    assert [edge.url for edge in running_edges(machine.env)] == ["http://127.0.0.1:1"]
    state.home.chmod(0o777)
    assert running_edges(machine.env) == []


@pytest.mark.parametrize(
    ("name", "secure", "url"),
    [
        (("127.0.0.1", 80), False, "http://127.0.0.1:80"),
        (("0.0.0.0", 8443), True, "https://127.0.0.1:8443"),
        (("::", 80, 0, 0), False, "http://[::1]:80"),
        ("/run/admin.sock", False, "unix:/run/admin.sock"),
        (b"/run/admin.sock", True, "unix:/run/admin.sock"),
    ],
)
def test_a_listener_has_a_url(name: object, secure: bool, url: str) -> None:
    assert url_of(name, secure=secure) == url


def test_an_edge_is_where_its_admin_pages_are(tmp_path: Path) -> None:
    traffic, admin = ("0.0.0.0", 443), ("127.0.0.1", 8091)
    certificate = str(tmp_path / "cert.pem")
    Path(certificate).touch()
    plain = parse(json.dumps({"backends": ["http://a:1"], "certfile": certificate}))
    apart = plain.model_copy(update={"admin_bind": "127.0.0.1:0"})
    path = str(tmp_path / "backends.json")
    assert whereabouts_of(plain, path, [traffic]) == Whereabouts("https://127.0.0.1:443", os.path.realpath(path), certificate)
    assert whereabouts_of(apart, None, [traffic, admin]) == Whereabouts("http://127.0.0.1:8091")
    assert whereabouts_of(plain, path, []) is None  # no server of ours, and not gunicorn's


def test_a_worker_of_gunicorns_that_ends_before_it_has_begun_says_nothing() -> None:
    """Regression: its sockets are closed by then, and what it had accepted was answered with nothing."""

    class Worker:
        cfg = None

        def __init__(self) -> None:
            self.sockets = [socket.socket()]
            self.sockets[0].close()

        def run(self) -> object:
            return whereabouts_of(parse('{"backends": ["http://a"]}'), None, ())

    assert Worker().run() is None
