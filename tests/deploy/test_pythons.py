"""Which Pythons `make test-pythons` finds: small programs that say what they are."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

DEPLOY = Path(__file__).parents[2] / "deploy"


@pytest.fixture
def pythons(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(DEPLOY))
    spec = importlib.util.spec_from_file_location("pythons", DEPLOY / "pythons.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "pythons", module)
    spec.loader.exec_module(module)
    return module


def put(path: Path, says: str, status: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho {says}\nexit {status}\n")
    path.chmod(0o755)
    return path


def test_the_newest_cpython_of_each_version_is_found_on_the_path_and_in_pyenvs_folder(
    tmp_path: Path, pythons: ModuleType
) -> None:
    on_path, versions = tmp_path / "bin", tmp_path / "pyenv" / "versions"
    first = put(on_path / "python3.11", "cpython 3 11 2")
    put(on_path / "python3.12", "pyenv: python3.12: command not found", 127)  # a shim that leads nowhere
    put(on_path / "python3.14", "pypy 3 14 0")
    put(versions / "3.10.1" / "bin" / "python", "cpython 3 10 1")
    old, newer = (put(versions / name / "bin" / "python", f"cpython {name.replace('.', ' ')}") for name in ("3.13.0", "3.13.2"))
    env = {"PATH": f"{tmp_path / 'nowhere'}:{on_path}", "PYENV_ROOT": str(tmp_path / "pyenv")}
    assert pythons.find_pythons(env) == {(3, 11, 2): first, (3, 13, 2): newer}
    newer.unlink()
    home = {"HOME": str(tmp_path)}
    assert pythons.find_pythons(home) == {}
    (tmp_path / "pyenv").rename(tmp_path / ".pyenv")
    assert list(pythons.find_pythons(home)) == [(3, 13, 0)]
    assert not old.exists()
