"""gevent's plugins are found, by one look at what is installed."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from gevent.events import DoNotPatch

from smartedge.process.plugins import plugins_found_once

PROGRAM = """
import sys
from importlib import metadata
distributions, looks = metadata.distributions, []
metadata.distributions = lambda **how: looks.append(how) or distributions(**how)
from smartedge.process.plugins import plugins_found_once
from gevent import monkey
if sys.argv[1] == "once":
    with plugins_found_once():
        monkey.patch_all()
else:
    monkey.patch_all()
print(len(looks))
"""
PLUGIN = "def will_patch_all(event):\n    print('told of', type(event).__name__)\n"


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A folder with a package that has a plugin for gevent."""
    information = tmp_path / "plugged-1.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: plugged\nVersion: 1\n")
    (information / "entry_points.txt").write_text("[gevent.plugins.monkey.will_patch_all]\nplugged = plugged:will_patch_all\n")
    (tmp_path / "plugged.py").write_text(PLUGIN)
    return tmp_path


@pytest.mark.parametrize(("how", "least", "most"), [("once", 1, 1), ("as gevent does it", 20, 40)])
def test_a_start_looks_once_and_tells_every_plugin(installed: Path, how: str, least: int, most: int) -> None:
    """The second one shows that there is something to gain, still."""
    path = {"PYTHONPATH": f"{Path.cwd()}:{installed}"}
    done = subprocess.run([sys.executable, "-c", PROGRAM, how], env=path, capture_output=True, text=True, check=True)
    told, looks = done.stdout.splitlines()
    assert told == "told of GeventWillPatchAllEvent"
    assert least <= int(looks) <= most


def test_afterwards_what_is_installed_is_looked_up_again() -> None:
    before = metadata.entry_points
    with plugins_found_once():
        assert metadata.entry_points is not before
        assert not metadata.entry_points(group="console_scripts", name="pytest")
    with pytest.raises(DoNotPatch), plugins_found_once():
        raise DoNotPatch  # what a plugin may say
    assert metadata.entry_points is before
    assert metadata.entry_points(group="console_scripts", name="pytest")
