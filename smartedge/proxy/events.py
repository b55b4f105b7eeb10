"""What happens to backends on a request's way, and who is told."""

from __future__ import annotations

from typing import Protocol

from smartedge.balancer.backend import Backend


class Events(Protocol):
    """Who is told of what happens to backends on a request's way; the Edge, which this folder may not import."""

    def breaker_changed(self, backend: Backend, change: str) -> None:
        """Tell that a backend's breaker ejected or readmitted it."""

    def unreachable(self, backend: Backend) -> None:
        """Tell that a backend could not be connected to, or is waited for, so that it is probed soon."""
