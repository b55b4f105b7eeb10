"""Shares requests out to several services by weight: each for itself, or so that a person stays on one side. Pure functions."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterable
from hashlib import blake2b
from itertools import accumulate
from math import log
from random import Random

_ALL = 1 << 64


class Split:
    """The services of a route and their weights; made at reload, asked by the `Route` for every request.

    By key it is weighted rendezvous hashing (Schindelhauer and Schomaker, 2005): a key belongs to the service with the largest
    weight / -ln(h), where h is the hash of service and key, between 0 and 1. When a weight grows, only keys that this service
    wins move, and none between two others; all workers and all edges agree, after a restart too.
    """

    __slots__ = ("_bounds", "_seeds", "only", "weights")

    def __init__(self, weights: Iterable[tuple[str, int]]) -> None:
        self.weights = tuple(weights)
        taking = [(name, weight) for name, weight in self.weights if weight > 0]
        self.only = taking[0][0] if len(taking) == 1 else None
        """The service that all requests go to, if there is just one."""
        self._bounds = list(accumulate(weight for _, weight in taking)), [name for name, _ in taking]
        self._seeds = [(name, weight, blake2b(name.encode(), digest_size=16).digest()) for name, weight in taking]

    def by_chance(self, rng: Random) -> str:
        """Pick a service for one request."""
        bounds, names = self._bounds
        return names[bisect(bounds, rng.random() * bounds[-1])]

    def by_key(self, key: bytes) -> str:
        """Pick the service of a person."""
        return max(self._seeds, key=lambda seed: seed[1] / -_log_of_hash(key, seed[2]))[0]

    def __repr__(self) -> str:
        return f"<Split {', '.join(f'{name} {weight}' for name, weight in self.weights)}>"


def _log_of_hash(key: bytes, seed: bytes) -> float:
    hashed = int.from_bytes(blake2b(key, key=seed, digest_size=8).digest(), "little")
    return log((hashed + 1) / (_ALL + 2))
