"""From the key `cluster` to a client."""

from __future__ import annotations

from smartedge.cluster.connect import connect
from smartedge.cluster.keys import Keys, unquoted
from smartedge.config.cluster import ClusterConfig


def test_endpoints_come_from_the_file_and_the_password_from_a_variable() -> None:
    config = ClusterConfig(endpoints=("http://a:2379", "http://b:2379"), prefix="/prod")
    client = connect(config, {"SMARTEDGE_ETCD_USER": "edge", "SMARTEDGE_ETCD_PASSWORD": "hidden"})
    assert client.endpoints == ("http://a:2379", "http://b:2379")
    assert repr(client) == "<EtcdClient http://a:2379 http://b:2379>"


def test_every_key_lies_below_the_prefix_and_a_name_is_one_part_of_it() -> None:
    keys = Keys("/prod")
    found = [
        keys.config,
        keys.secrets,
        keys.secrets_fresh,
        keys.node("a/b%"),
        keys.answer("1", "é"),
        keys.proposal("1"),
        keys.will,
    ]
    assert all(key.startswith(keys.all) for key in found)
    assert keys.node("a/b%") == "/prod/nodes/a%2Fb%25"
    assert unquoted("a%2Fb%25") == "a/b%"
