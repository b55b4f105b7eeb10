"""The row sets: which proxies run against which load, in which order, and what is kept of it.

Rounds are interleaved (go, nginx, ..., go, nginx, ...), so that whatever else the machine does falls on all
alike, and the ratio to Go is taken within each round; its median over the rounds is what the table shows.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import backends
from certificate import write_certificate
from cost import cpu_s, pss_bytes
from load import LOADS, Load, LoadFailedError, check, drive
from peers import BENCH, Peer, Place
from processes import NotStartedError, free_port, running

YARDSTICK = "go"
FEW, MANY = 2, 500  # backends
IDLE_CLIENTS = 2000
SETTLE_S = 2


@dataclass(frozen=True, slots=True)
class Instance:
    """A peer that runs: its port, and the process at the root of its tree."""

    peer: Peer
    port: int
    pid: int


@dataclass(frozen=True, slots=True)
class Round:
    cpu_us: float  # user + system, per request
    rps: float
    p50_ms: float
    p99_ms: float
    pss_mb: float
    errors: int


@dataclass(frozen=True, slots=True)
class Row:
    """One peer in one row set: medians over its rounds."""

    peer: str
    ours: bool
    cpu_us: float
    ratio: float | None  # to Go; None when Go did not run
    ratio_range: tuple[float, float] | None
    rps: float
    p50_ms: float
    p99_ms: float
    pss_mb: float
    errors: int  # over all rounds
    rounds: list[Round]
    growth: float | None = (
        None  # CPU per request against the same peer without what the set is about; median of the rounds' ratios
    )
    resting_ms_per_s: float | None = None  # CPU with no client at all: health checks and timers


@dataclass(frozen=True, slots=True)
class IdleRow:
    """One peer with nothing but idle keep-alive clients."""

    peer: str
    ours: bool
    clients: int  # connected
    still_open: int  # when measured
    empty_mb: float  # PSS after a warm-up, before they came
    full_mb: float
    kb_per_client: float
    resting_ms_per_s: float


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def show_progress(text: str) -> None:
    """Show how far it is, on a terminal alone; the next line is written over this one."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


class Bench:
    """The settings of one run, and the backends' addresses."""

    def __init__(self, peers: Sequence[Peer], directory: Path, port: int, rounds: int, seconds: int) -> None:
        self.peers = list(peers)
        self.directory = directory
        self.backend_port = port
        self.rounds = rounds
        self.seconds = seconds
        self._started = 0
        self._warm: set[int] = set()

    @contextlib.contextmanager
    def start(self, peer: Peer, count: int, *, tls: bool = False, log: bool = False) -> Iterator[Instance]:
        """Run `peer` with `count` backends until the block ends; log: it writes an access log, if it can."""
        self._started += 1
        directory = self.directory / f"{self._started}-{peer.name}"
        directory.mkdir()
        place = Place(
            free_port(),
            backends.addresses(self.backend_port, count),
            directory,
            write_certificate(directory) if tls else None,
            directory / "access.log" if log and peer.logs else None,
        )
        command = peer.command(place)
        with running(command.argv, command.env, place.port, directory / "log", secure=tls) as pid:
            yield Instance(peer, place.port, pid)

    @contextlib.contextmanager
    def start_all(self, count: int, *, tls: bool = False, log: bool = False) -> Iterator[list[Instance]]:
        """Every peer that starts; the others are named and left out. tls, log: as above, for those that can."""
        with contextlib.ExitStack() as stack:
            instances = []
            for peer in self.peers:
                if (tls and not peer.tls) or (log and not peer.logs and peer.name != YARDSTICK):
                    continue
                try:
                    instances.append(stack.enter_context(self.start(peer, count, tls=tls, log=log)))
                except (NotStartedError, subprocess.CalledProcessError) as error:
                    say(f"{peer.name} with {count} backends left out: {error}")
            yield instances

    def loaded(self, load: Load, instances: Sequence[Instance]) -> list[Row]:
        """One row set: all the rounds of `load`, interleaved."""
        instances = self._fit(load, instances)
        rounds: dict[Instance, list[Round]] = {instance: [] for instance in instances}
        for number in range(self.rounds):
            for instance in instances:
                show_progress(f"  {load.name} round {number + 1}/{self.rounds} {instance.peer.name}")
                rounds[instance].append(self._round(load, instance))
        yardstick = next((rounds[i] for i in instances if i.peer.name == YARDSTICK), None)
        return [_row(instance.peer, rounds[instance], yardstick) for instance in instances]

    def many_backends(self, few: Sequence[Instance]) -> list[Row]:
        """Small requests with 500 backends, each round next to one with two."""
        load = LOADS["small"]
        with self.start_all(MANY) as started:
            resting = {one.peer.name: spent for one, spent in _resting_ms_per_s(started).items()}
            return self._beside(load, few, started, f"{MANY} backends", resting)

    def access_log(self, without: Sequence[Instance]) -> list[Row]:
        """Small requests with an access log, each round next to one without. Go has none, and is the yardstick all the same."""
        with self.start_all(FEW, log=True) as started:
            return self._beside(LOADS["small"], without, started, "access log", {})

    def _beside(
        self, load: Load, plain: Sequence[Instance], other: Sequence[Instance], what: str, resting: dict[str, float]
    ) -> list[Row]:
        """The rounds of `other`, each next to one of the same peer as it is in `plain`."""
        others = {instance.peer.name: instance for instance in self._fit(load, other)}
        plain = [instance for instance in self._fit(load, plain) if instance.peer.name in others]
        before: dict[str, list[Round]] = {instance.peer.name: [] for instance in plain}
        after: dict[str, list[Round]] = {instance.peer.name: [] for instance in plain}
        for number in range(self.rounds):
            for instance in plain:
                name = instance.peer.name
                show_progress(f"  {what} round {number + 1}/{self.rounds} {name}")
                before[name].append(self._round(load, instance))
                after[name].append(self._round(load, others[name]))
        rows = []
        for instance in plain:
            name = instance.peer.name
            growth = median(b.cpu_us / a.cpu_us for a, b in zip(before[name], after[name], strict=True))
            rows.append(_row(instance.peer, after[name], after.get(YARDSTICK), growth, resting.get(name)))
        return rows

    def idle(self) -> list[IdleRow]:
        """Each peer alone and fresh, then 2,000 clients that ask once and stay."""
        rows = []
        for peer in self.peers:
            show_progress(f"  idle clients {peer.name}")
            try:
                with self.start(peer, FEW) as instance:
                    rows.append(_idle_row(instance))
            except (NotStartedError, LoadFailedError, subprocess.CalledProcessError) as error:
                say(f"{peer.name} left out: {error}")
        return rows

    def _fit(self, load: Load, instances: Sequence[Instance]) -> list[Instance]:
        """Those that answer `load` rightly; each has a second to warm up, once."""
        fit = []
        for instance in instances:
            try:
                check(load, instance.port)
                if load.streams or instance.pid not in self._warm:  # which of them speak HTTP/2 shows here
                    drive(load, instance.port, 1)
            except LoadFailedError as error:
                say(f"{instance.peer.name} left out of {load.name}: {error}")
            else:
                self._warm.add(instance.pid)
                fit.append(instance)
        return fit

    def _round(self, load: Load, instance: Instance) -> Round:
        before = cpu_s(instance.pid)
        seen = drive(load, instance.port, self.seconds)
        spent_s = cpu_s(instance.pid) - before
        return Round(
            cpu_us=spent_s / seen.requests * 1e6,
            rps=seen.requests / seen.duration_s,
            p50_ms=seen.p50_ms,
            p99_ms=seen.p99_ms,
            pss_mb=pss_bytes(instance.pid) / 1e6,
            errors=seen.errors,
        )


def _row(
    peer: Peer,
    rounds: list[Round],
    yardstick: list[Round] | None,
    growth: float | None = None,
    resting_ms_per_s: float | None = None,
) -> Row:
    def middle(read: Callable[[Round], float]) -> float:
        return median(read(one) for one in rounds)

    ratios = [one.cpu_us / go.cpu_us for one, go in zip(rounds, yardstick or [], strict=False)]
    return Row(
        peer=peer.name,
        ours=peer.ours,
        cpu_us=middle(lambda one: one.cpu_us),
        ratio=median(ratios) if ratios else None,
        ratio_range=(min(ratios), max(ratios)) if ratios else None,
        rps=middle(lambda one: one.rps),
        p50_ms=middle(lambda one: one.p50_ms),
        p99_ms=middle(lambda one: one.p99_ms),
        pss_mb=rounds[-1].pss_mb,
        errors=sum(one.errors for one in rounds),
        rounds=rounds,
        growth=growth,
        resting_ms_per_s=resting_ms_per_s,
    )


def _resting_ms_per_s(instances: Sequence[Instance]) -> dict[Instance, float]:
    """CPU per second while nobody asks anything."""
    time.sleep(SETTLE_S)
    before = {instance: cpu_s(instance.pid) for instance in instances}
    time.sleep(SETTLE_S)
    return {instance: (cpu_s(instance.pid) - before[instance]) / SETTLE_S * 1e3 for instance in instances}


def _idle_row(instance: Instance) -> IdleRow:
    drive(LOADS["small"], instance.port, 1)
    time.sleep(SETTLE_S)
    empty = pss_bytes(instance.pid)
    argv = [sys.executable, str(BENCH / "idle.py"), str(instance.port), str(IDLE_CLIENTS)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        try:
            connected = (holder.stdout.readline() if holder.stdout else "").strip()
            if not connected:
                raise LoadFailedError("the clients could not connect")
            resting = _resting_ms_per_s([instance])[instance]
            full = pss_bytes(instance.pid)
            still_open = int(holder.communicate("\n", timeout=10)[0])
        finally:
            holder.kill()
    return IdleRow(
        peer=instance.peer.name,
        ours=instance.peer.ours,
        clients=int(connected),
        still_open=still_open,
        empty_mb=empty / 1e6,
        full_mb=full / 1e6,
        kb_per_client=(full - empty) / 1e3 / max(still_open, 1),
        resting_ms_per_s=resting,
    )
