"""`"watch": true`: a file that somebody changes is reloaded, and nothing else leads to a reload."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from smartedge.config.model import ConfigError
from smartedge.discovery import file_look
from smartedge.edge import file_watch
from smartedge.edge.file_watch import FileWatch
from tests.house import Served, Told, running

A, B = "http://10.0.0.1:80", "http://10.0.0.2:80"


class Watched:
    """An edge whose file is looked at when the test says so."""

    def __init__(self, served: Served, path: Path) -> None:
        self.edge = served.edge
        self.path = path
        self.wanted = True
        self.reloads = 0
        self.watch = FileWatch(str(path), lambda: self.wanted and self.edge.config.watch, self.reload, self.edge.announcer)
        self.watch.look()

    def reload(self, body: bytes | None, *, by: str) -> Any:
        self.reloads += 1
        return self.edge.reload(body, wait=False, by=by)

    def write(self, *urls: str, **more: Any) -> None:
        self.path.write_text(json.dumps({"backends": urls, "watch": True, **more}))

    def state(self) -> tuple[list[str], int]:
        return [one.url for one in self.edge.pool.backends], self.edge.generation


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    path = tmp_path / "backends.json"
    with running(A, path=path, watch=True) as served:
        yield Watched(served, path)


@pytest.fixture(autouse=True)
def settled(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A file is whole at once, and what was refused is tried again at each look."""
    monkeypatch.setattr(file_look, "SETTLES_S", -1.0)
    monkeypatch.setattr(file_watch, "RETRY_S", 0.0)
    caplog.set_level(logging.INFO, "smartedge")


def test_the_first_look_finds_what_is_in_use_and_changes_nothing(watched: Watched) -> None:
    assert (watched.state(), watched.reloads) == (([A], 1), 1)
    for _ in range(5):
        watched.watch.look()
    assert (watched.state(), watched.reloads) == (([A], 1), 1)


def test_a_change_is_a_generation(watched: Watched, caplog: pytest.LogCaptureFixture) -> None:
    watched.write(A, B)
    watched.watch.look()
    assert watched.state() == ([A, B], 2)
    assert f"{watched.path} has changed" in caplog.messages
    watched.watch.look()
    assert watched.state() == ([A, B], 2)


def test_the_symbolic_link_of_a_configmap_is_followed(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "2").mkdir()
    (tmp_path / "2" / "backends.json").write_text(json.dumps({"backends": [B], "watch": True}))
    (tmp_path / "..data").symlink_to("1")
    with running(A, path=tmp_path / "1" / "backends.json", watch=True) as served:
        served.edge.origin.file.path = str(tmp_path / "..data" / "backends.json")  # type: ignore[union-attr]
        watched = Watched(served, tmp_path / "..data" / "backends.json")
        (tmp_path / "..new").symlink_to("2")
        os.replace(tmp_path / "..new", tmp_path / "..data")
        watched.watch.look()
        assert watched.state() == ([B], 2)


def test_a_file_that_is_touched_or_written_otherwise_is_no_news(watched: Watched, caplog: pytest.LogCaptureFixture) -> None:
    os.utime(watched.path)
    watched.watch.look()
    assert watched.reloads == 1
    watched.path.write_text(json.dumps({"watch": True, "backends": [A]}, indent=8))
    watched.watch.look()
    assert (watched.state(), watched.reloads) == (([A], 1), 2)
    assert caplog.messages == []


def test_a_reload_with_a_body_writes_the_file_and_leads_to_no_other(watched: Watched) -> None:
    watched.edge.reload(json.dumps({"backends": [A, B], "watch": True}).encode())
    assert watched.state() == ([A, B], 2)
    for _ in range(3):
        watched.watch.look()
    assert (watched.state(), watched.reloads) == (([A, B], 2), 2)


def test_what_is_refused_is_said_once_changes_nothing_and_counts_when_it_is_right(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    watched.write(A, wieght=2)
    for _ in range(4):
        watched.watch.look()
    assert watched.state() == ([A], 1)
    (said,) = caplog.messages
    assert said.startswith(
        f"{watched.path} has changed and is refused, nothing changed: {watched.path}: wieght: is an unknown key"
    )
    watched.write(B)
    watched.watch.look()
    assert watched.state() == ([B], 2)


def test_what_was_refused_for_another_file_counts_when_that_is_there(watched: Watched, tmp_path: Path) -> None:
    page = tmp_path / "503.html"
    routes = [{"error_pages": {"503": str(page)}, "to": "default"}]
    watched.write(A, B, routes=routes)
    watched.watch.look()
    assert watched.state() == ([A], 1)
    page.write_text("<h1>soon</h1>")
    watched.watch.look()
    assert watched.state() == ([A, B], 2)


def test_a_half_written_file_is_waited_for_without_a_word(
    watched: Watched, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(file_look, "SETTLES_S", 3600.0)
    watched.path.write_text('{"backends": ["http://10.')
    watched.watch.look()
    watched.watch.look()
    assert (watched.state(), caplog.messages) == (([A], 1), [])
    watched.write(B)
    watched.watch.look()
    assert watched.state() == ([B], 2)


def test_a_file_that_is_gone_is_said_once_and_what_is_in_use_stays(watched: Watched, caplog: pytest.LogCaptureFixture) -> None:
    watched.path.unlink()
    for _ in range(3):
        watched.watch.look()
    assert watched.state() == ([A], 1)
    assert caplog.messages == [f"{watched.path} cannot be read, and what is in use stays: No such file or directory"]
    watched.write(A, B)
    watched.watch.look()
    assert watched.state() == ([A, B], 2)


def test_a_worker_that_comes_to_lead_finds_what_has_changed_before(watched: Watched) -> None:
    watched.wanted = False
    watched.write(B)
    watched.watch.look()
    assert watched.state() == ([A], 1)
    watched.wanted = True
    watched.watch.look()
    assert watched.state() == ([B], 2)


def test_without_a_file_nothing_is_looked_at() -> None:
    def reload(*_: Any, **__: Any) -> Any:
        raise ConfigError([], status=400)

    watch = FileWatch(None, lambda: True, reload, Told().announcer)
    watch.start()
    watch.look()
    watch.stop()
