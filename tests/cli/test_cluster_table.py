"""The nodes of a cluster as a table."""

from __future__ import annotations

from typing import Any

from smartedge.cli.cluster_table import cluster_text


def node(name: str, **more: Any) -> dict[str, Any]:
    return {
        "node": name,
        "address": "10.0.0.5:8080",
        "version": "0.1.0",
        "generation": 18,
        "workers": {"applied": 2, "live": 2},
        "backends": {"up": 3, "total": 4},
        "requests": 1234567,
        "since": 1000,
        "draining": False,
        "refused": None,
        **more,
    }


def cluster(*nodes: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"prefix": "/prod", "generation": 18, "state": "live", "age_s": 0.0, "problem": None, "nodes": list(nodes), **more}


def test_each_node_is_a_line() -> None:
    text = cluster_text(cluster(node("one"), node("second", draining=True, since=1000 - 90_000)), now=1075.0)
    assert text.splitlines() == [
        "cluster /prod, generation 18, 2 nodes, live",
        "node    address        version  generation  workers  up   requests   since",
        "one     10.0.0.5:8080  0.1.0    18          2/2      3/4  1,234,567  1 min 15 s",
        "second  10.0.0.5:8080  0.1.0    18          2/2      3/4  1,234,567  1 d 1 h     draining",
    ]


def test_a_node_that_cannot_use_the_configuration_and_an_etcd_that_is_away_are_said() -> None:
    refusal = {"generation": 18, "reason": "names \x1b[31ma file"}
    answer = cluster(node("one", generation=17, refused=refusal), state="stale", age_s=12.3, problem="etcd is away")
    lines = cluster_text(answer, now=1075.0).splitlines()
    assert lines[0] == "cluster /prod, generation 18, 1 node, stale: etcd has not been heard of for 12 s"
    assert lines[2].endswith("refuses")
    assert lines[3] == "one cannot use generation 18: names \\u001b[31ma file"
    assert lines[4] == "etcd is away"
    never = cluster_text(cluster(state="stale", age_s=None))
    assert never.startswith("cluster /prod, generation 18, 0 nodes, stale: etcd has not been heard of yet")


def test_what_is_missing_or_of_another_version_is_no_error() -> None:
    assert cluster_text({"nodes": [{}, "x", {"workers": 3, "requests": "many", "since": "long"}]}).splitlines()[2].startswith("?")
