"""The strategies there are, by the name that the configuration calls them."""

from __future__ import annotations

from typing import Final

from smartedge.balancer.strategies.adaptive import Adaptive
from smartedge.balancer.strategies.base import Strategy
from smartedge.balancer.strategies.consistent_hash import ConsistentHash
from smartedge.balancer.strategies.least_requests import LeastRequests
from smartedge.balancer.strategies.peak_ewma import PeakEwmaStrategy
from smartedge.balancer.strategies.round_robin import RoundRobin
from smartedge.balancer.strategies.two_choices import TwoChoices

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
