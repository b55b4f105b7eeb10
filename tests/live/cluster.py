"""Several nodes that are one edge, for live tests: started, killed, stopped and let go on, and a load over all of them.

Each node has a port, a configuration file and a state directory of its own, and keeps them when it is started again.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tests.live.edges import GEVENT, LISTENING, OWN, WORKER, request
from tests.live.etcd_server import EtcdServer
from tests.live.peers import Client, WireError
from tests.live.processes import ROOT, Answer, Running, ask, free_port, listens, wait_until
from tests.live.steady import Failure, Load, has_ended

WORKERS = 2
STANDS_STILL = ("--timeout", "120", "--keep-alive", "75")
"""gunicorn's own arbiter kills workers that were stopped for longer than `timeout`, though it was stopped, too; and `-k gevent`
closes connections that were idle for longer than `keepalive`, also those on which a request has come meanwhile."""


class Node:
    """One node. server: how it is run (edges.OWN, WORKER or GEVENT). cluster: the URL of etcd and the prefix.

    kills: from when to when its processes were killed.
    """

    def __init__(
        self,
        name: str,
        cluster: str,
        directory: Path,
        server: str = OWN,
        *,
        workers: int = WORKERS,
        env: Mapping[str, str] | None = None,
        arguments: Sequence[str] = (),
    ) -> None:
        self.name, self.server, self.directory, self.workers = name, server, directory, workers
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.file = directory / "backends.json"
        self.kills: list[tuple[float, float]] = []
        self.process: Running | None = None
        self._earlier = ""
        self._env = {
            "PYTHONPATH": str(ROOT),
            "SMARTEDGE_CONFIG": str(self.file),
            "SMARTEDGE_STATE_DIR": str(directory / "state"),
            "SMARTEDGE_CLUSTER": cluster,  # empty: the file says it
            "SMARTEDGE_NODE": name,
            **(env or {}),
        }
        bind = f"127.0.0.1:{self.port}"
        if server == OWN:
            command = [sys.executable, "-m", "smartedge", "run", "--bind", bind, "--workers", str(workers)]
        else:
            kind = "gevent" if server == GEVENT else "smartedge.worker.EdgeWorker"
            gunicorn = str(Path(sys.executable).with_name("gunicorn"))
            command = [sys.executable, gunicorn, "-k", kind, "-w", str(workers), "-b", bind, "--worker-tmp-dir", "/dev/shm"]
            command += STANDS_STILL
        self._command = [*command, *arguments, *(() if server == OWN else ("smartedge:create_app()",))]

    def start(self, *, ready: bool = True) -> None:
        """Start it (again), and wait until it serves."""
        if self.process is not None:
            self._earlier += self.process.output
            self.process.end()
        self.process = Running(self._command, self.directory, self._env)
        if ready:
            self.process.wait_for(LISTENING, 60)
            wait_until(self._answers, 60, f"{self.name} to answer")

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.process.poll() is None, f"{self.name} has ended\n{self.process}"
        return self.get("/health").status in (200, 503)

    def kill(self) -> None:
        """End all its processes at once, as a power cut does."""
        assert self.process is not None
        began = time.monotonic()
        while pids := self.process.members():
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self.process.process.wait(10)
        wait_until(lambda: not listens(self.port), 10, "the last thread to be gone: it holds the sockets")
        self.kills.append((began, time.monotonic()))

    def freeze(self) -> None:
        """Stop all its processes: they keep their connections and say nothing."""
        assert self.process is not None
        for pid in self.process.members():
            os.kill(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let them go on."""
        assert self.process is not None
        for pid in self.process.members():
            os.kill(pid, signal.SIGCONT)

    def end(self) -> None:
        """Leave nothing of it."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                self.thaw()
            self._earlier += self.process.output
            self.process.end()
            self.process = None

    @property
    def output(self) -> str:
        """All that it has printed, from its first start on."""
        return self._earlier + (self.process.output if self.process is not None else "")

    # What it says.

    def get(self, path: str, *, timeout_s: float = 20.0) -> Answer:
        """Ask it for a page, or for what it forwards."""
        return ask(self.url + path, timeout_s=timeout_s)

    def reload(self, document: Mapping[str, Any], if_match: str | None = None, *, timeout_s: float = 60.0) -> Answer:
        """Give it a configuration."""
        headers = {"If-Match": if_match} if if_match else {}
        return ask(f"{self.url}/api/reload", "POST", headers=headers, body=json.dumps(document), timeout_s=timeout_s)

    def status(self) -> dict[str, Any]:
        """Its /api/status."""
        found: dict[str, Any] = self.get("/api/status").json()
        return found

    def view(self) -> dict[str, Any]:
        """Its /smartedge/cluster."""
        answer = self.get("/smartedge/cluster")
        assert answer.status == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def __repr__(self) -> str:
        return f"{self.name} ({self.server}, port {self.port})"


class Cluster:
    """Nodes that share an etcd. They are started at once, the first one a moment before: it writes the configuration."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self.nodes = tuple(nodes)

    def __getitem__(self, index: int) -> Node:
        return self.nodes[index]

    def start(self, document: Mapping[str, Any]) -> None:
        """Start all with this configuration file, and wait until each knows all."""
        for node in self.nodes:
            node.directory.mkdir(parents=True, exist_ok=True)
            node.file.write_text(json.dumps(document))
            node.start(ready=False)
        for node in self.nodes:
            assert node.process is not None
            node.process.wait_for(LISTENING, 60)
        self.wait_whole()

    def wait_whole(self) -> None:
        """Wait until every node sees every node, with all its workers, on one generation."""
        self.wait(lambda: all(self.sees_all(node) for node in self.nodes), f"{len(self.nodes)} nodes that see each other")
        self.wait(
            lambda: len(found := set(self.generations())) == 1 and found != {0}, "one generation of the cluster's on all nodes"
        )

    def sees_all(self, node: Node) -> bool:
        """Whether a node sees every node of the cluster, with all its workers."""
        seen = {card["node"]: card["workers"] for card in node.view()["nodes"]}
        return all(seen.get(one.name) == {"applied": one.workers, "live": one.workers} for one in self.nodes)

    def generations(self) -> list[int]:
        """The generation that each worker of each node has applied."""
        found = []
        for node in self.nodes:
            workers = node.status()["workers"]
            assert len(workers) == node.workers, workers
            found += [worker["generation"] for worker in workers]
        return found

    def wait(self, condition: Callable[[], object], what: str, timeout_s: float = 25.0) -> None:
        """Wait for something; what all nodes have printed is told if it does not come."""
        try:
            wait_until(condition, timeout_s, what)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.told()}") from None

    def told(self) -> str:
        """The last of what each node says and has printed."""
        parts = []
        for node in self.nodes:
            with contextlib.suppress(Exception):
                parts.append(f"--- {node}: {json.dumps(node.view())}")
            parts.append(f"--- {node} printed:\n{node.output[-3000:]}")
        return "\n".join(parts)


def cluster_url(etcd: Iterable[EtcdServer], prefix: str) -> str:
    """Where a cluster keeps its state, as `--cluster` takes it."""
    return f"etcd://{','.join(f'127.0.0.1:{member.port}' for member in etcd)}/{prefix}"


@contextlib.contextmanager
def cluster_of(
    directory: Path, url: str, document: Mapping[str, Any], servers: Iterable[str] = (OWN, OWN, OWN), **how: Any
) -> Iterator[Cluster]:
    """Start a node for each server, and end all."""
    nodes = [Node(f"node{i}", url, directory / f"node{i}", server, **how) for i, server in enumerate(servers, 1)]
    cluster = Cluster(nodes)
    try:
        cluster.start(document)
        yield cluster
    finally:
        for node in cluster.nodes:
            node.end()


KEPT = 50
"""How many requests a client sends on a connection: then it asks its own node again, which may be back."""


@dataclass(frozen=True)
class Lost:
    """A request that failed, and the node that had it."""

    node: Node
    failure: Failure

    @property
    def explained(self) -> bool:
        """Whether that node was killed while it had the request."""
        return any(self.failure.began <= last and first <= self.failure.ended + 0.1 for first, last in self.node.kills)


class ClusterLoad(Load):
    """Clients with a node each that ask again and again; half of them keep their connections.

    A node that refuses the connection has not had the request: the next one is asked, as whatever stands in front of a cluster
    does it. All else that is no 200 is a failure, and remembered: a kept connection that breaks, too.
    """

    def __init__(self, nodes: Sequence[Node], clients: int = 4, pause_s: float = 0.03, timeout_s: float = 90.0) -> None:
        super().__init__([partial(self._run, home, number) for home in range(len(nodes)) for number in range(clients)], timeout_s)
        self._nodes, self._pause_s = nodes, pause_s
        self.by_node = {node.name: 0 for node in nodes}
        self.moved = self.closed = 0
        self.lost: list[Lost] = []

    @property
    def unexplained(self) -> list[Lost]:
        """What failed on a node that was not being killed."""
        return [one for one in self.lost if not one.explained]

    def _run(self, home: int, number: int) -> None:
        keeps = number % 2 == 0
        chance = random.Random(f"{home} {number}")
        client: Client | None = None
        used = 0
        while not self._over.wait(chance.uniform(0, 2 * self._pause_s)):
            if client is not None and has_ended(client):
                client.close()
                client = None
                with self._lock:
                    self.closed += 1
            elif client is not None and used >= KEPT:
                client.close()
                client = None
            used = 0 if client is None else used + 1
            if client is None:
                client, node = self._connect(home)
                if client is None:
                    continue
            client = self._ask(client, node, used, keeps=keeps)
        if client is not None:
            client.close()

    def _connect(self, home: int) -> tuple[Client | None, Node]:
        """Connect to a client's own node, or to the next one that takes it."""
        began = time.monotonic()
        for step in range(len(self._nodes)):
            node = self._nodes[(home + step) % len(self._nodes)]
            try:
                return Client(node.port, timeout=self._timeout_s), node
            except ConnectionRefusedError:
                with self._lock:
                    self.moved += 1
            except OSError as error:
                self._remember(node, began, error)
                break
        else:
            self._remember(self._nodes[home], began, WireError("no node takes connections"))
        return None, self._nodes[home]

    def _ask(self, client: Client, node: Node, used: int, *, keeps: bool) -> Client | None:
        """Send one request, and return the connection if it can be used again."""
        began = time.monotonic()
        try:
            client.send(request(headers=b"" if keeps else b"Connection: close\r\n"))
            answer = client.answer()
            if answer.status != 200:
                raise WireError(f"status {answer.status}: {answer.body[:300]!r}")
        except (OSError, WireError) as error:
            client.close()
            if used and not client.stream.taken and not client.stream.buffer:
                with self._lock:
                    self.closed += 1  # as the request was on its way: RFC 9112 section 9.3.1 has the client send it again
                with contextlib.suppress(OSError):
                    return self._ask(Client(node.port, timeout=self._timeout_s), node, 0, keeps=keeps)
            self._remember(node, began, error)
            return None
        with self._lock:
            self.answered += 1
            self.by_node[node.name] += 1
        if keeps and (answer.get(b"connection") or b"").lower() != b"close":
            return client
        client.close()
        return None

    def _remember(self, node: Node, began: float, error: Exception) -> None:
        with self._lock:
            self.lost.append(Lost(node, Failure(began, time.monotonic(), f"{type(error).__name__}: {error}")))


__all__ = ["GEVENT", "OWN", "WORKER", "Cluster", "ClusterLoad", "Node", "cluster_of", "cluster_url"]
