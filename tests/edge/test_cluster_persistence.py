"""A configuration in the key of a cluster: nobody overwrites what he has not seen, and an old file undoes nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from smartedge.cluster.errors import Unavailable
from smartedge.config.model import Config, parse
from smartedge.edge.cluster_news import ClusterNews, News
from smartedge.edge.cluster_persistence import MOST_LINES, ClusterPersistence, ClusterTrouble, Overtaken, WrittenAlone, difference
from smartedge.edge.origin import ConfigOrigin
from smartedge.edge.reload_errors import ConfigNotReadable
from smartedge.workers.state_dir import StateError
from tests.edge.small_cluster import SmallStore

ONE = '{"backends": ["http://localhost:8081"]}'
TWO = '{"backends": ["http://localhost:8081"], "drain_s": 5}'
THREE = '{"backends": ["http://localhost:8081"], "drain_s": 9}'


class Node:
    """A worker of a node that goes by generation 1 of the cluster. file: what its own file says, None for no file."""

    def __init__(self, folder: Path, file: str | None = ONE, key: str | None = ONE, state: Path | None = None) -> None:
        self.path = folder / "backends.json"
        if file is not None:
            self.path.write_text(file)
        self.store = SmallStore(key)
        self.news = ClusterNews(None)
        self.news.newest = News("live", 0.0, cluster_id="cluster", generation=1)
        self.in_use = parse(ONE)
        self.written: list[tuple[Config, Config]] = []
        self.persistence = ClusterPersistence(
            self.store,  # type: ignore[arg-type]
            lambda: "us",
            self.news,
            ConfigOrigin(self.path, {}),
            lambda: self.in_use,
            lambda old, new: self.written.append((old, new)),
            state,
        )
        self.persistence.see_file()

    def reload(self, body: str | None = None, number: int = 1) -> int:
        sent = None if body is None else body.encode()
        text = self.persistence.text_of(sent)
        with self.persistence.persisted(sent, text, number, is_other=True) as kept:
            return kept


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def held(node: Node) -> tuple[int, str, str]:
    assert node.store.stored is not None
    return node.store.stored.generation, node.store.stored.text, node.store.stored.by


def test_a_body_becomes_the_next_generation_and_the_file_stays_as_it_is(node: Node) -> None:
    assert node.reload(TWO) == 2
    assert held(node) == (2, TWO, "us")
    assert node.path.read_text() == ONE
    assert node.written == [(parse(ONE), parse(TWO))]


def test_what_is_there_already_is_not_written_again(node: Node) -> None:
    assert node.reload(ONE) == 1
    assert held(node) == (1, ONE, "somebody")
    assert node.written == []


def test_who_has_not_seen_what_is_there_changes_nothing_and_is_told_the_difference(node: Node) -> None:
    node.store.put(TWO)
    with pytest.raises(Overtaken) as caught:
        node.reload(THREE)
    assert held(node) == (2, TWO, "another")
    assert caught.value.status == 412
    assert (caught.value.members["generation"], caught.value.members["by"]) == (2, "another")
    lines = caught.value.members["diff"]
    assert '- "drain_s": 60.0,' in lines
    assert '+ "drain_s": 5.0,' in lines
    assert not any("rate_limit" in line for line in lines)


def test_who_is_overtaken_between_reading_and_writing_is_told_so_too(node: Node) -> None:
    read = node.store.read

    def read_and_lose() -> Any:
        found = read()
        node.store.put(TWO)
        return found

    node.store.read = read_and_lose  # type: ignore[method-assign]
    with pytest.raises(Overtaken):
        node.reload(THREE)
    assert held(node) == (2, TWO, "another")
    node.store.read = read_and_lose  # type: ignore[method-assign]
    assert node.reload(TWO, number=2) == 2, "somebody else has sent the very same"


def test_a_node_that_has_refused_what_is_there_may_replace_it(node: Node) -> None:
    node.store.put(TWO)
    node.news.newest = News("live", 0.0, cluster_id="cluster", generation=2, refused="there is no such file")
    assert node.reload(THREE) == 3


def test_a_cluster_that_was_begun_anew_is_another_one(node: Node) -> None:
    node.news.newest = News("live", 0.0, cluster_id="before", generation=1)
    with pytest.raises(Overtaken):
        node.reload(TWO)


def test_an_empty_cluster_gets_its_first_configuration(tmp_path: Path) -> None:
    node = Node(tmp_path, key=None)
    assert node.reload(TWO, number=0) == 1
    assert held(node) == (1, TWO, "us")


def test_without_etcd_nothing_changes_and_the_answer_is_503(node: Node) -> None:
    node.store.failure = Unavailable("etcd is away")
    with pytest.raises(ClusterTrouble, match="etcd is away") as caught:
        node.reload(TWO)
    assert (caught.value.status, caught.value.title) == (503, "Cluster not available")
    node.store.failure = None
    assert held(node) == (1, ONE, "somebody")


def test_what_is_written_and_then_cannot_be_shared_with_the_workers_is_not_said_to_have_changed_nothing(node: Node) -> None:
    with pytest.raises(WrittenAlone, match=r"generation 2 is the cluster's, but .* no room"):  # noqa: SIM117
        with node.persistence.persisted(TWO.encode(), TWO.encode(), 1, is_other=True):
            raise StateError("no room")
    assert held(node) == (2, TWO, "us")


def test_a_file_that_has_not_changed_undoes_nothing_and_one_that_has_is_written(node: Node) -> None:
    node.store.put(TWO)
    assert node.reload() == 2, "the file is as it was when the node began: the cluster's word counts"
    assert held(node)[1] == TWO
    node.path.write_text(THREE)
    assert node.reload(number=2) == 3
    assert held(node) == (3, THREE, "us")
    node.store.put(ONE)
    assert node.reload(number=4) == 4, "it has been read since"


def test_a_file_that_has_not_changed_undoes_nothing_however_often_it_is_read(node: Node) -> None:
    """The second SIGHUP did, and the first under gunicorn, where each new worker reads the file."""
    node.store.put(TWO)
    for _ in range(3):
        assert node.reload(number=2) == 2
    assert held(node) == (2, TWO, "another")


def test_a_file_that_was_sent_to_all_nodes_as_a_body_is_not_news_later(node: Node) -> None:
    """As `smartedge reload --require-all` does, which asks all nodes before it writes."""
    node.path.write_text(TWO)
    assert node.reload(node.persistence.text_of(None).decode()) == 2
    node.store.put(THREE)
    assert node.reload(number=3) == 3
    assert held(node) == (3, THREE, "another")


def test_all_workers_of_a_node_know_when_its_file_was_last_read(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    one = Node(tmp_path, state=state)
    one.path.write_text(TWO)
    late = Node(tmp_path, file=None, state=state)  # a worker that comes after the change
    late.store = one.store
    late.persistence._store = one.store  # type: ignore[assignment]
    assert late.reload() == 2
    assert one.reload(number=2) == 2


def test_a_node_without_a_file_has_the_clusters_text_and_needs_no_other(tmp_path: Path) -> None:
    assert Node(tmp_path, file=None).reload() == 1
    with pytest.raises(ConfigNotReadable):
        Node(tmp_path, file=None, key=None).reload()


def test_the_etag_is_that_of_the_clusters_generation_whatever_a_node_has_in_use(node: Node, tmp_path: Path) -> None:
    etags = [node.persistence.etag_of(config, number) for config in (parse(ONE), parse(TWO)) for number in (1, 2)]
    assert etags[:2] == etags[2:]
    assert len(set(etags)) == 2


def test_a_long_difference_is_cut() -> None:
    many = parse(json.dumps({"backends": [f"http://b{number}" for number in range(300)]}))
    lines = difference(parse(ONE), many)
    assert (len(lines), lines[-1]) == (MOST_LINES + 1, "and more")
