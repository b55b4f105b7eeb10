"""The alerts for Prometheus: promtool runs their tests, and each has a section, a test, and metrics that there are."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from smartedge.admin.metrics import TABLE

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy" / "prometheus"
ALERTS = re.findall(r"- alert: (\w+)", (RULES / "alerts.yml").read_text())
DOC = (ROOT / "docs" / "alerts.md").read_text()


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    found = shutil.which("promtool")
    if found is None:
        assert os.environ.get("CI") != "true", "promtool is missing: apt-get install prometheus"
        pytest.skip("promtool is not installed (apt-get install prometheus)")
    return subprocess.run([found, *arguments], cwd=RULES, capture_output=True, text=True, timeout=110, check=False)


@pytest.mark.parametrize("what", ["rules rules.yml", "rules alerts.yml", "config prometheus.yml"])
def test_promtool_finds_nothing_wrong(what: str) -> None:
    result = promtool("check", *what.split())
    assert result.returncode == 0, result.stderr


@pytest.mark.long
def test_every_alert_fires_when_it_should_and_not_otherwise() -> None:
    result = promtool("test", "rules", "alerts_test.yml")
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("alert", ALERTS)
def test_every_alert_has_a_test_and_a_section_to_which_it_leads(alert: str) -> None:
    tests = (RULES / "alerts_test.yml").read_text()
    assert re.search(rf"alertname: {alert}\n +exp_alerts:\n", tests), "a test in which it fires"
    assert f"runbook_url: docs/alerts.md#{alert.lower()}\n" in (RULES / "alerts.yml").read_text()
    section = re.search(rf"^## {alert}\n(.*?)(?=^## |\Z)", DOC, re.MULTILINE | re.DOTALL)
    assert section is not None
    for word in ("**Means**", "**Look at**", "**Do**" if "**do**" not in section[1] else "**do**"):
        assert word in section[1]


def test_no_section_is_about_an_alert_that_is_gone() -> None:
    assert re.findall(r"^## (\w+)$", DOC, re.MULTILINE) == ALERTS


@pytest.mark.parametrize("file", ["rules.yml", "alerts.yml"])
def test_every_metric_that_is_asked_for_is_one_of_ours(file: str) -> None:
    ours = {line.name for line in TABLE} | {"up"}
    ours |= {f"{line.name}_{part}" for line in TABLE for part in ("bucket", "count", "sum")}
    recorded = set(re.findall(r"- record: (\S+)", (RULES / "rules.yml").read_text()))
    text = re.sub(r"#.*", "", (RULES / file).read_text())
    asked = set(re.findall(r"(?<![\w:/])(?:service:|service_backend:)?smartedge_[a-z_]+(?::\w+)?", text))
    assert asked
    assert {name for name in asked if name not in ours | recorded} == set()
