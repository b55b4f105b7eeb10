"""From the keys that say where an etcd is to a client."""

from __future__ import annotations

import pytest

from smartedge.config.cluster import ClusterConfig
from smartedge.config.discover import EtcdConfig
from smartedge.discovery.etcd_connect import connect

MEMBERS = ("http://a:2379", "http://b:2379")


@pytest.mark.parametrize(
    "said", [ClusterConfig(endpoints=MEMBERS, prefix="/prod"), EtcdConfig(endpoints=MEMBERS, prefix="/services/")]
)
def test_endpoints_come_from_the_file_and_the_password_from_a_variable(said: ClusterConfig | EtcdConfig) -> None:
    client = connect(said, {"SMARTEDGE_ETCD_USER": "edge", "SMARTEDGE_ETCD_PASSWORD": "hidden"})
    assert client.endpoints == MEMBERS
    assert repr(client) == "<EtcdClient http://a:2379 http://b:2379>"
