"""What can go wrong in a cluster beside ends and standstills: networks, backups, versions, files, names, passwords.

One etcd and one cluster of two nodes for all tests; each leaves it whole.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from tests.certificates import Authority
from tests.live.acts import answers
from tests.live.cluster import WORKER, Cluster, Node, cluster_url
from tests.live.etcd_server import EtcdServer, etcd
from tests.live.partition import Partition
from tests.live.peers import Script
from tests.live.processes import Answer, wait_until

pytestmark = pytest.mark.timeout(200)


class Place:
    """Two nodes of one worker each; the second one's way to etcd can be cut."""

    def __init__(self, store: EtcdServer, way: Partition, cluster: Cluster, document: dict[str, Any]) -> None:
        self.store, self.way, self.cluster, self.document = store, way, cluster, document
        self.near, self.far = cluster.nodes
        self._number = 0

    def another(self, **more: Any) -> dict[str, Any]:
        """A configuration that differs from all before in the answer to /which."""
        self._number += 1
        respond = {"path": "/which", "respond": {"text": str(self._number)}}
        return {**self.document, "routes": [respond, *self.document["routes"]], **more}

    def which(self, node: Node) -> str:
        """Which configuration a node goes by."""
        return node.get("/which").text

    def reload(self, node: Node) -> str:
        """Give the cluster another configuration, and return how /which is answered now."""
        answer = node.reload(self.another())
        assert answer.status == 200, answer.text
        return str(self._number)

    def wait_whole(self) -> None:
        """Both nodes see each other and have one configuration."""
        self.cluster.wait_whole()
        assert len({self.which(node) for node in self.cluster.nodes}) == 1


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    directory = tmp_path_factory.mktemp("attacks")
    with Script(answers()) as backend, etcd(directory) as store, Partition(store.port) as way:
        document = {"services": {"web": {"backends": [backend.url]}}, "routes": [{"to": "web"}], "health": {"timeout_s": 5}}
        near = Node("near", cluster_url([store], "attacks"), directory / "near", workers=1)
        far = Node("far", f"etcd://127.0.0.1:{way.port}/attacks", directory / "far", workers=1)
        cluster = Cluster([near, far])
        try:
            cluster.start(document)
            yield Place(store, way, cluster, document)
            for node in cluster.nodes:
                assert "Traceback" not in node.output, node.output
        finally:
            for node in cluster.nodes:
                node.end()


@pytest.fixture(autouse=True)
def whole(place: Place) -> Iterator[None]:
    """After each test the cluster is as it was."""
    yield
    place.way.heal()
    place.wait_whole()


def test_a_node_that_is_cut_off_from_etcd_refuses_a_reload_and_serves_on(place: Place) -> None:
    before = place.reload(place.near)
    place.way.cut()
    refused = place.far.reload(place.another())
    assert refused.status == 503, refused.text
    assert place.which(place.far) == before
    place.cluster.wait(lambda: place.far.view()["state"] == "stale", "the node to notice")
    place.cluster.wait(lambda: [card["node"] for card in place.near.view()["nodes"]] == ["near"], "its lease to end")
    after = place.reload(place.near)
    assert place.which(place.far) == before
    place.way.heal()
    place.wait_whole()
    assert place.which(place.far) == after


def test_of_two_reloads_at_once_one_wins_and_the_other_is_told_the_difference(place: Place) -> None:
    for _ in range(5):
        etag = place.near.get("/api/status").header("etag")
        documents = [place.another(), place.another()]
        found: list[Answer] = []

        def send(node: Node, document: dict[str, Any], found: list[Answer] = found, etag: str | None = etag) -> None:
            found.append(node.reload(document, etag))

        both = zip(place.cluster.nodes, documents, strict=True)
        threads = [threading.Thread(target=send, args=one) for one in both]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        won, lost = sorted(found, key=lambda answer: answer.status)
        assert (won.status, lost.status) == (200, 412), [answer.text for answer in found]
        assert any("/which" in line or "text" in line for line in lost.json()["diff"]), lost.text
        place.wait_whole()


def test_what_one_node_cannot_build_is_refused_there_and_named_by_the_writer(place: Place) -> None:
    """A file that only the writer has."""
    authority = Authority()
    (place.near.directory / "backend-ca.pem").write_bytes(authority.pem)
    before = place.reload(place.near)
    new = {"url": "https://localhost:1", "state": "disabled", "tls": {"ca_file": "backend-ca.pem"}}
    needs = place.another(services={**place.document["services"], "new": {"backends": [new]}})
    all_or_none = ask_all(place.near, needs)
    assert all_or_none.status == 409, all_or_none.text
    assert all_or_none.json()["nodes"]["refused"][0]["node"] == "far"
    assert "backend-ca.pem" in all_or_none.json()["nodes"]["refused"][0]["reason"]
    assert [place.which(node) for node in place.cluster.nodes] == [before, before]

    answer = place.near.reload(needs)
    assert answer.status == 202, answer.text
    assert answer.json()["nodes"]["applied"] == 1
    assert answer.json()["nodes"]["live"] == 2
    assert "backend-ca.pem" in json.dumps(answer.json()["nodes"])
    assert place.which(place.near) != before
    assert place.which(place.far) == before
    card = next(card for card in place.near.view()["nodes"] if card["node"] == "far")
    assert "backend-ca.pem" in json.dumps(card["refused"])

    after = place.reload(place.far)
    assert [place.which(node) for node in place.cluster.nodes] == [after, after]


def ask_all(node: Node, document: dict[str, Any]) -> Answer:
    """Reload if all nodes can."""
    return node.reload({**document, "require_all": True})


def test_a_text_of_a_later_version_is_refused_by_those_that_do_not_know_it(place: Place) -> None:
    """A node of that version has written it; etcdctl stands for it."""
    before = place.reload(place.near)
    stored = json.loads(place.store.ctl("get", "/attacks/config", "--print-value-only"))
    later = {**stored, "generation": stored["generation"] + 1, "text": json.dumps({**place.another(), "not_known_yet": 1})}
    place.store.ctl("put", "/attacks/config", json.dumps(later))

    def refused() -> bool:
        cards = place.near.view()["nodes"]
        return all(card["refused"] and "not_known_yet" in json.dumps(card["refused"]) for card in cards) and len(cards) == 2

    place.cluster.wait(refused, "both nodes to say that they refuse it")
    assert [place.which(node) for node in place.cluster.nodes] == [before, before]
    place.reload(place.far)


def test_rubbish_in_the_key_is_named_and_never_overwritten(place: Place) -> None:
    before = place.reload(place.near)
    stored = place.store.ctl("get", "/attacks/config", "--print-value-only").strip()
    place.store.ctl("put", "/attacks/config", "rubbish")
    answer = place.near.reload(place.another())
    assert answer.status == 409, answer.text
    assert "/attacks/config" in answer.text
    assert place.store.ctl("get", "/attacks/config", "--print-value-only").strip() == "rubbish"
    assert [place.which(node) for node in place.cluster.nodes] == [before, before]
    place.store.ctl("put", "/attacks/config", stored)


def test_what_etcd_has_lost_with_a_backup_is_put_back(place: Place, tmp_path: Path) -> None:
    """Nothing that was answered with 200 is lost, also if etcd is an older one than the nodes."""
    place.reload(place.near)
    place.store.ctl("snapshot", "save", str(tmp_path / "backup"))
    after = place.reload(place.near)
    generation = place.near.status()["generation"]
    place.store.restore(tmp_path / "backup")
    place.wait_whole()
    assert [place.which(node) for node in place.cluster.nodes] == [after, after]
    place.cluster.wait(lambda: place.near.status()["generation"] >= generation, "the generation to be the same or higher")
    place.cluster.wait(
        lambda: json.loads(place.store.ctl("get", "/attacks/config", "--print-value-only"))["generation"] >= generation,
        "etcd to have it again",
    )
    place.reload(place.far)


def test_each_node_finds_backends_by_itself_and_reloads_count_on(place: Place) -> None:
    """What is found is no generation of the cluster's: a node that finds another set is not on another one."""
    discover = {"etcd": {"prefix": "/found/", "endpoints": [place.store.url]}}
    services = {**place.document["services"], "found": {"discover": discover}}
    answer = place.near.reload(place.another(services=services))
    assert answer.status == 200, answer.text
    generation = answer.json()["generation"]
    (backend,) = place.document["services"]["web"]["backends"]
    for name in ("a", "b", "c"):
        place.store.ctl(
            "put", f"/found/{name}", backend.replace("127.0.0.1", "localhost" if name == "a" else f"127.0.0.{ord(name)}")
        )
        wanted = ord(name) - ord("a") + 1
        place.cluster.wait(
            lambda: [len(node.status()["services"]["found"]["backends"]) for node in place.cluster.nodes] == [wanted] * 2,  # noqa: B023
            "both nodes to find it",
        )
    assert set(place.cluster.generations()) == {generation}
    answer = place.far.reload(place.another())
    assert (answer.status, answer.json()["generation"]) == (200, generation + 1)
    assert answer.json()["nodes"] == {"applied": 2, "live": 2}


@pytest.mark.parametrize("damage", ["garbage", "a folder"])
def test_a_copy_that_cannot_be_used_is_said_and_the_nodes_own_file_used(place: Place, damage: str) -> None:
    """At a start without etcd. A folder in its place also stands for a disk that takes nothing: reloads go on."""
    place.reload(place.near)
    copy = place.far.directory / ".backends.json.cluster.json"
    assert copy.stat().st_mode & 0o777 == 0o600
    place.far.kill()
    copy.unlink()
    if damage == "garbage":
        copy.write_bytes(b'{"half": ')
    else:
        copy.mkdir()
    place.way.cut()
    place.far.start()
    assert str(copy) in place.far.output
    assert place.far.view()["state"] == "stale"
    assert place.far.get("/").text == "hello\n"
    place.way.heal()
    place.cluster.wait_whole()
    assert "the cluster's configuration is used (generation" in place.far.output.rpartition("stale:")[2]
    after = place.reload(place.near)
    assert place.which(place.far) == after
    if damage == "a folder":
        assert copy.is_dir()
        copy.rmdir()
        place.reload(place.near)
    wait_until(lambda: after in copy.read_text() or copy.stat().st_size > 100, 10, "the copy to be written anew")


def test_the_second_node_of_a_name_waits_and_says_so(place: Place, tmp_path: Path) -> None:
    impostor = Node("near", cluster_url([place.store], "attacks"), tmp_path, workers=1)
    impostor.file.write_text(json.dumps(place.document))
    try:
        impostor.start()
        wait_until(lambda: "near" in json.dumps(impostor.view().get("problem")), 20, "it to say that its name is taken")
        cards = {card["node"]: card["address"] for card in place.far.view()["nodes"]}
        assert str(place.near.port) in cards["near"]
        assert impostor.get("/").text == "hello\n"
    finally:
        impostor.end()


def test_a_wrong_password_is_said_without_the_password(tmp_path: Path) -> None:
    with Script(answers()) as backend, etcd(tmp_path) as store:
        for command in ("user add root:right", "user grant-role root root", "auth enable"):
            store.ctl(*command.split())
        url = f"etcd://root@127.0.0.1:{store.port}/prod"
        node = Node("one", url, tmp_path, workers=1, env={"SMARTEDGE_ETCD_PASSWORD": "a-wrong-one"})
        node.file.write_text(json.dumps({"backends": [backend.url]}))
        try:
            node.start(ready=False)
            assert node.process is not None
            assert node.process.wait(60) == 2
            assert "authentication failed" in node.output
            assert "a-wrong-one" not in node.output
        finally:
            node.end()


def test_a_cluster_by_the_files_key_with_tls_a_client_certificate_and_a_user(tmp_path: Path) -> None:
    """Under gunicorn with two workers, the password in a variable; etcd gives the account nothing but this cluster's keys."""
    authority = Authority()
    usages = x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.SERVER_AUTH, x509.oid.ExtendedKeyUsageOID.CLIENT_AUTH])
    node = Node("one", "", tmp_path / "node", WORKER, env={"SMARTEDGE_ETCD_USER": "edge", "SMARTEDGE_ETCD_PASSWORD": "s3cret"})
    node.directory.mkdir()
    (node.directory / "ca.pem").write_bytes(authority.pem)
    own = authority.sign(tmp_path / "etcd.pem", "127.0.0.1", extensions=[usages])
    ours = authority.sign(node.directory / "client.pem", subject=[(NameOID.ORGANIZATION_NAME, "edge")], extensions=[usages])
    ca_file = str(node.directory / "ca.pem")
    store = EtcdServer(tmp_path, scheme="https")
    secure = ("--cacert", ca_file, "--cert", ours, "--key", ours)
    try:
        store.start("--cert-file", own, "--key-file", own, "--client-cert-auth", "--trusted-ca-file", ca_file)
        for command in (
            "user add root:root",
            "user grant-role root root",
            "role add edges",
            "role grant-permission edges --prefix=true readwrite /secure/",
            "user add edge:s3cret",
            "user grant-role edge edges",
            "auth enable",
        ):
            store.ctl(*secure, *command.split())
        with Script(answers()) as backend:
            files = {"ca_file": "ca.pem", "cert_file": "client.pem"}
            document = {"backends": [backend.url], "cluster": {"endpoints": [store.url], "prefix": "/secure", **files}}
            node.file.write_text(json.dumps(document))
            node.start()
            Cluster([node]).wait_whole()
            answer = node.reload({**document, "drain_s": 31})
            assert (answer.status, answer.json()["generation"]) == (200, 2), answer.text
            assert (answer.json()["nodes"], answer.json()["workers"]) == ({"applied": 1, "live": 1}, {"applied": 2, "live": 2})
            kept = store.ctl(*secure, "--user", "root:root", "get", "/secure/config", "--print-value-only")
            assert json.loads(json.loads(kept)["text"])["drain_s"] == 31
            said = "".join(node.get(path).text for path in ("/api/status", "/smartedge/cluster", "/metrics"))
            assert "s3cret" not in said + node.output + kept
    finally:
        node.end()
        store.kill()
