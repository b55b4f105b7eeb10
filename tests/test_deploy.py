"""What is in deploy/ keeps the admin pages out of the reach of whatever proxy is in front."""

from __future__ import annotations

import os
import runpy
from pathlib import Path

import pytest

from smartedge.config_values import admin_address

DEPLOY = Path(__file__).parents[1] / "deploy"


@pytest.mark.parametrize(
    ("env", "admin"),
    [
        ({"RUNTIME_DIRECTORY": "/run/smartedge"}, "unix:/run/smartedge/smartedge-admin.sock"),
        ({"RUNTIME_DIRECTORY": "/run/a:/run/b", "XDG_RUNTIME_DIR": "/run/user/1"}, "unix:/run/a/smartedge-admin.sock"),
        ({"XDG_RUNTIME_DIR": "/run/user/1000"}, "unix:/run/user/1000/smartedge-admin.sock"),
        ({"XDG_RUNTIME_DIR": "/run/user/1000", "SMARTEDGE_ADMIN_BIND": "127.0.0.1:8091"}, "127.0.0.1:8091"),
        ({"XDG_RUNTIME_DIR": "/run/user/1000", "SMARTEDGE_ADMIN_TOKEN": "t"}, None),
        ({}, None),
    ],
)
def test_gunicorns_settings_give_the_admin_pages_a_socket(
    env: dict[str, str], admin: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RUNTIME_DIRECTORY", "XDG_RUNTIME_DIR", "SMARTEDGE_ADMIN_BIND", "SMARTEDGE_ADMIN_TOKEN"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    for name, text in env.items():
        monkeypatch.setenv(name, text)
    runpy.run_path(str(DEPLOY / "gunicorn.conf.py"))
    found = os.environ.get("SMARTEDGE_ADMIN_BIND")
    assert found == admin
    assert found is None or admin_address(found) == admin


def test_the_systemd_unit_gives_the_admin_pages_a_socket_in_its_own_directory() -> None:
    lines = (DEPLOY / "smartedge.service").read_text().splitlines()
    assert "Environment=SMARTEDGE_ADMIN_BIND=unix:%t/smartedge/admin.sock" in lines
    assert {"RuntimeDirectory=smartedge", "RuntimeDirectoryMode=0700"} <= set(lines)
    assert any(line.startswith("RestrictAddressFamilies=") and "AF_UNIX" in line for line in lines)
