"""The strategies there are, by the name that the configuration calls them."""

from __future__ import annotations

from typing import Final

from smartedge.balancer.adaptive import Adaptive
from smartedge.balancer.consistent_hash import ConsistentHash
from smartedge.balancer.least_requests import LeastRequests
from smartedge.balancer.peak_ewma import PeakEwmaStrategy
from smartedge.balancer.round_robin import RoundRobin
from smartedge.balancer.strategy import Strategy
from smartedge.balancer.two_choices import TwoChoices

__all__ = [
    "STRATEGIES",
    "Adaptive",
    "ConsistentHash",
    "LeastRequests",
    "PeakEwmaStrategy",
    "RoundRobin",
    "Strategy",
    "TwoChoices",
]

STRATEGIES: Final[dict[str, type[Strategy]]] = {
    strategy.name: strategy for strategy in (Adaptive, RoundRobin, PeakEwmaStrategy, LeastRequests, TwoChoices, ConsistentHash)
}
