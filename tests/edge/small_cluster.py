"""A cluster's key in memory, for tests of what a node makes of it."""

from __future__ import annotations

from dataclasses import replace

from smartedge.cluster.errors import ClusterError
from smartedge.cluster.store import Conflict
from smartedge.cluster.stored import Stored


class SmallStore:
    """What reloads ask a Store for. stored: what the key holds. failure: raised instead of an answer. reads: how often asked."""

    def __init__(self, text: str | None = None) -> None:
        self.stored = None if text is None else Stored(1, text, "somebody", 1.0, "n", "cluster", 7)
        self.failure: ClusterError | None = None
        self.reads = 0

    def read(self) -> Stored | None:
        self.reads += 1
        if self.failure is not None:
            raise self.failure
        return self.stored

    def create_if_absent(self, text: str, by: str) -> tuple[Stored, bool]:
        if self.stored is not None:
            return self.stored, False
        self.stored = Stored(1, text, by, 1.0, "n", "cluster", 7)
        return self.stored, True

    def write(self, text: str, by: str, seen: Stored) -> Stored:
        if self.failure is not None:
            raise self.failure
        assert self.stored is not None
        if seen.mod_revision != self.stored.mod_revision:
            raise Conflict("another one was quicker", self.stored)
        return self.put(text, by)

    def put(self, text: str, by: str = "another") -> Stored:
        """Have another generation there, as by any node."""
        assert self.stored is not None
        before = self.stored
        self.stored = replace(before, generation=before.generation + 1, text=text, by=by, mod_revision=before.mod_revision + 1)
        return self.stored
