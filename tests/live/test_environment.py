"""What `make venv` does: an environment that is made, filled, and mended. No port is needed, which test_make.py does."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.live.processes import ROOT

pytestmark = pytest.mark.timeout(300)

# Nobody answers there, and pip is to look nowhere else.
NO_INDEX = {
    "PIP_CONFIG_FILE": os.devnull,
    "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
    "PIP_EXTRA_INDEX_URL": "",
    "PIP_FIND_LINKS": "",
    "PIP_NO_CACHE_DIR": "1",
}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a list of one package: what `make venv` does with the project's own list takes a minute."""
    directory = tmp_path_factory.mktemp("small")
    pin = next(line for line in (ROOT / "requirements-dev.txt").read_text().splitlines() if line.startswith("iniconfig=="))
    (directory / "requirements.txt").write_text(f"{pin}\n")
    return directory


def environment(directory: Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """What `make venv` runs, for another environment and list of packages."""
    command = [
        shutil.which("python3") or "python3",
        ROOT / "deploy" / "environment.py",
        directory / "v",
        directory / "requirements.txt",
    ]
    return subprocess.run(command, env={**os.environ, **(env or {})}, capture_output=True, text=True, timeout=240)


def test_an_unreachable_package_index_is_one_clear_line_and_the_next_run_mends_it(small: Path) -> None:
    refused = environment(small, NO_INDEX)
    assert refused.returncode == 2
    (said,) = refused.stderr.splitlines()
    assert said.startswith("cannot reach the package index: check the network or PIP_INDEX_URL")
    assert environment(small).returncode == 0


@pytest.mark.parametrize("damage", ["no interpreter", "no pip"])
def test_a_broken_environment_is_made_anew_and_filled_again(small: Path, damage: str) -> None:
    """One that was to be made anew was once taken for full, because the old one had been."""
    assert environment(small).returncode == 0
    python = small / "v" / "bin" / "python"
    if damage == "no interpreter":
        python.unlink()
        python.symlink_to("/no/such/python")
    else:
        for part in (small / "v").glob("lib/python*/site-packages/pip-*"):
            shutil.rmtree(part)
    mended = environment(small)
    assert mended.returncode == 0, mended.stderr
    assert f"making {small / 'v'}" in mended.stdout
    assert subprocess.run([python, "-c", "import iniconfig"]).returncode == 0
