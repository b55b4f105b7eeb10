"""Where SmartEdge sends requests, beside other proxies, while backends are slow, fail, hang or restart: `make bench-routing`.

README.md says how to read the result. Everything started here ends with it, however it ends.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edges import EDGES, ours
from measure import say
from peers import BENCH, Peer, built
from processes import program
from report import write_json
from run import interrupt, named
from scenarios import SCENARIOS
from trial import POISSON, SLOTS, Settings, trial
from verdict import Round, as_json, rows, summary, table, verdict_table, verdicts, write_chart


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench/routing.py", description=__doc__.splitlines()[0])
    parser.add_argument("--peers", type=named(EDGES), default=list(EDGES), help=",".join(EDGES))
    parser.add_argument("--scenarios", type=named(SCENARIOS), default=list(SCENARIOS), help=",".join(SCENARIOS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=20, help="measured of each scenario in each round")
    parser.add_argument("--warmup", type=float, default=4, help="seconds before them")
    parser.add_argument("--rate", type=float, default=250, help="requests a second that each edge gets, on average")
    parser.add_argument("--seed", type=int, default=1, help="of the requests' starts and the times they take")
    parser.add_argument("--together", type=int, default=len(EDGES), metavar="N", help="edges that run at the same time")
    parser.add_argument(
        "--edge", type=_edge, action="append", default=[], metavar="NAME=JSON", help="SmartEdge, with these settings"
    )
    results = BENCH / "results"
    parser.add_argument("--json", type=Path, default=results / "routing.json", metavar="FILE")
    parser.add_argument("--svg", type=Path, default=results / "routing.svg", metavar="FILE")
    parser.add_argument("--raw", type=Path, metavar="DIRECTORY", help="keep every request's times and every log there")
    parser.add_argument("--quick", action="store_true", help="one round of five seconds: a glance, not a result")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds, options.warmup = 1, 5, 2
    return options


def _edge(text: str) -> Peer:
    name, _, settings = text.partition("=")
    try:
        return Peer(name, lambda: None, ours(json.loads(settings)), ours=True)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text}: {error}") from error


def present(names: list[str]) -> list[Peer]:
    """The edges that can run here; for each of the others, what to install."""
    found = []
    for edge in (EDGES[name] for name in names):
        if hint := edge.missing():
            say(f"{edge.name} left out: {hint}")
        else:
            found.append(edge)
    return found


@contextmanager
def place(raw: Path | None) -> Iterator[Path]:
    """A directory for the runs: memory, where there is such a file system, unless it is to be kept."""
    if raw is not None:
        raw.mkdir(parents=True, exist_ok=True)
        yield raw
        return
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    directory = Path(tempfile.mkdtemp(prefix="smartedge-routing-", dir=memory))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def batches(edges: list[Peer], size: int) -> list[list[Peer]]:
    return [edges[first : first + size] for first in range(0, len(edges), max(size, 1))]


def measure(options: argparse.Namespace, edges: list[Peer], rounds: list[Round]) -> None:
    """Run all rounds; what is complete is in `rounds`, whatever comes then."""
    settings = Settings(options.rate, options.seconds, options.warmup)
    with place(options.raw) as directory:
        for number in range(options.rounds):
            rounds.append({})
            for name in options.scenarios:
                here = directory / f"{time.strftime('%H%M%S')}-{number + 1}-{name}"
                seen = rounds[-1][name] = {}
                for few in batches(edges, options.together):
                    seen |= trial(SCENARIOS[name], few, settings, here, options.seed + 1000 * number)
                p99s = "  ".join(
                    f"{edge} {f.p99_ms:.0f}" + (f" ({f.failed} errors)" if f.failed else "") for edge, f in seen.items()
                )
                say(f"round {number + 1} {name}: p99 ms  {p99s}")


def tell(options: argparse.Namespace, rounds: list[Round], took_s: float) -> None:
    """Print and write what was measured."""
    names = [name for name in options.scenarios if any(done.get(name) for done in rounds)]
    for name in names:
        print(table(SCENARIOS[name], rows(rounds, name)))
    print(summary(rounds, names))
    print(verdict_table(verdicts(rounds, names)), flush=True)
    keys = ("rounds", "seconds", "warmup", "rate", "seed")
    settings = {**{key: getattr(options, key) for key in keys}, "took_s": round(took_s)}
    write_json(options.json, settings, **as_json(rounds, names))
    caption = f"median of {len(rounds)} rounds of {options.seconds:g} s, {options.rate:g} requests/s; dashed: all even, best edge"
    write_chart(options.svg, rounds, names, caption)
    say(f"written: {options.json} {options.svg}")


def main() -> int:
    options = arguments()
    if not program("go"):
        say("backends and load are compiled: apt install golang-go")
        return 2
    edges = present(options.peers) + options.edge
    for source in (SLOTS, POISSON):
        built(source)
    began = time.monotonic()
    rounds: list[Round] = []
    try:
        measure(options, edges, rounds)
    except KeyboardInterrupt:
        say("interrupted")
    rounds = [done for done in rounds if done]
    if not rounds:
        return 1
    tell(options, rounds, time.monotonic() - began)
    return 0


if __name__ == "__main__":
    for ending in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, interrupt)
    sys.exit(main())
