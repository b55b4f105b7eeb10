"""Commands find the edge that they are for, however it was started, and ask nobody else."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.live.edges import GEVENT, OWN, WORKER, start_edge
from tests.live.peers import CERTS, Script, answers
from tests.live.processes import ROOT, wait_until

TOKEN = "s3cret-token"

WAYS: dict[str, dict[str, Any]] = {
    "an admin port from a flag": {"arguments": ("--admin-bind", "127.0.0.1:0")},
    "an admin socket, several workers": {"arguments": ("--workers", "2", "--admin-bind", "unix:{0}/admin.sock")},
    "tls on the traffic port": {"arguments": ("--certfile", "cert.pem")},
    "gunicorn's gevent": {"server": GEVENT},
    "gunicorn with two of our workers": {"server": WORKER, "arguments": ("-w", "2")},
    "gunicorn's gevent with an admin socket": {"server": GEVENT, "arguments": ("-w", "2"), "admin": "unix:{0}/admin.sock"},
}


def smartedge(directory: Path, *words: str, token: str | None = None) -> subprocess.CompletedProcess[str]:
    """A command in the edge's directory, with nothing that says where the edge is."""
    env = {name: text for name, text in os.environ.items() if not name.startswith("SMARTEDGE_")}
    env |= {"PYTHONPATH": str(ROOT), "SMARTEDGE_STATE_DIR": str(directory / "state")}
    env |= {"SMARTEDGE_ADMIN_TOKEN": token} if token else {}
    command = [sys.executable, "-m", "smartedge", *words]
    return subprocess.run(command, cwd=directory, env=env, capture_output=True, text=True, timeout=30)


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
def test_a_command_finds_the_edge_without_being_told(tmp_path: Path, way: dict[str, Any]) -> None:
    """With the README's own --admin-bind, `reload` went to the traffic port: exit 0, nothing done; a backend had the token."""
    shutil.copy(CERTS / "localhost.pem", tmp_path / "cert.pem")
    arguments = tuple(word.format(tmp_path) for word in way.get("arguments", ()))
    server = way.get("server", OWN)
    env = {"SMARTEDGE_ADMIN_TOKEN": TOKEN}
    if "admin" in way:
        env["SMARTEDGE_ADMIN_BIND"] = way["admin"].format(tmp_path)
    with (
        Script(answers()) as backend,
        start_edge(tmp_path, backend, server=server, arguments=arguments, env=env, probed=False) as edge,
    ):
        is_apart = edge.admin("/health").text == "hello\n"  # gunicorn listens before its worker serves
        wait_until(lambda: list(tmp_path.glob("state/*/*/edge.json")), 10, "the edge to say where it is")
        done = smartedge(tmp_path, "status", "--json", token=TOKEN)
        assert done.returncode == 0, done.stderr + str(edge.process)
        document = json.loads(done.stdout)
        assert [one["url"] for one in document["backends"]] == [backend.url]
        assert {worker["generation"] for worker in document["workers"]} == {1}
        done = smartedge(tmp_path, "reload", token=TOKEN)
        assert (done.returncode, done.stderr) == (0, "")
        assert "generation 1" in done.stdout
        if is_apart:
            done = smartedge(tmp_path, "reload", "--url", edge.url, token=TOKEN)
            assert done.returncode == 2
            assert "is not the admin address of a balancer" in done.stderr
        assert not [raw for raw in backend.requests if b"s3cret" in raw or b"X-SmartEdge-Hello" in raw]
    assert not (tmp_path / "admin.sock").exists()
