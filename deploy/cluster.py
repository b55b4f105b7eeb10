"""Runs a cluster to play with until Ctrl-C: three nodes, two example servers and an etcd; `make cluster` starts it.

Whatever ends is started again after a while: kill a node or etcd, and watch the others. All files are in a directory of its
own, which goes at the end.

Exit status: 0 after Ctrl-C or SIGTERM; else 2, or that of the child that failed, after one line that says why.
"""

from __future__ import annotations

import argparse
import json
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from children import Child, Children, FailedError, accepts, refuse_busy, run_children, say

NODES = ("node1", "node2", "node3")
SERVERS = ("server1", "server2")
AGAIN_S = 5.0
"""How long something that has ended stays away."""

NODE_GRACE_S = 15.0  # longer than a node's own shutdown_grace_s


@dataclass(frozen=True)
class Ports:
    """Where everything listens on this machine."""

    nodes: tuple[int, ...]
    servers: tuple[int, ...]
    etcd: int
    etcd_peer: int

    @staticmethod
    def from_first(first: int) -> Ports:
        """Lay them out from the first node's on; 0 takes free ones."""
        if first == 0:
            return Ports(tuple(free_ports(3)), tuple(free_ports(2)), *free_ports(2))
        return Ports((first, first + 100, first + 200), (first + 1, first + 2), first + 10, first + 11)


@dataclass(frozen=True)
class Part:
    """One of the things that run. start: starts it. port: answers when it is there."""

    name: str
    port: int
    start: Callable[[], Child]


def free_ports(count: int) -> list[int]:
    """Find ports that nobody uses now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [sock.getsockname()[1] for sock in sockets]
    for sock in sockets:
        sock.close()
    return ports


def parts_of(children: Children, ports: Ports, etcd: str, workers: int, home: Path) -> list[Part]:
    """Describe everything, in the order in which it has to be started."""
    client, peer = (f"http://127.0.0.1:{port}" for port in (ports.etcd, ports.etcd_peer))

    def start_etcd() -> Child:
        listens = ["--listen-client-urls", client, "--advertise-client-urls", client]
        peers = ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", f"default={peer}"]
        quiet = ["--logger", "zap", "--log-level", "error"]
        return children.start("etcd", etcd, "--data-dir", str(home / "etcd"), *listens, *peers, *quiet, prefix="etcd  | ")

    def start_server(name: str, port: int) -> Child:
        return children.start(name, f"{name}.py", "--port", str(port), stage=1)

    def start_node(name: str, port: int) -> Child:
        bind = f"127.0.0.1:{port}"
        settings = ["--config", str(home / name / "backends.json"), "--bind", bind, "--workers", str(workers)]
        joins = ["--cluster", f"etcd://127.0.0.1:{ports.etcd}/smartedge", "--node", name]
        env = {"SMARTEDGE_STATE_DIR": str(home / name / "state")}
        command = ("-m", "smartedge", "run", *settings, *joins)
        return children.start(name, *command, stage=2, grace_s=NODE_GRACE_S, prefix=f"{name} | ", env=env)

    return [
        Part("etcd", ports.etcd, start_etcd),
        *(Part(n, p, lambda n=n, p=p: start_server(n, p)) for n, p in zip(SERVERS, ports.servers, strict=True)),
        *(Part(n, p, lambda n=n, p=p: start_node(n, p)) for n, p in zip(NODES, ports.nodes, strict=True)),
    ]


def run(children: Children, ports: Ports, workers: int, home: Path) -> None:
    """Check, start everything in order and watch it."""
    etcd = shutil.which("etcd")
    if etcd is None:
        raise FailedError(2, "etcd is missing; install it with: sudo apt install etcd-server")
    for name in NODES:
        (home / name).mkdir()
        (home / name / "backends.json").write_text(f"{configuration(ports, SERVERS)}\n", encoding="utf-8")
    parts = parts_of(children, ports, etcd, workers, home)
    refuse_busy("etcd", "127.0.0.1", ports.etcd_peer)
    for part in parts:
        refuse_busy(part.name, "localhost" if part.name in SERVERS else "127.0.0.1", part.port)
    started = {}
    for part in parts:
        started[part.name] = part.start()
        children.wait_ready(started[part.name], lambda port=part.port: accepts("127.0.0.1", port))
    say(tour(ports, home, started))
    watch(children, {part.name: part for part in parts})


def tour(ports: Ports, home: Path, started: dict[str, Child]) -> str:
    """Say where everything is, and what can be tried."""
    python = Path(sys.executable)
    command = f"{python.relative_to(Path.cwd()) if python.is_relative_to(Path.cwd()) else python} -m smartedge"
    first, second, third = (f"http://localhost:{port}" for port in ports.nodes)
    pids = {name: child.process.pid for name, child in started.items()}
    to_try = {
        f"curl {second}/": "any node serves",
        f"{command} cluster --url {first}": "who is there",
        f"{command} drain server2 --url {third}": "all nodes send it nothing more; enable takes it back",
        f"curl -d '{configuration(ports, SERVERS[:1])}' {second}/api/reload": "one reload, on all of them",
        f"kill -9 {pids['node2']}": f"node2 ends, the others go on; it is started again after {AGAIN_S:.0f} s",
        f"kill -9 {pids['etcd']}": "the nodes serve on with what they have, and a reload is answered 503, until etcd is back",
    }
    lines = [f"  {line}\n      {what}" for line, what in to_try.items()]
    return "\n".join(
        ["", f"three nodes are one edge: {first}  {second}  {third}   (Ctrl-C stops all)", f"their files: {home}", "", *lines, ""]
    )


def configuration(ports: Ports, servers: Sequence[str]) -> str:
    """Make a configuration with these servers."""
    urls = dict(zip(SERVERS, ports.servers, strict=True))
    return json.dumps({"backends": [{"id": name, "url": f"http://localhost:{urls[name]}"} for name in servers]})


def watch(children: Children, parts: dict[str, Part]) -> None:
    """Go on until the end is asked for; what ends is started again."""
    due: dict[str, float] = {}
    while not children.stops:
        soonest = min(due.values(), default=None)
        for child in children.turn(None if soonest is None else max(0.0, soonest - time.monotonic())):
            say(f"{child.name} stopped (exit {child.status}); it is started again after {AGAIN_S:.0f} s")
            due[child.name] = time.monotonic() + AGAIN_S
        for name in [name for name, at in due.items() if at <= time.monotonic()]:
            del due[name]
            say(f"{name} is started again (process {parts[name].start().process.pid})")


def main() -> int:
    """Run until the end is asked for; the exit status."""
    parser = argparse.ArgumentParser(description="Run a cluster of three nodes, to play with.", allow_abbrev=False)
    parser.add_argument("--port", type=int, default=8080, help="the first node's (8080); the others' follow; 0: free ones")
    parser.add_argument("--workers", type=int, default=2, help="of each node (2)")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="smartedge-cluster-", ignore_cleanup_errors=True) as home:
        return run_children(lambda children: run(children, Ports.from_first(chosen.port), chosen.workers, Path(home)))


if __name__ == "__main__":
    sys.exit(main())
