"""What happens to the backends while requests come in, and what SmartEdge's figures are held to.

Times are parts of the measured time, 0 to 1; what is set at 0 is so during the warm-up already.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

BACKENDS = 4  # where a scenario says nothing else; each gets its quarter of the rate
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
    slots: int = 8


@dataclass(frozen=True, slots=True)
class Act:
    """Something that happens to backends at one time.

    signal: sent to the process, which is started again when `away` of the time is over; None leaves it running. It is like
    `behaviour` then for `cold_s`. pause_s: the process is stopped (SIGSTOP) for so many seconds, as by a collector of garbage.
    """

    at: float
    backends: tuple[int, ...]
    behaviour: Behaviour = field(default_factory=Behaviour)
    signal: str | None = None
    away: float = BACK
    cold_s: float = 0.0
    pause_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Bar:
    """What an edge of ours is to reach: p99 as a ratio to that of the same edge in `even`, the worst request, errors."""

    p99_ratio: float
    worst_ms: float | None = None
    errors: int | None = 0


@dataclass(frozen=True, slots=True)
class Scenario:
    """bars: by the edge's name. backends: how many; the rate is so that each of them gets as much as one of four."""

    name: str
    title: str
    acts: tuple[Act, ...] = ()
    bars: Mapping[str, Bar] = field(default_factory=dict)
    backends: int = BACKENDS

    @property
    def even(self) -> str:
        """The scenario that it is compared with."""
        return "even" if self.backends == BACKENDS else f"even-{self.backends}"


DEFAULTS, HEDGED = "smartedge", "smartedge-ewma"


def bars(defaults: Bar | None = None, hedged: Bar | None = None) -> dict[str, Bar]:
    return {name: bar for name, bar in ((DEFAULTS, defaults), (HEDGED, hedged)) if bar is not None}


ALL = tuple(range(BACKENDS))
SLOW = Behaviour(mean_ms=80)
SLOWER = Behaviour(mean_ms=250)
FAILING = Behaviour(fail_ratio=1.0)
HALF_FAILING = Behaviour(fail_ratio=0.5)
HANGING = Behaviour(hangs=True)
TENTH_SLOW = Behaviour(slow_ratio=0.1, slow_factor=50)
FEW_SLOW = Behaviour(slow_ratio=0.02, slow_factor=50)
FEW_SLOTS = Behaviour(slots=1)


def rolling(signal: str, count: int = BACKENDS, away: float = BACK, cold_s: float = 0.0) -> tuple[Act, ...]:
    """One backend after the other; each is back for a while before the next one goes."""
    behaviour = SLOW if cold_s else Behaviour()
    parts = [0.05 + 0.9 * index / count for index in range(count)]
    return tuple(Act(part, (index,), behaviour, signal, away, cold_s) for index, part in enumerate(parts))


def pauses(count: int = BACKENDS, each: int = 5) -> tuple[Act, ...]:
    """Every backend stops for 400 ms `each` times, one after the other."""
    total = count * each
    return tuple(Act(0.02 + 0.95 * number / total, (number % count,), pause_s=0.4) for number in range(total))


FOUR = (
    Scenario("even", "all even, 8 ms"),
    Scenario("one-slow", "one always takes 80 ms", (Act(0, (0,), SLOW),), bars(Bar(1.5), Bar(1.6))),
    Scenario("turns-slow", "one turns from 8 to 250 ms halfway", (Act(0.5, (0,), SLOWER),), bars(Bar(1.5), Bar(1.8))),
    Scenario("fails", "one answers 500 at once, from halfway", (Act(0.5, (0,), FAILING),), bars(Bar(1.3), Bar(1.3))),
    Scenario("half-fails", "one answers 500 to half of the requests", (Act(0, (0,), HALF_FAILING),), bars(Bar(1.3), Bar(1.3))),
    Scenario(
        "hangs",
        "one accepts and never answers, from halfway",
        (Act(0.5, (0,), HANGING),),
        bars(Bar(1.5, worst_ms=600), Bar(1.5, worst_ms=600)),
    ),
    Scenario("few-slots", "one has an eighth of the slots", (Act(0, (0,), FEW_SLOTS),), bars(Bar(1.5))),
    Scenario("pauses", "each stops for 400 ms now and then", pauses(), bars(Bar(6), Bar(2.1))),
    Scenario("rolling", "all are restarted in turn, by SIGTERM", rolling("SIGTERM"), bars(Bar(1.3), Bar(1.8))),
    Scenario("rolling-kill", "all are restarted in turn, by SIGKILL", rolling("SIGKILL"), bars(Bar(1.3), Bar(1.8))),
    Scenario(
        "cold",
        "all are restarted in turn, ten times as slow for 3.5 s then",
        rolling("SIGTERM", away=0.05, cold_s=3.5),
        bars(Bar(1.5)),
    ),
    Scenario("returns", "one is killed at a fifth, and back at three fifths", (Act(0.2, (0,), signal="SIGKILL", away=0.4),)),
    Scenario("few-slow", "2% of requests take 50 times as long, on all", (Act(0, ALL, FEW_SLOW),), bars(None, Bar(1.4))),
    Scenario("some-slow", "10% of requests take 50 times as long, on all", (Act(0, ALL, TENTH_SLOW),)),
)


def of_two(scenario: Scenario) -> Scenario:
    """The same with two backends."""
    acts = {"rolling": rolling("SIGTERM", 2), "pauses": pauses(2), "cold": rolling("SIGTERM", 2, 0.05, 3.5)}
    own = acts.get(scenario.name, scenario.acts)
    return replace(scenario, name=f"{scenario.name}-2", title=f"two: {scenario.title}", acts=own, backends=2)


TWO = tuple(of_two(scenario) for scenario in FOUR if scenario.name not in ("rolling-kill", "returns", "few-slow", "some-slow"))

SCENARIOS = {scenario.name: scenario for scenario in (*FOUR, *TWO)}
