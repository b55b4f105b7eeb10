"""Picking many times: what the tests of all strategies share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from random import Random

from smartedge.balancer.backend import Backend
from smartedge.balancer.cells import IN_FLIGHT
from smartedge.balancer.strategies.menu import Strategy


def picks(strategy: Strategy, candidates: Sequence[Backend], count: int, now: float = 1000.0) -> list[Backend]:
    """The picks for `count` requests, each with a key of its own."""
    rng = Random(11)
    return [strategy.pick(candidates, now, rng, b"key %d" % number) for number in range(count)]


def shares(strategy: Strategy, candidates: Sequence[Backend], count: int) -> Counter[str]:
    """How many of them each backend got, by its id."""
    return Counter(one.id for one in picks(strategy, candidates, count))


def hold(one: Backend, leases: int) -> None:
    """Give a backend so many open leases."""
    one.learned.cells[IN_FLIGHT] = leases
