"""What happens to the backends while requests come in, and what SmartEdge's figures are held to.

Times are parts of the measured time, 0 to 1; what is set at 0 is so during the warm-up already.
"""

from __future__ import annotations

from dataclasses import dataclass, field

BACKENDS = 4
MEAN_MS, SIGMA = 8.0, 0.5  # log-normal service times: 1% take longer than 22.6 ms
BACK = 0.1  # a backend that is restarted answers again after this part of the time


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What a backend is told to do; the fields are those of go/slots.go."""

    mean_ms: float = MEAN_MS
    sigma: float = SIGMA
    fail_ratio: float = 0.0
    slow_ratio: float = 0.0
    slow_factor: float = 1.0
    hangs: bool = False


@dataclass(frozen=True, slots=True)
class Act:
    """Something that happens to backends at one time.

    signal: sent to the process, which is started again when `away` of the time is over; None leaves it running.
    """

    at: float
    backends: tuple[int, ...]
    behaviour: Behaviour = field(default_factory=Behaviour)
    signal: str | None = None
    away: float = BACK


@dataclass(frozen=True, slots=True)
class Bar:
    """What SmartEdge is to reach: p99 as a ratio to that of the same edge in `even`, the worst request, errors."""

    p99_ratio: float
    worst_ms: float | None = None
    errors: int | None = None


@dataclass(frozen=True, slots=True)
class Scenario:
    name: str
    title: str
    acts: tuple[Act, ...] = ()
    bar: Bar | None = None


ALL = tuple(range(BACKENDS))
SLOW = Behaviour(mean_ms=80)
SLOWER = Behaviour(mean_ms=250)
FAILING = Behaviour(fail_ratio=1.0)
HALF_FAILING = Behaviour(fail_ratio=0.5)
HANGING = Behaviour(hangs=True)
SOME_SLOW = Behaviour(slow_ratio=0.1, slow_factor=50)


def rolling(signal: str) -> tuple[Act, ...]:
    """One backend after the other; each is back for a while before the next one goes."""
    return tuple(Act(0.05 + 0.9 * index / BACKENDS, (index,), signal=signal) for index in ALL)


SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario("even", "all even, 8 ms"),
        Scenario("one-slow", "one always takes 80 ms", (Act(0, (0,), SLOW),), Bar(1.6)),
        Scenario("turns-slow", "one turns from 8 to 250 ms halfway", (Act(0.5, (0,), SLOWER),), Bar(1.8)),
        Scenario("fails", "one answers 500 at once, from halfway", (Act(0.5, (0,), FAILING),), Bar(1.3, errors=0)),
        Scenario("half-fails", "one answers 500 to half of the requests", (Act(0, (0,), HALF_FAILING),), Bar(1.3, errors=0)),
        Scenario(
            "hangs",
            "one accepts and never answers, from halfway",
            (Act(0.5, (0,), HANGING),),
            Bar(1.5, worst_ms=1500, errors=0),
        ),
        Scenario("rolling", "all are restarted in turn, by SIGTERM", rolling("SIGTERM"), Bar(1.8, errors=0)),
        Scenario("rolling-kill", "all are restarted in turn, by SIGKILL", rolling("SIGKILL"), Bar(1.8, errors=0)),
        Scenario("returns", "one is killed at a fifth, and back at three fifths", (Act(0.2, (0,), signal="SIGKILL", away=0.4),)),
        Scenario("some-slow", "10% of requests take 50 times as long, on all", (Act(0, ALL, SOME_SLOW),)),
    )
}
