"""From the key `cluster` of a configuration to a client of its etcd."""

from __future__ import annotations

import os
from collections.abc import Mapping

from smartedge.config.cluster import ClusterConfig
from smartedge.discovery.etcd_client import EtcdClient


def connect(config: ClusterConfig, env: Mapping[str, str] = os.environ, timeout_s: float = 3.0) -> EtcdClient:
    """Make a client of the cluster's etcd; nothing is asked yet. timeout_s: for an answer of one member."""
    return EtcdClient(
        config.endpoints,
        user=config.user or env.get("SMARTEDGE_ETCD_USER") or None,
        password=env.get("SMARTEDGE_ETCD_PASSWORD") or None,
        ca_file=config.ca_file,
        cert_file=config.cert_file,
        key_file=config.key_file,
        timeout_s=timeout_s,
    )
