"""Tiers at run time: who can be picked in each, what it comes to in numbers, and how the tiers look from some place."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from math import exp
from typing import Final

from smartedge.balancer.backend import Backend
from smartedge.balancer.blend import MeasuredOrder
from smartedge.balancer.locality import TierCount
from smartedge.balancer.places import Group, Tier
from smartedge.balancer.strategies.base import Strategy

ENOUGH_SEEN: Final = 16
"""So many answers of a tier are needed until its latency is believed."""


class TierRun:
    """A tier at run time, whoever sees it so: who may be picked, and the strategy that picks; owned by a `NearFirst`."""

    __slots__ = ("candidates", "count", "groups", "order", "strategy", "version", "weights")

    def __init__(self, groups: frozenset[Group], strategy: Strategy) -> None:
        self.groups = groups
        self.order = sorted(groups, key=repr)  # the same everywhere: workers pick alike
        self.strategy = strategy
        self.candidates: tuple[Backend, ...] = ()
        self.weights: list[float] = []
        self.count = TierCount(0.0, 0.0, 0, 0)
        self.version = -1


class TierView:
    """The tiers as they are seen from some place, nearest first; owned by a `NearFirst`.

    runs: in the order in which they are asked, that of the measured latencies where these count. shares: of the requests, by run.
    sole: the number of the run that has all requests, -1 if several share.
    """

    __slots__ = ("measured", "nearest", "runs", "shares", "sole", "sums", "tiers", "version")

    def __init__(self, tiers: tuple[Tier, ...], runs: list[TierRun]) -> None:
        self.nearest = tiers
        self.measured = MeasuredOrder(len(tiers))
        self.tiers = tiers
        self.runs = runs
        self.shares: list[float] = []
        self.sums: list[float] = []
        self.sole = -1
        self.version = -1

    def tier_of(self, group: Group | None) -> int:
        """Return the number of the tier that a group is in; 0 for one that nobody knows any more."""
        return next((number for number, run in enumerate(self.runs) if group in run.groups), 0)


def latency_of(run: TierRun) -> float | None:
    """Return what an answer of a tier takes, by weight, in seconds; None while too few have come."""
    known = [backend for backend in run.candidates if backend.learned.pace.known]
    if sum(backend.learned.pace.seen for backend in known) < ENOUGH_SEEN:
        return None
    weight = sum(backend.weight for backend in known)
    return sum(exp(backend.learned.pace.log_mean) * backend.weight for backend in known) / weight


def count_of(members: Sequence[Backend], available: Collection[Backend]) -> TierCount:
    """Put a tier into numbers."""
    found = [backend for backend in members if backend in available]
    return TierCount(
        float(sum(backend.full_weight for backend in members)),
        sum(backend.weight for backend in found),
        sum(backend.full_weight > 0 for backend in members),
        len(found),
    )
