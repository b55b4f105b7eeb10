"""How a route's requests are treated otherwise than the rest of their service's."""

from __future__ import annotations

from dataclasses import dataclass, replace

from smartedge.balancer.retry import RetryPolicy
from smartedge.proxy.service import ServicePolicy


@dataclass(frozen=True, slots=True)
class RoutePolicy:
    """What differs from a service's policy; made at reload, used by the `Router`. None: nothing does."""

    first_byte_s: float | None = None
    tunnel_idle_s: float | None = None
    attempts: int | None = None
    deadline_s: float | None = None
    statuses: frozenset[int] | None = None
    body_bytes: int | None = None

    def over(self, policy: ServicePolicy) -> ServicePolicy:
        """Give the policy of a service's requests that take this route."""
        return replace(
            policy,
            retry=self._retry(policy.retry),
            tunnel_idle_s=policy.tunnel_idle_s if self.tunnel_idle_s is None else self.tunnel_idle_s,
        )

    def _retry(self, retry: RetryPolicy) -> RetryPolicy:
        # Whoever may wait longer for one answer has time for that, unless it is said otherwise.
        deadline_s = self.deadline_s or max(retry.deadline_s, self.first_byte_s or 0.0)
        return replace(
            retry,
            attempts=retry.attempts if self.attempts is None else self.attempts,
            deadline_s=deadline_s,
            statuses=retry.statuses if self.statuses is None else self.statuses,
            body_bytes=retry.body_bytes if self.body_bytes is None else self.body_bytes,
        )
