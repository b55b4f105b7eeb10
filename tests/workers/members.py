"""Backends to probe, and waiting for what greenlets do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gevent

from smartedge.balancer.backend import Backend
from smartedge.balancer.health import HealthPolicy
from smartedge.balancer.learned import Learned
from smartedge.balancer.spec import BackendSpec

OFTEN = HealthPolicy(interval_s=0.02, timeout_s=5.0)


def member(url: str = "http://a", label: str = "a", **spec: Any) -> Backend:
    made = BackendSpec(**{"id": label, "url": url, "health": OFTEN} | spec)
    return Backend(made, Learned(made.health))


def until(condition: Callable[[], object], timeout: float = 5.0) -> None:
    """Let greenlets run until this is so."""
    with gevent.Timeout(timeout, AssertionError("it did not come about")):
        while not condition():
            gevent.sleep(0.002)
