"""What the workers of a node are told of their cluster, and what a reload waits for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from smartedge.cluster.applied import wait_applied
from smartedge.cluster.errors import Unavailable
from smartedge.config.model import parse
from smartedge.edge.cluster_news import ClusterNews, News
from smartedge.edge.cluster_reload import NodesSeen, reloaded_by_all
from smartedge.edge.reload_report import Applied


def card(node: str, generation: int, applied: int = 2, live: int = 2, **more: Any) -> dict[str, Any]:
    return {"node": node, "generation": generation, "workers": {"applied": applied, "live": live}, **more}


def news(*cards: dict[str, Any], **more: Any) -> News:
    return News("live", 1.0, cards={one["node"]: one for one in cards}, **more)


def test_all_workers_know_what_the_leader_has_written(tmp_path: Path) -> None:
    leader, other = ClusterNews(tmp_path), ClusterNews(tmp_path)
    assert not other.look()
    leader.publish(news(card("one", 3), card("two", 3), generation=3, cluster_id="c", sticky=("0a0b", "0c")))
    assert other.look()
    assert other.newest == leader.newest
    assert (other.newest.nodes, other.newest.sticky_secrets) == (2, (b"\x0a\x0b", b"\x0c"))
    assert not other.look()
    late = ClusterNews(tmp_path)
    assert late.look()
    assert late.newest == leader.newest


def test_a_process_alone_tells_itself_and_what_cannot_be_read_is_passed_over(tmp_path: Path) -> None:
    alone = ClusterNews(None)
    assert (alone.newest.nodes, alone.newest.state) == (1, "stale")
    alone.publish(news(card("one", 1), card("two", 1)))
    assert (alone.newest.nodes, alone.look()) == (2, False)
    (tmp_path / "cluster.json").write_text('{"of": "another version"}')
    assert not ClusterNews(tmp_path).look()


def test_nobody_writes_while_the_cluster_is_not_followed() -> None:
    one = ClusterNews(None)
    with pytest.raises(Unavailable, match="has not been reached yet"):
        one.require_live(0.0)
    one.newest = News("stale", problem="etcd is away")
    with pytest.raises(Unavailable, match="etcd is away"):
        one.require_live(0.0)
    one.newest = News("live")
    one.require_live(0.0)


def reloaded() -> Applied:
    return Applied(parse('{"backends": ["http://localhost:8081"]}'), 2, True, "e", (), (), (), (), (), 0.1, persisted=True)


def test_a_reload_waits_for_its_own_node_as_it_stands_also_before_anybody_else_knows_of_it() -> None:
    """A leader that has just begun knew of no node: a reload was in effect on all of none."""
    known = ClusterNews(None)
    late = wait_applied(NodesSeen(known, lambda: card("us", 2, applied=1)), 2, 0.0)
    assert (late.live, late.applied, late.late) == (1, 0, ("us",))
    done = wait_applied(NodesSeen(known, lambda: card("us", 2)), 2, 0.0)
    assert (done.live, done.applied) == (1, 1)
    known.newest = news(card("us", 1), card("other", 1))
    assert wait_applied(NodesSeen(known, lambda: card("us", 2)), 2, 0.0).late == ("other",)


def test_the_answer_is_200_when_all_nodes_have_it_and_else_says_who_has_not() -> None:
    known = ClusterNews(None)

    def answered(*others: dict[str, Any]) -> Any:
        known.newest = news(*others)
        return reloaded_by_all(reloaded(), wait_applied(NodesSeen(known, lambda: card("us", 2)), 2, 0.0))

    whole = answered(card("other", 2))
    assert (whole.status, whole.document["nodes"]) == (200, {"applied": 2, "live": 2})
    assert whole.document["workers"] == {"applied": 4, "live": 4}
    assert whole.document["message"].endswith("2 of 2 nodes have it")

    refusal = {"generation": 2, "reason": "there is no such file"}
    partly = answered(card("behind", 1), card("unable", 1, refused=refusal))
    assert partly.status == 202
    assert partly.document["nodes"] == {
        "applied": 1,
        "live": 3,
        "late": ["behind"],
        "refused": [{"node": "unable", "reason": "there is no such file"}],
    }
    assert partly.document["workers"] == {"applied": 2, "live": 6}
    assert partly.document["message"].endswith("1 of 3 nodes have it; late: behind; unable cannot use it: there is no such file")
