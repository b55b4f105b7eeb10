"""Policies as the configuration has them by default, but for what a test says: below config/ nobody has a default."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from smartedge.balancer.outliers import OutlierPolicy
from smartedge.balancer.retry import RetryPolicy
from smartedge.config.model import parse
from smartedge.edge.policies import backend_limits
from smartedge.proxy.transport import Limits

USUAL = parse('{"backends": ["http://a"]}')


def retry_policy(**changes: Any) -> RetryPolicy:
    """When a request is tried again."""
    return replace(USUAL.retry_policy, **changes)


def outlier_policy(**changes: Any) -> OutlierPolicy:
    """What makes an outlier."""
    return replace(USUAL.outlier_policy, **changes)


def limits(**changes: Any) -> Limits:
    """What the connections to a backend may take."""
    return replace(backend_limits(USUAL), **changes)
