"""What ships SmartEdge: the wheel, the container, Kubernetes, systemd, logrotate; each checked as far as tools allow here."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from smartedge import __version__
from smartedge.config.model import parse
from smartedge.workers.state_dir import StateDir

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_container_runs_what_there_is_as_nobody_special() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    assert re.search(r"^USER 10001$", text, re.MULTILINE)
    assert 'HEALTHCHECK --interval=5s --timeout=3s --start-period=5s --retries=3 CMD ["smartedge", "healthcheck"]' in text
    for copied in re.findall(r"^COPY (?!--from)(.+) \./?\S*$", text, re.MULTILINE):
        for name in copied.split():
            assert (ROOT / name).exists(), name
            assert f"!{name}" in (ROOT / ".dockerignore").read_text(), f"{name} never reaches the build"


def test_the_state_directory_of_the_container_can_be_used(tmp_path: Path) -> None:
    """Mode 0700, and the only folder that is written to."""
    folder = tmp_path / "run"
    folder.mkdir(mode=0o700)
    StateDir.check({"SMARTEDGE_STATE_DIR": str(folder)})


def test_the_configuration_for_kubernetes_is_right_and_fits_its_deployment() -> None:
    config = parse((DEPLOY / "kubernetes" / "backends.json").read_text())
    deployment = (DEPLOY / "kubernetes" / "deployment.yaml").read_text()
    (grace,) = map(int, re.findall(r"terminationGracePeriodSeconds: (\d+)", deployment))
    (pause,) = map(int, re.findall(r"drain --edge && sleep (\d+)", deployment))
    assert pause + config.shutdown_grace_s < grace
    for setting in ("readOnlyRootFilesystem: true", "runAsNonRoot: true", "allowPrivilegeEscalation: false", "drop: [ALL]"):
        assert setting in deployment
    kustomization = (DEPLOY / "kubernetes" / "kustomization.yaml").read_text()
    for name in re.findall(r"^  - (\S+\.yaml)$", kustomization, re.MULTILINE):
        assert (DEPLOY / "kubernetes" / name).exists()
    assert f"image: smartedge:{__version__}" in deployment


def test_the_unit_is_hardened() -> None:
    """`systemd-analyze security`: 0 is shut, 10 is open."""
    tool = shutil.which("systemd-analyze")
    if tool is None:
        pytest.skip("systemd-analyze is not installed (apt-get install systemd)")
    unit = DEPLOY / "smartedge.service"
    said = subprocess.run(
        [tool, "security", "--offline=true", "--no-pager", unit], capture_output=True, text=True, timeout=60, check=False
    )
    found = re.search(r"exposure level for smartedge\.service: ([\d.]+)", said.stdout)
    if found is None:
        pytest.skip(f"this systemd-analyze cannot look at a file: {said.stderr.strip()}")
    assert float(found[1]) < 2.0


def test_what_is_said_of_the_package_is_complete() -> None:
    assert {"acme", "auth", "dns", "geo", "otel", "test"} <= PROJECT["optional-dependencies"].keys()
    assert "Typing :: Typed" in PROJECT["classifiers"]
    assert (ROOT / "smartedge" / "py.typed").exists()
