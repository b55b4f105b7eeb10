"""Where the tests of the commands run."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def no_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable of ours is set but that for the state, so that whatever else runs here is not found."""
    for name in [name for name in os.environ if name.startswith("SMARTEDGE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("SMARTEDGE_STATE_DIR", str(tmp_path / "state"))


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, with a right file."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "backends.json").write_text('{"backends": ["http://a:1", "http://b:2"]}')
    return tmp_path
