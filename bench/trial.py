"""One scenario, once: several edges at the same time, each with backends and a load of its own.

At the same time, so that whatever else the machine does falls on all alike: 250 requests a second are little work for any
of them. Nothing is kept from one trial to the next.
"""

from __future__ import annotations

import contextlib
import heapq
import http.client
import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from cost import cpu_s
from figures import Figures, figures, parse
from measure import say
from peers import BENCH, Peer, Place, built
from processes import NotStartedError, await_answer, free_port, start, stop
from scenarios import BACKENDS, Behaviour, Scenario

SLOTS, POISSON = BENCH / "go" / "slots.go", BENCH / "go" / "poisson.go"
LEAD_S = 0.5  # until all loads begin together
PATIENCE_S = 60.0  # of a client; longer than any time-out on the way, so that what it gets is the edge's own doing


@dataclass(frozen=True, slots=True)
class Settings:
    rate: float
    seconds: float
    warmup_s: float


class Backend:
    """A backend's process, or the successive ones of its port."""

    def __init__(self, directory: Path, name: str, seed: int) -> None:
        self.name = name
        self.port = free_port()
        self.log = directory / f"{name}.log"
        self._seed = seed
        self._before = 0  # requests that came to processes that have ended
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self, behaviour: Behaviour | None = None) -> None:
        argv = [str(built(SLOTS)), f"127.0.0.1:{self.port}", self.name, str(self._seed + len(self._processes))]
        if behaviour is not None:
            argv.append(json.dumps(asdict(behaviour)))
        self._processes.append(start(argv, {}, self.log))

    def await_answer(self) -> None:
        await_answer(self._processes[-1], self.port, self.log, "/health")

    def behave(self, behaviour: Behaviour) -> None:
        self._control("PUT", json.dumps(asdict(behaviour)))

    def leave(self, name: str) -> None:
        self._before += self._control("GET")
        self._processes[-1].send_signal(signal.Signals[name])

    def send(self, name: str) -> None:
        self._processes[-1].send_signal(signal.Signals[name])

    def arrived(self) -> int:
        """How many requests have come so far; waits for a process that was just started."""
        self.await_answer()
        return self._before + self._control("GET")

    def stop(self) -> None:
        for process in self._processes:
            process.kill()
            stop(process)

    def _control(self, method: str, body: str | None = None) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request(method, "/control", body)
            return int(connection.getresponse().read())
        finally:
            connection.close()


class Site:
    """An edge, its backends and its load."""

    def __init__(self, edge: Peer, directory: Path, seed: int, count: int) -> None:
        self.edge = edge
        self.directory = directory / edge.name
        self.directory.mkdir(parents=True)
        self.port = free_port()
        self.backends = [Backend(self.directory, f"b{index}", seed + 10 * index) for index in range(count)]
        self.log = self.directory / "edge.log"
        self.lines = self.directory / "requests"
        self._load: subprocess.Popen[bytes] | None = None
        self._baseline = [0] * count
        self._pid = 0
        self._cpu_s = 0.0

    @contextlib.contextmanager
    def open(self) -> Iterator[Site]:
        """Run backends and edge until the block ends; raises NotStartedError."""
        with contextlib.ExitStack() as stack:
            for backend in self.backends:
                stack.callback(backend.stop)
                backend.start()
            for backend in self.backends:
                backend.await_answer()
            addresses = [f"127.0.0.1:{backend.port}" for backend in self.backends]
            command = self.edge.command(Place(self.port, addresses, self.directory))
            process = start(command.argv, command.env, self.log)
            stack.callback(stop, process)
            self._pid = process.pid
            await_answer(process, self.port, self.log)
            yield self

    def load(self, at: float, settings: Settings, seed: int) -> None:
        """Have the load begin at this Unix time."""
        rate = settings.rate * len(self.backends) / BACKENDS
        argv = [str(built(POISSON)), "-rate", str(rate), "-seconds", str(settings.warmup_s + settings.seconds)]
        argv += ["-at", f"{at:.6f}", "-seed", str(seed), "-timeout", f"{PATIENCE_S}s", f"127.0.0.1:{self.port}"]
        self._load = start(argv, {}, self.lines)

    def await_load(self, timeout_s: float) -> None:
        if self._load is not None:
            self._load.wait(timeout_s)

    def stop_load(self) -> None:
        if self._load is not None:
            stop(self._load)

    def begin(self) -> None:
        """The warm-up is over: count from here on what comes to the backends, and what the edge costs."""
        self._baseline = [backend.arrived() for backend in self.backends]
        self._cpu_s = cpu_s(self._pid)

    def end(self) -> None:
        """The last request has begun."""
        self._cpu_s = cpu_s(self._pid) - self._cpu_s

    def figures(self, settings: Settings) -> Figures:
        arrived = [backend.arrived() - before for backend, before in zip(self.backends, self._baseline, strict=True)]
        requests = parse(self.lines.read_text().splitlines())
        return figures(requests, settings.warmup_s, arrived, self._cpu_s / settings.seconds)


def trial(scenario: Scenario, edges: Sequence[Peer], settings: Settings, directory: Path, seed: int) -> dict[str, Figures]:
    """Run it; an edge that does not start is named and left out."""
    with contextlib.ExitStack() as stack:
        sites = []
        for edge in edges:
            site = Site(edge, directory, seed, scenario.backends)
            try:
                sites.append(stack.enter_context(site.open()))
            except (NotStartedError, subprocess.CalledProcessError) as error:
                say(f"{edge.name} left out of {scenario.name}: {error}")
        begins = time.time() + LEAD_S
        for site in sites:
            stack.callback(site.stop_load)
            site.load(begins, settings, seed)
        play(timeline(scenario, sites, settings), begins)
        ends = begins + settings.warmup_s + settings.seconds + PATIENCE_S
        for site in sites:
            site.await_load(max(ends - time.time(), 0.0) + 5.0)
        return {site.edge.name: site.figures(settings) for site in sites}


Event = tuple[float, int, Callable[[], None]]  # when, after the load's beginning; a number that orders equal times; what


def timeline(scenario: Scenario, sites: Sequence[Site], settings: Settings) -> list[Event]:
    """Everything that happens to all sites' backends."""
    events: list[Event] = []

    def add(at: float, what: Callable[[], None]) -> None:
        events.append((at, len(events), what))

    for site in sites:
        add(settings.warmup_s, site.begin)
        add(settings.warmup_s + settings.seconds, site.end)
        for act in scenario.acts:
            at = settings.warmup_s + act.at * settings.seconds if act.at else 0.0
            for backend in (site.backends[index] for index in act.backends):
                back = at + act.away * settings.seconds
                if act.pause_s:
                    add(at, partial(backend.send, "SIGSTOP"))
                    add(at + act.pause_s, partial(backend.send, "SIGCONT"))
                elif act.signal is None:
                    add(at, partial(backend.behave, act.behaviour))
                else:
                    add(at, partial(backend.leave, act.signal))
                    add(back, partial(backend.start, act.behaviour))
                    if act.cold_s:
                        add(back + act.cold_s, partial(backend.behave, Behaviour()))
    return events


def play(events: list[Event], begins: float) -> None:
    """Do each when its time has come."""
    heapq.heapify(events)
    while events:
        at, _, what = heapq.heappop(events)
        time.sleep(max(begins + at - time.time(), 0.0))
        what()
