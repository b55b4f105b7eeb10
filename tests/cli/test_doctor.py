"""The command `doctor`."""

from __future__ import annotations

import json
import os
import resource
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from smartedge.cli import main as cli
from tests.certificates import Authority
from tests.live.peers import Script, answers
from tests.live.processes import ROOT

pytestmark = pytest.mark.usefixtures("directory")
Capture = pytest.CaptureFixture[str]


def findings(directory: Path, capsys: Capture, document: Any) -> tuple[int, dict[str, list[dict[str, str]]]]:
    """What the doctor says of a configuration, by check."""
    text = document if isinstance(document, str) else json.dumps({"bind": "127.0.0.1:0"} | document)
    (directory / "backends.json").write_text(text)
    status = cli.main(["doctor", "--json"])
    found: dict[str, list[dict[str, str]]] = {}
    for one in json.loads(capsys.readouterr().out):
        found.setdefault(one["check"], []).append(one)
    return status, found


def test_all_is_well(directory: Path, capsys: Capture) -> None:
    with Script(answers()) as backend:
        status, found = findings(directory, capsys, {"backends": [backend.url]})
    assert status == 0
    for check in ("configuration", "state directory", "ports", "backends"):
        assert [one["level"] for one in found[check]] == ["good"], check
        assert found[check][0]["remedy"] == ""


def test_a_backend_that_is_not_there(directory: Path, capsys: Capture) -> None:
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        status, found = findings(directory, capsys, {"backends": [url]})
    assert status == 1
    (backend,) = found["backends"]
    assert (backend["level"], "connection refused" in backend["said"]) == ("bad", True)
    assert backend["remedy"]


def test_a_port_that_is_taken_is_named_with_what_to_do(directory: Path, capsys: Capture) -> None:
    with closing(socket.socket()) as taken, Script(answers()) as backend:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        status, found = findings(directory, capsys, {"backends": [backend.url], "bind": f"127.0.0.1:{port}"})
    assert status == 1
    assert found["ports"][0]["said"] == f"bind: cannot listen on 127.0.0.1:{port}: address already in use"
    assert f"sport = :{port}" in found["ports"][0]["remedy"]


def test_a_clock_that_differs(directory: Path, capsys: Capture) -> None:
    with Script(answers(headers=[("Date", "Tue, 01 Jan 2030 00:00:00 GMT")])) as backend:
        status, found = findings(directory, capsys, {"backends": [backend.url]})
    assert status == 0
    assert "ahead of ours" in found["clock"][0]["said"]


def test_a_wrong_configuration_is_told_key_by_key(directory: Path, capsys: Capture) -> None:
    status, found = findings(directory, capsys, '{"backends": ["http://a:1"], "wieght": 1, "retry": {"attempts": 0}}')
    assert status == 1
    assert [one["said"].split(":")[0] for one in found["configuration"]] == ["retry.attempts", "wieght"]
    assert "backends" not in found


def test_a_source_that_fails(directory: Path, capsys: Capture) -> None:
    status, found = findings(directory, capsys, {"discover": {"file": {"path": "none.json"}}})
    assert status == 1
    assert "none.json" in found["sources"][0]["said"]


def test_an_expired_certificate(directory: Path, capsys: Capture) -> None:
    path = Authority().sign(directory / "old.pem", "shop.example", days=-0.5)
    with Script(answers()) as backend:
        status, found = findings(directory, capsys, {"backends": [backend.url], "certfile": path})
    assert status == 1
    assert "has expired" in found["certificates"][0]["said"]


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("GUNICORN_CMD_ARGS", "-k sync -w 4", "the worker sync"),
        ("GUNICORN_CMD_ARGS", "--worker-class=gthread", "the worker gthread"),
        ("GEVENT_RESOLVER", "ares", "GEVENT_RESOLVER=ares"),
        ("GEVENT_LOOP", "libuv-cffi", "libuv"),
    ],
)
def test_pitfalls_of_gevent_and_gunicorn(
    name: str, value: str, said: str, directory: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    _, found = findings(directory, capsys, '{"backends": []}')
    assert any(said in one["said"] for one in [*found.get("gunicorn", []), *found.get("gevent", [])])


def test_more_workers_than_processors(directory: Path, capsys: Capture) -> None:
    with Script(answers()) as backend:
        _, found = findings(directory, capsys, {"backends": [backend.url], "workers": 64})
    assert found["processors"][0]["level"] == "warn"


def test_for_people_it_is_a_line_each(directory: Path, capsys: Capture) -> None:
    assert cli.main(["doctor", "-c", "none.json"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("BAD   configuration: ")
    assert lines[1].startswith("      ")


def test_too_few_descriptors_are_bad_and_few_of_them_a_warning() -> None:
    for limit, level in ((47, "bad"), (48, "warn"), (4095, "warn"), (4096, "good")):
        done = subprocess.run(
            [sys.executable, "-m", "smartedge", "doctor", "--json"],
            preexec_fn=lambda limit=limit: resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit)),  # type: ignore[misc]
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        (found,) = [one for one in json.loads(done.stdout) if one["check"] == "descriptors"]
        assert found["level"] == level


def test_it_goes_by_the_flags_that_run_will_be_told(directory: Path, capsys: Capture) -> None:
    """It warned of pages on the clients' port that `run --admin-bind` moves away, and looked at no flag's port."""
    document = {"backends": ["http://127.0.0.1:1"], "trusted_proxies": ["127.0.0.0/8"], "bind": "127.0.0.1:0"}
    _, found = findings(directory, capsys, document)
    assert [one["level"] for one in found["configuration"]] == ["good", "warn"]
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        cli.main(["doctor", "--json", "--admin-bind", address])
    said = json.loads(capsys.readouterr().out)
    assert [one["level"] for one in said if one["check"] == "configuration"] == ["good"]
    assert any(one["said"].startswith(f"admin_bind: cannot listen on {address}") for one in said)
