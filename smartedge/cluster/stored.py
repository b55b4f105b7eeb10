"""The configuration of a cluster as its key in etcd holds it: one JSON object, which an operator reads with etcdctl."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

from smartedge.cluster.errors import Foreign


@dataclass(frozen=True, slots=True)
class Stored:
    """The configuration of a cluster; made by a Store, followed by all nodes.

    generation: counts up by one with each write. text: what the file says. by: the node that wrote it. at: Unix time there,
    to be shown and never compared. nonce: made by whoever wrote, who so knows the own write again. id: of the cluster, made
    with its first configuration; generations are compared within one id only. mod_revision: etcd's of the key, 0 where it did
    not come from there.
    """

    generation: int
    text: str
    by: str
    at: float
    nonce: str
    id: str
    mod_revision: int = 0

    def is_same(self, other: Stored | None) -> bool:
        """Whether both say the same, in one write."""
        return other is not None and (self.id, self.generation, self.nonce, self.text) == (
            other.id,
            other.generation,
            other.nonce,
            other.text,
        )

    def is_lost_in(self, other: Stored | None) -> bool:
        """Whether etcd has lost this one: it holds nothing, or an older configuration of the same cluster."""
        return other is None or (self.id == other.id and self.generation > other.generation)

    def to_value(self) -> bytes:
        """Give the value of the key."""
        return json.dumps(
            {
                "generation": self.generation,
                "by": self.by,
                "at": self.at,
                "id": self.id,
                "nonce": self.nonce,
                "text": self.text,
            },
            ensure_ascii=False,
        ).encode("utf-8", "surrogatepass")


def stored_of(value: bytes, key: str, mod_revision: int = 0) -> Stored:
    """Read the value of the key; raises Foreign where it is none of ours."""
    found: Any
    try:
        found = json.loads(value)
        generation, at = found["generation"], float(found["at"])
        texts = [found[name] for name in ("text", "by", "nonce", "id")]
        if type(generation) is not int or not 1 <= generation < 2**53 or not math.isfinite(at):
            raise ValueError
        if not all(type(text) is str for text in texts):
            raise ValueError
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        raise Foreign(
            f"the key {key} in etcd holds no configuration of SmartEdge's: another program wrote it, or somebody by hand;"
            " delete it, or give the cluster another prefix"
        ) from None
    text, by, nonce, cluster_id = texts
    return Stored(generation, text, by, at, nonce, cluster_id, mod_revision)
