"""What the service manager hears of a SIGHUP; that signals come and requests end well is shown by tests/live/test_stopping.py."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest

from smartedge.cli.serve import _reload
from smartedge.config.model import ConfigError, Problem
from tests.house import Told


class Manager:
    def __init__(self) -> None:
        self.heard: list[str] = []

    def reloading(self) -> None:
        self.heard.append("reloading")

    def ready(self, status: str) -> None:
        self.heard.append(status)


def heard_of(result: Any) -> list[str]:
    """What a manager hears of a reload that returns this document, or raises this error."""

    def reload(_: None, *, by: str) -> Any:
        assert by == "SIGHUP"
        if isinstance(result, Exception):
            raise result
        return SimpleNamespace(document=result)

    manager = Manager()
    told = Told()
    app: Any = SimpleNamespace(edge=SimpleNamespace(reload=reload, announcer=told.announcer))
    _reload(app, manager)  # type: ignore[arg-type]
    assert told.kinds() == (["reload_refused"] if isinstance(result, Exception) else [])
    return manager.heard


@pytest.mark.parametrize(("changed", "logged"), [(True, []), (False, ["reload: nothing is different"])])
def test_a_reload_ends_with_what_it_came_to_and_one_without_a_change_is_logged(
    changed: bool, logged: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    document = {"changed": changed, "files_renewed": False, "message": "nothing is different"}
    with caplog.at_level(logging.INFO):
        assert heard_of(document) == ["reloading", "nothing is different"]
    assert [record.getMessage() for record in caplog.records] == logged


def test_a_refused_reload_leaves_us_ready_and_says_why(caplog: pytest.LogCaptureFixture) -> None:
    refused = ConfigError([Problem("backends", "is empty")], status=422)
    assert heard_of(refused) == ["reloading", f"reload refused, nothing changed: {refused}"]
    assert "nothing changed" in caplog.text
