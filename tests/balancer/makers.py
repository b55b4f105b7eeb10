"""Backends and pools for the tests of the balancer."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

from smartedge.balancer.backend import Backend
from smartedge.balancer.candidates import Panic
from smartedge.balancer.cells import STATE
from smartedge.balancer.learned import Learned
from smartedge.balancer.pool import Pool
from smartedge.balancer.spec import STATES, BackendSpec, State
from smartedge.balancer.strategies.menu import RoundRobin, Strategy


def backend(name: str, weight: int = 1, *, probed: bool | None = True, **spec: Any) -> Backend:
    """A backend that its probes call healthy (or not, or that was never probed: None)."""
    made = BackendSpec(id=name, url=f"http://{name}:80", weight=weight, **spec)
    learned = Learned(made.health, made.breaker)
    if probed is not None:
        learned.health.probed(probed)
    return Backend(made, learned)


def backends(*weights: int) -> tuple[Backend, ...]:
    """Healthy backends a, b, c, ... with these weights; past z they are called n26, n27, ..."""
    return tuple(backend(chr(97 + i) if i < 26 else f"n{i}", weight) for i, weight in enumerate(weights))


def pool(members: Sequence[Backend], strategy: Strategy | None = None, panic: Panic = "all") -> Pool:
    """A pool with a seeded source of chance."""
    return Pool(members, strategy or RoundRobin(), Random(7), panic)


def names(members: Sequence[Backend]) -> str:
    """The backends' names in one string."""
    return " ".join(member.id for member in members)


def set_state(one: Backend, wanted: State) -> None:
    """What the operator wants of a backend, said without a pool."""
    one.learned.shared[STATE] = STATES.index(wanted)
