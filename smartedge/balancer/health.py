"""Health: what the probes say of a backend, as a table of transitions.

`fall` bad probes in a row take a healthy backend out, `rise` good ones bring it back (HAProxy's rule, and its
words); of a backend that was never probed the first result decides. Nothing here probes: the results come in
by `probed`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from smartedge.balancer.cells import HEALTH, HEALTH_STREAK, Row

HealthState = Literal["unknown", "healthy", "unhealthy"]
HealthChange = Literal["up", "down"]

ProbeType = Literal["http", "tcp", "grpc", "none"]

OK_STATUSES: Final = frozenset(range(200, 300))

PATH: Final = "/health"
"""What is asked for unless the operator says otherwise."""

ANSWERED: Final = frozenset(range(100, 500))
"""Whoever answers with these is there, and works: nobody has said that there is anything at the path that it was asked for."""


@dataclass(frozen=True, slots=True)
class HealthPolicy:
    """How a backend is probed, as the operator wrote it; `statuses` are the codes that mean "healthy".

    type: `tcp` makes a connection, no more; `grpc` asks as gRPC's health protocol has it; `none` asks nothing, and the backend
    counts as healthy. host: None for what clients' requests carry, as far as it is known. port: None for the one of the URL.
    body: a text that has to be in the answer.
    """

    type: ProbeType
    method: str
    path: str
    host: str | None
    headers: tuple[tuple[str, str], ...]
    port: int | None
    body: str | None
    interval_s: float
    timeout_s: float
    fall: int
    rise: int
    statuses: frozenset[int]

    @property
    def question(self) -> str:
        """What is asked, as people write it."""
        where = "" if self.port is None else f" on port {self.port}"
        if self.type == "http":
            return f"{self.method} {self.path}{where}"
        return f"{'gRPC health' if self.type == 'grpc' else 'connect'}{where}"


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """What one probe found; made by `HttpProbe`, kept in `Learned`.

    status: None without an HTTP answer. detail: one line for people.
    """

    ok: bool
    status: int | None
    detail: str
    took_s: float


@dataclass(frozen=True, slots=True)
class Transition:
    """A way out of a state: after how many probes in a row, where to, and the change to announce."""

    after: Callable[[HealthPolicy], int]
    state: HealthState
    change: HealthChange


TRANSITIONS: Final[dict[tuple[HealthState, bool], Transition]] = {
    # (state, the probe was good): a pair that is not here confirms the state and starts the count again
    ("unknown", True): Transition(lambda _: 1, "healthy", "up"),
    ("unknown", False): Transition(lambda _: 1, "unhealthy", "down"),
    ("healthy", False): Transition(lambda policy: policy.fall, "unhealthy", "down"),
    ("unhealthy", True): Transition(lambda policy: policy.rise, "healthy", "up"),
}


STATES: Final[tuple[HealthState, ...]] = ("unknown", "healthy", "unhealthy")
"""What the shared cell's numbers mean."""


class Health:
    """One backend's health; owned by its `Learned`, which tells it of every probe.

    The policy may be replaced at any time: state and count stay.

    shared: the row that holds the state; one worker probes, all of them read.
    """

    __slots__ = ("ints", "policy")

    def __init__(self, policy: HealthPolicy, shared: Row) -> None:
        self.policy = policy
        self.ints = shared[0]

    @property
    def streak(self) -> int:
        """Probes in a row that contradict the state; another worker may go on with them when the leader dies."""
        return self.ints[HEALTH_STREAK]

    @property
    def state(self) -> HealthState:
        """What the probes say; whom nobody asks is taken for healthy."""
        return STATES[self.ints[HEALTH]] if self.policy.type != "none" else "healthy"

    @property
    def changing(self) -> bool:
        """Whether the state is in doubt, so that the next probe should come sooner than the interval."""
        return self.streak > 0 or self.state == "unknown"

    @property
    def rising(self) -> bool:
        """Whether an unhealthy backend's latest probe was good, so that it will soon be healthy again."""
        return self.streak > 0 and self.state == "unhealthy"

    @property
    def doubted(self) -> bool:
        """Whether the latest probe was bad."""
        return self.state == "unhealthy" if self.streak == 0 else self.state == "healthy"

    def forget(self) -> None:
        """Be as before the first probe."""
        self.ints[HEALTH] = self.ints[HEALTH_STREAK] = 0

    def probed(self, ok: bool) -> HealthChange | None:
        """Take in a probe's result; return the change, for the caller to announce."""
        transition = TRANSITIONS.get((self.state, ok))
        if transition is None:
            self.ints[HEALTH_STREAK] = 0
            return None
        self.ints[HEALTH_STREAK] += 1
        if self.streak < transition.after(self.policy):
            return None
        self.ints[HEALTH] = STATES.index(transition.state)
        self.ints[HEALTH_STREAK] = 0
        return transition.change
