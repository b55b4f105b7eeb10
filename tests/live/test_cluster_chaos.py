"""Three nodes are one edge, whatever ends or stands still: nodes, etcd, its leader; under load, and reloaded all the time.

A request fails only where a killed process held it. What a reload's answer has promised is in effect on all nodes at the end.

SMARTEDGE_CHAOS=full has etcd away for 20 s and a node stopped for 35 s, which is longer than gunicorn waits for its workers;
without it these times are shorter, a node's still longer than its lease, and there are fewer reloads.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.live.acts import answers
from tests.live.cluster import GEVENT, OWN, WORKER, Cluster, ClusterLoad, Node, cluster_of, cluster_url
from tests.live.etcd_server import EtcdServer, etcd_of_three
from tests.live.peers import Script
from tests.live.processes import Answer, ask, wait_until

FULL = os.environ.get("SMARTEDGE_CHAOS") == "full"
AWAY_S = 20.0 if FULL else 8.0
STOPPED_S = 35.0 if FULL else 12.0
RELOADS = 100 if FULL else 40

pytestmark = pytest.mark.timeout(500)


class Editor:
    """Two people who each add a route to the configuration, again and again, to whichever node they find.

    Each reads what is in use (its ETag says which of all texts ever sent it is), adds a route, and asks for the result with
    If-Match. So an addition that was answered with 200 or 202 must be in every later configuration. Whether one is that had no
    answer, or one that says it does not know, is found out by a request for its route.
    """

    def __init__(self, nodes: Cluster, document: dict[str, Any], reloads: int, pause_s: float) -> None:
        self._nodes, self._reloads, self._pause_s = nodes.nodes, reloads, pause_s
        self._lock = threading.Lock()
        self._texts = {"": document}
        self._next = 0
        self.statuses: Counter[int] = Counter()
        self.promised: dict[str, int] = {}
        self.refused: dict[str, str] = {}
        self.doubtful: dict[str, dict[str, Any]] = {}
        self.problems: list[str] = []
        self.over = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(2)]

    def __enter__(self) -> Editor:
        etag = self._nodes[0].get("/api/status").header("etag")
        assert etag
        self._texts[etag] = self._texts.pop("")
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        for thread in self._threads:
            thread.join(120)

    @property
    def done(self) -> bool:
        """Whether all that was to be added has been."""
        return len(self.promised) >= self._reloads

    def _run(self, number: int) -> None:
        chance = random.Random(number)
        try:
            while not self.done and not self.over.wait(chance.uniform(0, 2 * self._pause_s)):
                self._add(chance)
        except Exception as error:  # a thread's exception would be nobody's
            self.problems.append(f"{type(error).__name__}: {error}")

    def _add(self, chance: random.Random) -> None:
        """Add one route."""
        with self._lock:
            name = f"/added-{self._next}"
            self._next += 1
        node = chance.choice(self._nodes)
        with contextlib.suppress(OSError):  # the node was killed
            etag = node.get("/api/status", timeout_s=60).header("etag") or ""
            if (before := self._text_of(etag, node)) is None:
                return  # of a reload whose answer is still on its way
            document = {**before, "routes": [{"path": name, "respond": {"text": name}}, *before["routes"]]}
            with self._lock:
                self.doubtful[name] = document
            self._note(name, node, node.reload(document, etag))

    def _text_of(self, etag: str, node: Node) -> dict[str, Any] | None:
        """What a node has in use; None if nobody knows yet."""
        with self._lock:
            doubtful = {} if etag in self._texts else dict(self.doubtful)
        for name, document in doubtful.items():
            if node.get(name, timeout_s=60).text == name:
                with self._lock:
                    self._texts[etag] = document
                    self.doubtful.pop(name, None)
        with self._lock:
            return self._texts.get(etag)

    def _note(self, name: str, node: Node, answer: Answer) -> None:
        with self._lock:
            self.statuses[answer.status] += 1
            if answer.status == 503 and "or it is not" in answer.text:
                return
            document = self.doubtful.pop(name, None)
            if answer.status in (200, 202):
                self.promised[name] = answer.json()["generation"]
                if document is not None:
                    self._texts[answer.header("etag") or ""] = document
            elif answer.status in (412, 503):
                self.refused[name] = answer.text
            else:
                self.problems.append(f"{node}: {answer.status} {answer.text}")


@contextlib.contextmanager
def chaos(directory: Path) -> Iterator[tuple[list[EtcdServer], Cluster, Editor, ClusterLoad]]:
    """Three nodes, each run in another way, on three members of etcd, with load and editors."""
    with Script(answers()) as first, Script(answers()) as second, etcd_of_three(directory) as etcd:
        backends = [{"id": "first", "url": first.url}, {"id": "second", "url": second.url}]
        health = {"interval_s": 0.5, "timeout_s": 5}
        document = {"services": {"web": {"backends": backends}}, "routes": [{"to": "web"}], "health": health}
        with cluster_of(directory, cluster_url(etcd, "chaos"), document, (OWN, WORKER, GEVENT)) as cluster:
            editor = Editor(cluster, document, RELOADS, 0.08)
            with ClusterLoad(cluster.nodes, clients=3, pause_s=0.1) as load, editor:
                yield etcd, cluster, editor, load


def test_nothing_is_lost_whatever_ends_or_stands_still(tmp_path: Path) -> None:
    with chaos(tmp_path) as (etcd, cluster, editor, load):
        try:
            for node in cluster.nodes:
                node.kill()
                node.start()
                cluster.wait_whole()
            read_files_again(cluster)
            kill_leader(etcd, editor)
            stop_node(cluster, cluster[0], load)
            take_etcd_away(etcd, cluster, load)
            cluster.wait(lambda: editor.done or editor.problems, f"{RELOADS} reloads that are answered", 60)
            editor.__exit__()
            load.stop()
            judge(cluster, editor, load)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{editor.statuses} {load.by_node}\n{cluster.told()}") from None
        for node in cluster.nodes:
            assert "Traceback" not in node.output, node.output


def read_files_again(cluster: Cluster) -> None:
    """Have nodes read their files, which are older than what the cluster has: that undoes nothing, however often they do."""
    first, second = cluster[0], cluster[1]
    for _ in range(2):
        answer = ask(f"{first.url}/api/reload", "POST", timeout_s=60)
        assert answer.status in (200, 202, 412), answer.text  # 412: another reload came in between
    before = pids(second)
    assert second.process is not None
    os.kill(second.process.pid, signal.SIGHUP)
    cluster.wait(lambda: len(pids(second) - before) == second.workers, "other workers, each of which reads the file")
    cluster.wait_whole()


def pids(node: Node) -> set[int]:
    """The workers of a node."""
    return {worker["pid"] for worker in node.status()["workers"]}


def kill_leader(etcd: list[EtcdServer], editor: Editor) -> None:
    """Kill the leader of etcd; the two others elect another one, and reloads go on."""
    leader = next(member for member in etcd if member.is_leader())
    leader.kill()
    before = len(editor.promised)
    wait_until(lambda: len(editor.promised) > before + 1 or editor.done, 25, "a reload while a member of etcd is gone")
    leader.start()


def stop_node(cluster: Cluster, node: Node, load: ClusterLoad) -> None:
    """Have a node stand still for longer than its lease: the others go on without it, and it catches up."""
    others = [one for one in cluster.nodes if one is not node]
    node.freeze()
    until = time.monotonic() + STOPPED_S
    cluster.wait(
        lambda: all(node.name not in {card["node"] for card in one.view()["nodes"]} for one in others),
        f"{node.name} to be missed by the others",
    )
    answered = load.answered
    while time.monotonic() < until:
        time.sleep(0.1)
    assert load.answered > answered
    node.thaw()
    cluster.wait_whole()


def take_etcd_away(etcd: list[EtcdServer], cluster: Cluster, load: ClusterLoad) -> None:
    """Have all of etcd gone for a while; a node that starts meanwhile serves what it had, and says that it is stale."""
    for member in etcd:
        member.kill()
    until = time.monotonic() + AWAY_S
    cluster.wait(lambda: all(node.view()["state"] == "stale" for node in cluster.nodes), "nodes to notice that etcd is gone")
    answer = cluster[1].reload({"backends": ["http://127.0.0.1:1"]})
    assert answer.status == 503, answer.text
    last = cluster[2]
    last.kill()
    last.start()
    assert last.view()["state"] == "stale"
    assert last.get("/").status == 200
    while time.monotonic() < until:
        time.sleep(0.1)
    for member in etcd:
        member.start(wait=False)
    cluster.wait(lambda: all(node.view()["state"] == "live" for node in cluster.nodes), "nodes to find etcd again")
    cluster.wait_whole()


def judge(cluster: Cluster, editor: Editor, load: ClusterLoad) -> None:
    """No request failed but those that a killed process held; every addition that was answered is everywhere; nothing else is."""
    assert load.unexplained == []
    assert load.answered > 1000
    assert len(load.lost) < 200
    assert editor.problems == []
    assert len(set(editor.promised.values())) == len(editor.promised), "two reloads had one number"
    cluster.wait_whole()
    for node in cluster.nodes:
        for name in editor.promised:
            assert node.get(name).text == name, (node, name)
        for name in editor.refused:
            assert node.get(name).text == "hello\n", (node, name, editor.refused[name])
    assert max(cluster.generations()) >= max(editor.promised.values())
