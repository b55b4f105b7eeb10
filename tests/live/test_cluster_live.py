"""Two nodes and a real etcd: one configuration, one will of the operator, and what is left without etcd.

What happens under load, and when several things fail at once, is in test_cluster_chaos.py.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.live.acts import answers
from tests.live.cluster import Cluster, Node, cluster_url
from tests.live.edges import OWN
from tests.live.etcd_server import EtcdServer, etcd
from tests.live.peers import Script
from tests.live.processes import ROOT, Answer, ask

pytestmark = pytest.mark.timeout(180)


@dataclass
class Site:
    """Two nodes, their etcd, and the configuration that they are given again and again."""

    server: EtcdServer
    cluster: Cluster
    document: dict[str, Any]

    @property
    def nodes(self) -> tuple[Node, Node]:
        return self.cluster[0], self.cluster[1]

    def reload(self, node: Node, **keys: Any) -> Answer:
        return node.reload(self.document | keys)

    def reset(self) -> None:
        """Have both go by the first configuration again."""
        self.cluster.wait_whole()
        answer = self.reload(self.nodes[0])
        assert answer.status == 200, answer.text
        for node in self.nodes:
            for _ in range(2):
                assert ask(f"{node.url}/smartedge/enable?all=true", "POST").status == 200

    def eventually(self, node: Node, path: str, expected: Any) -> None:
        """Wait until a value in a node's status is this. path: keys, with dots between them."""

        def is_so() -> bool:
            found: Any = node.status()
            for step in path.split("."):
                found = found[int(step) if step.isdigit() else step]
            return bool(found == expected)

        self.cluster.wait(is_so, f"{path} of {node.name} to be {expected!r}")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("cluster")
    with Script(answers()) as first, Script(answers()) as second, etcd(folder) as server:
        backends = [{"id": "b1", "url": first.url}, {"id": "b2", "url": second.url}]
        document = {"backends": backends, "strategy": "round_robin", "sticky": {"cookie": "edge"}}
        url = cluster_url([server], "live")
        nodes = [Node("one", url, folder / "one", OWN, workers=1), Node("two", url, folder / "two", OWN, workers=2)]
        cluster = Cluster(nodes)
        try:
            for node in nodes:
                node.directory.mkdir()
                node.file.write_text(json.dumps(document | ({} if node is nodes[0] else {"strategy": "random"})))
                node.start()
                cluster.wait(lambda node=node: node.view()["generation"] == 1, "the first generation")  # type: ignore[misc]
            cluster.wait_whole()
            yield Site(server, cluster, document)
            assert all("Traceback" not in node.output for node in nodes), cluster.told()
        finally:
            for node in nodes:
                node.end()


def test_the_first_node_writes_its_file_and_the_key_wins_over_that_of_the_next_which_says_so(site: Site) -> None:
    one, two = site.nodes
    assert json.loads(site.server.ctl("get", "--print-value-only", "/live/config"))["text"] == one.file.read_text()
    assert [node.status()["strategy"] for node in site.nodes] == ["round_robin", "round_robin"]
    assert "the cluster has no configuration yet: it gets that of" in one.output
    assert f"the cluster's configuration is used (generation 1), not {two.file}" in two.output


def test_a_reload_on_any_node_is_in_effect_on_all_when_it_is_answered(site: Site) -> None:
    site.reset()
    one, two = site.nodes
    answer = site.reload(two, panic="fail")
    said = answer.json()
    assert (answer.status, said["nodes"], said["workers"]) == (200, {"applied": 2, "live": 2}, {"applied": 3, "live": 3})
    assert said["message"].endswith("2 of 2 nodes have it")
    assert set(site.cluster.generations()) == {said["generation"]}
    etags = {node.get("/api/status").header("ETag") for node in site.nodes}
    assert etags == {answer.header("ETag")}, "flags differ from node to node, the configuration does not"

    changed = one.reload(site.document, answer.header("ETag"))
    assert (changed.status, changed.json()["generation"]) == (200, said["generation"] + 1)
    assert two.reload(site.document | {"panic": "fail"}, answer.header("ETag")).status == 412
    assert json.loads(site.server.ctl("get", "--print-value-only", "/live/config"))["by"] == "one"

    same = two.reload(site.document)
    assert (same.status, same.json()["changed"], same.json()["generation"]) == (200, False, said["generation"] + 1)


def test_a_node_that_follows_tells_of_all_its_workers(site: Site) -> None:
    """It said `applied by 1/1 workers` of however many there were."""
    site.reset()
    one, two = site.nodes
    generation = site.reload(one, drain_s=77).json()["generation"]

    def told() -> list[Any]:
        events = two.get("/smartedge/events?limit=1000").json()["events"]
        return [each for each in events if each["kind"] == "reloaded" and each["generation"] == generation]

    site.cluster.wait(lambda: bool(told()), "what the second node tells of it")
    assert [(each["by"], each["workers"]) for each in told()] == [("the cluster's node one", {"applied": 2, "live": 2})]


def test_of_reloads_at_once_on_both_nodes_each_that_is_refused_is_told_what_came_first(site: Site) -> None:
    """Whoever goes by a generation that another one has replaced meanwhile changes nothing."""
    site.reset()
    before = site.nodes[0].status()["generation"]
    with ThreadPoolExecutor(2) as both:
        for turn in range(6):
            asked = [both.submit(site.reload, node, drain_s=100 + 10 * turn + at) for at, node in enumerate(site.nodes)]
            answered = [one.result() for one in asked]
            assert {one.status for one in answered} <= {200, 202, 412}
            before += sum(one.status < 300 for one in answered)
            for refused in (one.json() for one in answered if one.status == 412):
                assert {"generation", "by", "diff"} <= refused.keys(), refused
                assert any("drain_s" in line for line in refused["diff"])
            site.cluster.wait_whole()
            assert set(site.cluster.generations()) == {before}, "every one that was answered counts once"


def test_a_node_that_cannot_use_a_configuration_says_so_and_serves_on_and_all_may_be_required(site: Site) -> None:
    site.reset()
    one, two = site.nodes
    (one.directory / "page.html").write_text("sorry")
    routes = [{"path": "/", "to": "default", "error_pages": {"503": "page.html"}}]
    generation = one.status()["generation"]

    for refused in (
        ask(f"{one.url}/api/reload?require_all=true", "POST", body=json.dumps(site.document | {"routes": routes})),
        one.reload(site.document | {"routes": routes, "require_all": True}),
    ):
        assert (refused.status, refused.json()["title"]) == (409, "Refused by nodes")
        assert [entry["node"] for entry in refused.json()["nodes"]["refused"]] == ["two"]
        assert "page.html" in refused.json()["nodes"]["refused"][0]["reason"]
    assert set(site.cluster.generations()) == {generation}

    said = one.reload(site.document | {"routes": routes})
    assert said.status == 202
    nodes = said.json()["nodes"]
    assert (nodes["applied"], nodes["live"], [entry["node"] for entry in nodes["refused"]]) == (1, 2, ["two"])
    assert [node.status()["generation"] for node in site.nodes] == [generation + 1, generation]
    assert two.get("/").status == 200
    assert "cannot be used here, the one before stays" in two.output
    card = next(card for card in one.view()["nodes"] if card["node"] == "two")
    assert card["refused"]["generation"] == generation + 1

    answer = two.reload(site.document)  # also the node that refuses knows what it writes over
    assert (answer.status, answer.json()["nodes"]) == (200, {"applied": 2, "live": 2})
    required = one.reload(site.document | {"panic": "fail", "require_all": True})
    assert (required.status, required.json()["nodes"]) == (200, {"applied": 2, "live": 2})
    assert "require_all" not in site.server.ctl("get", "--print-value-only", "/live/config")


def test_what_the_operator_wants_holds_on_all_nodes_and_on_those_that_come_later(site: Site) -> None:
    site.reset()
    one, two = site.nodes
    assert ask(f"{two.url}/smartedge/backends/b2/drain", "POST").status == 200
    assert ask(f"{two.url}/smartedge/backends/b1/weight", "POST", body='{"weight": 7}').status == 200
    site.eventually(one, "backends.1.state", "draining")
    site.eventually(one, "backends.0.weight", 7)
    assert ask(f"{one.url}/smartedge/drain?all=true", "POST").status == 200
    site.cluster.wait(lambda: two.get("/health").status == 503, "the other node to drain, too")
    two.end()
    two.start()
    site.cluster.wait(lambda: two.get("/health").status == 503, "the node that came to drain")
    site.eventually(two, "backends.1.state", "draining")
    site.eventually(two, "backends.0.weight", 7)

    assert ask(f"{two.url}/smartedge/enable", "POST").status == 200
    site.cluster.wait(lambda: two.get("/health").status == 200, "one node that is enabled by itself")
    assert one.get("/health").status == 503
    # The configuration's word is the latest where it changes the same backend.
    changed = [{**site.document["backends"][0], "weight": 3}, site.document["backends"][1]]
    assert site.reload(one, backends=changed).status == 200
    site.eventually(two, "backends.0.weight", 3)
    assert ask(f"{one.url}/smartedge/backends/b2/enable", "POST").status == 200
    site.eventually(two, "backends.1.state", "enabled")
    assert ask(f"{one.url}/smartedge/enable?all=true", "POST").status == 200
    assert site.server.ctl("get", "--prefix", "--keys-only", "/live/will/").strip() == ""


def test_route_weights_and_what_is_persisted_go_to_the_cluster(site: Site) -> None:
    site.reset()
    one, two = site.nodes
    backends = site.document["backends"]
    services = {"web": {"backends": backends[:1]}, "beta": {"backends": backends[1:]}}
    assert one.reload({"services": services, "routes": [{"id": "all", "to": {"web": 95, "beta": 5}}]}).status == 200
    answer = ask(f"{two.url}/smartedge/routes/all/weights", "POST", body='{"web": 60, "beta": 40}')
    assert (answer.status, answer.json()["nodes"]) == (200, {"applied": 2, "live": 2})
    assert ask(f"{one.url}/smartedge/services/web/backends/b1/drain?persist=true", "POST").status == 200
    text = json.loads(json.loads(site.server.ctl("get", "--print-value-only", "/live/config"))["text"])
    assert text["routes"][0]["to"] == {"web": 60, "beta": 40}
    assert text["services"]["web"]["backends"][0]["state"] == "draining"
    site.eventually(two, "services.web.backends.0.state", "draining")
    assert one.reload(site.document).status == 200


def test_nodes_share_caps_and_sticky_sessions(site: Site) -> None:
    site.reset()
    one, two = site.nodes
    assert site.reload(one, limits={"in_flight_per_backend": 9, "shared_by_nodes": True}).status == 200
    capped = 'smartedge_backend_max_in_flight{backend="b1",service="default"} 4.0'
    site.cluster.wait(lambda: all(capped in node.get("/metrics").text for node in site.nodes), "half of the cap on each node")
    for _ in range(4):
        given = one.get("/")
        cookie = str(given.header("Set-Cookie")).partition(";")[0]
        kept = ask(f"{two.url}/", headers={"Cookie": cookie})
        assert kept.status == 200
        assert kept.header("Set-Cookie") is None, "the other node knows the cookie, and whose it is"


def test_without_a_body_the_file_counts_if_it_has_changed(site: Site) -> None:
    site.reset()
    one, two = site.nodes
    assert site.reload(one, panic="fail").status == 200
    assert two.process is not None
    os.kill(two.process.pid, signal.SIGHUP)
    quiet = ask(f"{two.url}/api/reload", "POST")
    assert (quiet.status, quiet.json()["changed"]) == (200, False), "its file is as old as it was"
    assert one.status()["generation"] == two.status()["generation"]
    two.file.write_text(json.dumps(site.document | {"drain_s": 77}))
    os.kill(two.process.pid, signal.SIGHUP)
    site.cluster.wait(lambda: "drain_s" in _text(site), "the changed file to be written to the key")
    site.cluster.wait_whole()
    assert json.loads(_text(site)) == site.document | {"drain_s": 77}


def test_the_commands_show_the_nodes_and_drain_them(site: Site) -> None:
    site.reset()
    one, two = site.nodes

    def run(*arguments: str) -> str:
        command = [sys.executable, "-m", "smartedge", *arguments, "--url", one.url]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True).stdout

    table = run("cluster").splitlines()
    assert table[0] == f"cluster /live, generation {one.status()['generation']}, 2 nodes, live"
    assert [line.split()[0] for line in table[1:]] == ["node", "one", "two"]
    assert table[3].split()[4:6] == ["2/2", "2/2"]
    assert "all nodes are draining" in run("drain", "--all")
    site.cluster.wait(lambda: two.get("/health").status == 503, "the other node to drain")
    run("enable", "--all")
    site.cluster.wait(lambda: two.get("/health").status == 200, "the other node to be enabled")


def test_without_etcd_nodes_serve_on_and_start_and_nothing_is_changed_or_lost(site: Site) -> None:
    site.reset()
    one, two = site.nodes
    answered = site.reload(two, panic="fail").json()["generation"]
    assert ask(f"{one.url}/smartedge/backends/b2/drain", "POST").status == 200
    site.eventually(two, "backends.1.state", "draining")
    site.server.stop()
    site.cluster.wait(lambda: {node.view()["state"] for node in site.nodes} == {"stale"}, "both to notice")
    for node in site.nodes:
        refused = site.reload(node, panic="all")
        assert (refused.status, refused.json()["title"]) == (503, "Cluster not available")
        assert ask(f"{node.url}/smartedge/backends/b1/drain", "POST").status == 503
        assert node.get("/").status == 200
    two.end()
    two.start()
    assert f"the copy of the cluster's configuration is used (generation {answered})" in two.output
    status = two.status()
    assert (status["generation"], status["cluster"]["state"], status["backends"][0]["state"]) == (answered, "stale", "enabled")
    site.eventually(two, "backends.1.state", "draining")
    assert "smartedge_cluster_live 0.0" in two.get("/metrics").text
    assert two.get("/").status == 200

    site.server.start()
    site.cluster.wait_whole()
    assert set(site.cluster.generations()) == {answered}
    site.cluster.wait(lambda: {node.view()["state"] for node in site.nodes} == {"live"}, "both to follow it again")
    site.cluster.wait(lambda: "smartedge_cluster_live 1.0" in two.get("/metrics").text, "the metric")
    assert site.reload(one).json()["nodes"] == {"applied": 2, "live": 2}


def test_without_etcd_and_without_a_copy_a_node_uses_its_file_until_etcd_is_back(site: Site, tmp_path: Path) -> None:
    site.reset()
    url = cluster_url([site.server], "live")
    late = Node("late", url, tmp_path / "late", OWN, workers=1)
    late.directory.mkdir()
    late.file.write_text(json.dumps(site.document | {"strategy": "random"}))
    site.server.stop()
    try:
        late.start()
        assert "there is no copy of its configuration" in late.output
        assert (late.status()["generation"], late.status()["strategy"]) == (0, "random")
        assert late.get("/").status == 200
        site.server.start()
        site.eventually(late, "strategy", "round_robin")
        assert late.status()["generation"] == site.nodes[0].status()["generation"]
        site.cluster.wait(lambda: len(site.nodes[0].view()["nodes"]) == 3, "the late one to be a node")
    finally:
        late.end()
    (tmp_path / "none").mkdir()
    nowhere = [sys.executable, "-m", "smartedge", "run", "--cluster", "etcd://127.0.0.1:9/live", "--bind", "127.0.0.1:0"]
    refused = subprocess.run(
        nowhere, cwd=tmp_path / "none", capture_output=True, text=True, timeout=60, env={"PYTHONPATH": str(ROOT)}, check=False
    )
    assert refused.returncode == 2
    assert "and there is neither a copy of it nor a file" in refused.stderr
    site.cluster.wait(lambda: len(site.nodes[0].view()["nodes"]) == 2, "the late one to be gone")


def _text(site: Site) -> str:
    return str(json.loads(site.server.ctl("get", "--print-value-only", "/live/config"))["text"])
