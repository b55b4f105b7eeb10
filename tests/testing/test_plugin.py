"""The plugin in somebody else's project: an ordinary run of pytest, in a process that knows nothing of gevent."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
ENV = {"PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # no plugin but ours: some import more than the edge does
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "testing.md").read_text(encoding="utf-8"), re.DOTALL)


def pytest_in(folder: Path, *words: str) -> str:
    """Run pytest on what is in a folder, and return what it says."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "smartedge.testing.plugin",
        "-p",
        "no:cacheprovider",
        *words,
    ]
    env = os.environ | ENV
    env.pop("PYTEST_ADDOPTS", None)
    (folder / "pytest.ini").write_text("[pytest]\naddopts = --strict-markers\n")
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=100, check=False)
    return done.stdout + done.stderr


def test_a_project_of_the_pages_examples_and_of_two_that_fail(tmp_path: Path) -> None:
    """All examples pass, a wrong mark is named, and a failing test fails and ends.

    The edge's thread keeps no process from ending, and a hanging backend neither.
    """
    for number, block in enumerate(BLOCKS):
        (tmp_path / f"test_{number}.py").write_text(block, encoding="utf-8")
    (tmp_path / "test_marked.py").write_text(
        "import pytest\n@pytest.mark.smartedge(backends='many')\ndef test_it(edge):\n    pass\n"
    )
    (tmp_path / "test_failing.py").write_text(
        "import threading\n"
        "def test_it(edge, backends):\n"
        "    for backend in backends:\n"
        "        backend.hangs()\n"
        "    threading.Thread(target=edge.get, daemon=True).start()\n"
        "    backends[0].wait_for()\n"
        "    assert edge.share == {}\n"
    )
    said = pytest_in(tmp_path)
    count = len(re.findall("^def test_", "".join(BLOCKS), re.MULTILINE))
    assert f"1 failed, {count} passed" in said, said
    assert "1 error" in said, said
    assert "FAILED test_failing.py::test_it" in said, said
    assert "backends must be a number from 0 to 26, not 'many'" in said, said


def test_pytest_without_the_fixtures_imports_nothing_of_the_edge(tmp_path: Path) -> None:
    """An entry point is loaded by every run of pytest on a machine."""
    (tmp_path / "test_it.py").write_text(
        "import sys\ndef test_it():\n    assert 'gevent' not in sys.modules\n    assert 'smartedge.app' not in sys.modules\n"
    )
    assert "1 passed" in pytest_in(tmp_path)


def test_under_gevents_patches_too(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        "def test_it(edge, backends):\n"
        "    backends[0].replies(500, times=2)\n"
        "    assert [edge.get('/').status_code for _ in range(4)] == [200] * 4\n"
    )
    command = [
        sys.executable,
        "-m",
        "gevent.monkey",
        "--module",
        "pytest",
        "-p",
        "smartedge.testing.plugin",
        "-p",
        "no:cacheprovider",
    ]
    env = os.environ | ENV
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=100, check=False)
    assert "1 passed" in done.stdout, done.stdout + done.stderr
