"""What `make cluster` starts: a cluster to play with, where what it says can be tried works, and nothing is left at the end."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.live.processes import ROOT, ask, running, wait_until

pytestmark = pytest.mark.timeout(200)


def test_the_cluster_does_what_it_says_and_ends_with_ctrl_c() -> None:
    if shutil.which("etcd") is None:
        pytest.skip("etcd is missing: sudo apt install etcd-server")
    command = [sys.executable, "deploy/cluster.py", "--port", "0", "--workers", "1"]
    with running(command, r"^  kill -9 \d+$", timeout_s=60) as cluster:
        nodes = re.findall(r"http://localhost:\d+", cluster.wait_for(r"^three nodes are one edge: .*$")[0])
        home = Path(cluster.wait_for(r"^their files: (.*)$")[1])
        curl, who, drain, reload, kill_node, kill_etcd = re.findall(r"^  (\S.*)$", cluster.output, re.MULTILINE)
        assert typed(curl).startswith("server")
        wait_until(lambda: "3 nodes, live" in typed(who), 20, "each node to know all")
        typed(drain)
        wait_until(lambda: [states(node).get("server2") for node in nodes] == ["draining"] * 3, 20, "the drain on all nodes")
        typed(reload)
        wait_until(lambda: [list(states(node)) for node in nodes] == [["server1"]] * 3, 20, "the reload on all nodes")
        typed(kill_node)
        cluster.wait_for(r"^node2 stopped \(exit -9\)", 20)
        cluster.wait_for(r"^node2 is started again", 20)
        wait_until(lambda: ask(f"{nodes[1]}/").status == 200, 30, "node2 to serve again")
        typed(kill_etcd)
        wait_until(lambda: "503" in typed(reload.replace("curl", "curl -s -w '%{http_code}'")), 20, "a reload to be refused")
        wait_until(lambda: '"generation"' in typed(reload), 30, "etcd to be back")
        os.kill(cluster.pid, signal.SIGINT)
        assert cluster.wait(30) == 0
        assert cluster.members() == {}
        assert not home.exists()
        assert "Traceback" not in cluster.output, cluster


def test_without_etcd_it_says_how_to_get_it() -> None:
    done = subprocess.run(
        [sys.executable, "deploy/cluster.py", "--port", "0"],
        cwd=ROOT,
        env={"PATH": ""},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert done.stderr == "etcd is missing; install it with: sudo apt install etcd-server\n"


def typed(command: str) -> str:
    """Run a command as in a shell; what it printed."""
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=60)
    return done.stdout + done.stderr


def states(node: str) -> dict[str, str]:
    """The backends of a node, and what the operator wants of each."""
    return {backend["id"]: backend["state"] for backend in ask(f"{node}/api/status").json()["backends"]}
