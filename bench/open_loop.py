"""Latencies of an open loop: requests begin at their times, whether earlier ones were answered or not (go/poisson.go).

wrk's are those of a closed loop: a proxy that holds everything up for a moment holds up the load too, and few requests see it.
Here each request's time runs from its intended start, so that all who would have waited are counted (no coordinated omission).
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from cost import cpu_s
from figures import Figures, figures, parse
from measure import Instance, show_progress
from peers import BENCH, built

RATES = (2000, 4000, 6000)  # requests per second
WARM_UP_S = 1.0  # not counted
TIMEOUT_S = 2
CONNECTIONS = 64
"""So many the load has, as a pool in front of a proxy would; a request that waits for one of them is late by that."""


@dataclass(frozen=True, slots=True)
class OpenRow:
    """One peer at one rate: medians over the rounds. noise_ms: p99 of how late the load itself was."""

    peer: str
    ours: bool
    rate: int
    p50_ms: float
    p99_ms: float
    p999_ms: float
    worst_ms: float
    noise_ms: float
    cpu_ratio: float
    errors: int  # over all rounds
    rounds: list[Figures]


def open_loop(instances: Sequence[Instance], rounds: int, seconds: int) -> list[OpenRow]:
    """Every rate for each of them, interleaved; those for which thousands a second are too much are left out."""
    instances = [instance for instance in instances if instance.peer.quick]
    seen: dict[tuple[int, str], list[Figures]] = {(rate, one.peer.name): [] for rate in RATES for one in instances}
    for number in range(rounds):
        for rate in RATES:
            for instance in instances:
                show_progress(f"  open loop {rate}/s round {number + 1}/{rounds} {instance.peer.name}")
                seen[rate, instance.peer.name].append(_once(instance, rate, seconds, number))
    return [_row(instance, rate, seen[rate, instance.peer.name]) for rate in RATES for instance in instances]


def _once(instance: Instance, rate: int, seconds: int, seed: int) -> Figures:
    """The same starts for all that have the same seed."""
    argv = [str(built(BENCH / "go" / "poisson.go")), "-rate", str(rate), "-seconds", str(seconds + WARM_UP_S)]
    argv += ["-seed", str(seed + 1), "-connections", str(CONNECTIONS), "-timeout", f"{TIMEOUT_S}s", f"127.0.0.1:{instance.port}"]
    before = cpu_s(instance.pid)
    run = subprocess.run(
        argv, capture_output=True, text=True, check=True, timeout=seconds + TIMEOUT_S + 30, preexec_fn=_before_others
    )
    spent_s = cpu_s(instance.pid) - before
    return figures(parse(run.stdout.splitlines()), WARM_UP_S, [], spent_s / (seconds + WARM_UP_S))


def _before_others() -> None:
    """A load that is late says nothing: it comes before all others where its user may have that."""
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, -15)


def _row(instance: Instance, rate: int, rounds: list[Figures]) -> OpenRow:
    return OpenRow(
        peer=instance.peer.name,
        ours=instance.peer.ours,
        rate=rate,
        p50_ms=median(one.p50_ms for one in rounds),
        p99_ms=median(one.p99_ms for one in rounds),
        p999_ms=median(one.p999_ms for one in rounds),
        worst_ms=max(one.worst_ms for one in rounds),
        noise_ms=median(one.noise_ms for one in rounds),
        cpu_ratio=median(one.cpu_ratio for one in rounds),
        errors=sum(one.failed for one in rounds),
        rounds=rounds,
    )
