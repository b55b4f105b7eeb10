"""From the keys that say where an etcd is, of a source `etcd` or of a cluster, to its client."""

from __future__ import annotations

import os
from collections.abc import Mapping

from smartedge.config.cluster import ClusterConfig
from smartedge.config.discover import EtcdConfig
from smartedge.discovery.etcd_client import EtcdClient


def connect(said: EtcdConfig | ClusterConfig, env: Mapping[str, str] = os.environ, timeout_s: float = 3.0) -> EtcdClient:
    """Make a client; nothing is asked yet. env: has the password, and the user too. timeout_s: for an answer of one member."""
    return EtcdClient(
        said.endpoints,
        user=said.user or env.get("SMARTEDGE_ETCD_USER") or None,
        password=env.get("SMARTEDGE_ETCD_PASSWORD") or None,
        ca_file=said.ca_file,
        cert_file=said.cert_file,
        key_file=said.key_file,
        timeout_s=timeout_s,
    )
