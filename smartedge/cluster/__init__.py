"""Several machines as one edge, on etcd: configuration, operator's will, secrets, and who is there (docs/cluster.md)."""
