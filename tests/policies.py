"""Policies as the configuration has them by default, but for what a test says: below config/ nobody has a default."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from smartedge.balancer.breaker import BreakerPolicy
from smartedge.balancer.health import HealthPolicy
from smartedge.balancer.outliers import OutlierPolicy
from smartedge.balancer.retry import RetryPolicy
from smartedge.balancer.spec import BackendSpec
from smartedge.config.model import parse
from smartedge.edge.policies import backend_limits
from smartedge.proxy.adapter import Limits

USUAL = parse('{"backends": ["http://a"]}')
USUAL_SPEC = USUAL.specs()[0]


def retry_policy(**changes: Any) -> RetryPolicy:
    """When a request is tried again."""
    return replace(USUAL.retry_policy, **changes)


def breaker_policy(**changes: Any) -> BreakerPolicy:
    """When a backend is ejected."""
    return replace(USUAL_SPEC.breaker, **changes)


def health_policy(**changes: Any) -> HealthPolicy:
    """How a backend is probed."""
    return replace(USUAL_SPEC.health, **changes)


def backend_spec(**changes: Any) -> BackendSpec:
    """What an operator has written of a backend."""
    return replace(USUAL_SPEC, **changes)


def outlier_policy(**changes: Any) -> OutlierPolicy:
    """What makes an outlier."""
    return replace(USUAL.outlier_policy, **changes)


def limits(**changes: Any) -> Limits:
    """What the connections to a backend may take."""
    return replace(backend_limits(USUAL), **changes)
