"""What is in deploy/ keeps the admin pages out of the reach of proxies in front, and does what docs/deployment.md promises."""

from __future__ import annotations

import os
import runpy
from pathlib import Path

import pytest

from smartedge.config.values import admin_address
from smartedge.http import resources
from smartedge.observe import console

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


def settings(name: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in (DEPLOY / name).read_text().splitlines():
        key, separator, value = line.partition("=")
        if separator and not line.startswith("#"):
            found.setdefault(key, []).append(value)
    return found


def test_a_wrong_file_makes_a_reload_fail_before_anybody_is_told() -> None:
    unit = settings("smartedge.service")
    assert unit["Type"] == ["notify-reload"]
    assert unit["ExecReload"][0].endswith("smartedge check")
    assert unit["ExecStartPre"][0].endswith("smartedge check")


def test_the_port_outlives_a_restart_and_may_be_443() -> None:
    unit, sock = settings("smartedge.service"), settings("smartedge.socket")
    assert unit["Requires"] == ["smartedge.socket"]
    assert f"SMARTEDGE_BIND={sock['ListenStream'][0]}" in unit["Environment"]
    assert unit["AmbientCapabilities"] == unit["CapabilityBoundingSet"] == ["CAP_NET_BIND_SERVICE"]


def test_it_has_a_place_for_logs_and_for_keys() -> None:
    assert settings("smartedge.service")["LogsDirectory"] == ["smartedge"]
    assert "LoadCredential=key.pem" in (DEPLOY / "smartedge.service").read_text()


def test_gunicorns_settings_take_no_more_clients_than_the_limit_carries(monkeypatch: pytest.MonkeyPatch) -> None:
    installed: list[bool] = []
    monkeypatch.setenv("SMARTEDGE_ADMIN_BIND", "127.0.0.1:1")
    monkeypatch.setattr(resources, "raise_limit", lambda: 1024)
    monkeypatch.setattr(resources, "most_clients", lambda: 436)
    monkeypatch.setattr(console, "install", lambda: installed.append(True))
    found = runpy.run_path(str(DEPLOY / "gunicorn.conf.py"))
    assert found["worker_connections"] == 436
    found["on_starting"](None)
    found["on_reload"](None)
    assert installed == [True]
