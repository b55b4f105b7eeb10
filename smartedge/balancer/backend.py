"""A backend at run time: what was written and what was learned of it, and whether a lease may be taken."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, Literal

from smartedge.balancer.cells import BREAKER, HEALTH, IN_SERVICE_SINCE, SILENT_SINCE, STATE, WEIGHT
from smartedge.balancer.learned import Learned
from smartedge.balancer.spec import STATES, BackendSpec, State

WhyNot = Literal["disabled", "draining", "zero_weight", "unhealthy", "unprobed", "breaker_open", "silent", "full"]

LEAST_SLOW_START: Final = 0.1
"""The share of its weight with which a backend starts slowly: with none it would never be measured."""


class Backend:
    """A backend of a `Pool`, which owns it; made by the registry, picked by a strategy.

    Two with the same key, before and after a reload, share what was learned. weight: the effective one, which the pool keeps
    up to date: the operator's, less while it starts slowly. labels: what the operator wrote for strategies to go by.
    rewrites: its requests get another Host or path than clients have asked for. transport: how requests get there; the balancer
    never looks at it.
    """

    __slots__ = ("id", "key", "labels", "learned", "rewrites", "spec", "transport", "url", "weight")

    def __init__(self, spec: BackendSpec, learned: Learned, transport: Any = None) -> None:
        self.spec = spec
        self.learned = learned
        self.transport = transport
        self.id = spec.id
        self.url = spec.url
        self.weight = float(spec.weight)
        self.labels: Mapping[str, str] = MappingProxyType(dict(spec.labels))
        self.key = spec.key
        self.rewrites = bool(spec.base) or not spec.preserve_host

    def __repr__(self) -> str:
        return f"<Backend {self.id} {self.url}>"

    @property
    def state(self) -> State:
        """The operator's: draining takes no new leases but for sticky sessions, disabled none at all."""
        return STATES[self.learned.shared[STATE]]

    @property
    def full_weight(self) -> int:
        """The weight that the operator wants: the last one he set, else the file's."""
        said = self.learned.shared[WEIGHT]
        return max(said, 0) if said else self.spec.weight

    def warmth(self, now: float) -> float:
        """Return how much of its weight counts, 0.1 to 1.0: a backend that comes back starts slowly (HAProxy's `slowstart`)."""
        slow_start_s = self.spec.slow_start_s
        if not slow_start_s:
            return 1.0
        return min(max((now - self.learned.shared_reals[IN_SERVICE_SINCE]) / slow_start_s, LEAST_SLOW_START), 1.0)

    def weight_at(self, now: float) -> float:
        """Return the effective weight: the operator's, less while the backend starts slowly."""
        warmth = self.warmth(now)
        return self.full_weight if warmth == 1.0 else self.full_weight * warmth

    def is_well(self) -> bool:
        """Whether nothing can speak against a lease, at one look; else `why_not` says whether something does, and what."""
        spec, shared = self.spec, self.learned.shared
        return (
            shared[HEALTH] == 1
            and not (shared[STATE] or shared[WEIGHT] or shared[BREAKER] or shared[SILENT_SINCE])
            and spec.max_in_flight is None
            and spec.weight > 0
        )

    def why_not(self, now: float) -> WhyNot | None:
        """Return the first reason why no lease may be taken, or None; asking changes nothing."""
        state = self.learned.shared[STATE]
        if state:
            return "draining" if STATES[state] == "draining" else "disabled"
        if not self.full_weight:
            return "zero_weight"
        health = self.learned.health.state
        if health != "healthy":
            return "unhealthy" if health == "unhealthy" else "unprobed"
        if not self.learned.breaker.admits(now):
            return "breaker_open"
        if self.learned.shared_reals[SILENT_SINCE]:
            return "silent"
        return "full" if self.full() else None

    def fault(self) -> str:
        """Return what is wrong with it by its latest probe, in one line for people; "" when nothing is, or nothing is known."""
        result = self.learned.last_probe
        return "" if result is None or result.ok else f"{self.spec.health.question}: {result.detail}"

    def available(self, now: float) -> bool:
        """Whether a lease may be taken now."""
        return self.why_not(now) is None

    def full(self) -> bool:
        """Whether as many leases are open, in all workers, as the operator allows."""
        cap = self.cap()
        return cap is not None and self.in_flight() >= cap

    def cap(self) -> int | None:
        """Return how many leases may be open, in all workers: the operator's number or the adaptive one; None for any."""
        limit = self.spec.max_in_flight
        return limit if limit is None or isinstance(limit, int) else self.learned.adaptive_cap.value

    def in_flight(self) -> int:
        """Return the leases open now, in all workers."""
        return self.learned.in_flight()

    def latency_s(self, now: float) -> float:
        """Return the latency to expect in seconds, 0.0 if nothing is known."""
        return self.learned.latency_s(now)
