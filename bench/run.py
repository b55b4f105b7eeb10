"""What SmartEdge costs, beside other proxies on the same machine in the same minutes: `make bench`.

README.md says how to read the result. Everything started here ends with it, however it ends.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import backends
from chart import write_svg
from load import LOADS
from markdown import write_markdown
from measure import FEW, IDLE_CLIENTS, MANY, Bench, Instance, say, show_progress
from open_loop import RATES, open_loop
from peers import BENCH, PEERS, Peer
from processes import free_port, program, running
from report import RowSet, table, write_json

SETS = {name: load.title for name, load in LOADS.items()} | {
    "access-log": "small answers, with an access log (`x without` it); go has none",
    "backends-500": f"small answers, {MANY} backends (`x without`: {FEW})",
    "open-loop": "small answers at " + ", ".join(f"{rate:,}" for rate in RATES) + " requests/s",
    "idle": f"{IDLE_CLIENTS:,} idle keep-alive clients, each peer alone",
}

SHORT = ("go", "nginx", "haproxy", "smartedge", "smartedge-gevent")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench/run.py", description=__doc__.splitlines()[0])
    parser.add_argument("--peers", type=named(PEERS), default=list(PEERS), help=",".join(PEERS))
    parser.add_argument("--only", type=named(SETS), default=None, help="row sets: " + ",".join(SETS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3, help="of each peer in each round")
    parser.add_argument("--json", type=Path, default=BENCH / "results" / "latest.json", metavar="FILE")
    parser.add_argument("--svg", type=Path, default=BENCH / "results" / "latest.svg", metavar="FILE")
    parser.add_argument("--md", type=Path, default=BENCH / "results" / "latest.md", metavar="FILE")
    parser.add_argument("--quick", action="store_true", help="two rounds of one second: a glance, not a result")
    parser.add_argument(
        "--short", action="store_true", help=f"--quick, and the peers {','.join(SHORT)}: without `idle`, under six minutes"
    )
    parser.add_argument("--hold", action="store_true", help="start the peers and wait, for a profiler")
    options = parser.parse_args()
    if options.short:
        options.peers = [name for name in options.peers if name in SHORT]
    options.only = options.only or [name for name in SETS if not (options.short and name == "idle")]
    if options.quick or options.short:
        options.rounds, options.seconds = 2, 1
    return options


def named(known: dict[str, object]):
    def parse(text: str) -> list[str]:
        chosen = [name for name in text.split(",") if name]
        if unknown := [name for name in chosen if name not in known]:
            raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; known: {', '.join(known)}")
        return chosen

    return parse


def present(names: list[str]) -> list[Peer]:
    """The peers that can run here; for each of the others, what to install."""
    found = []
    for peer in (PEERS[name] for name in names):
        if hint := peer.missing():
            say(f"{peer.name} left out: {hint}")
        else:
            found.append(peer)
    return found


def measure(bench: Bench, chosen: list[str], instances: list[Instance], tls: list[Instance], done: list[RowSet]) -> None:
    """Run the chosen row sets in turn; each is printed, and added to `done`, when it is complete. tls: those that speak it."""
    for name in chosen:
        if name == "idle":
            rows = bench.idle()
        elif name == "backends-500":
            rows = bench.many_backends(instances)
        elif name == "access-log":
            rows = bench.access_log(instances)
        elif name == "open-loop":
            rows = open_loop(instances, bench.rounds, bench.seconds)
        else:
            rows = bench.loaded(LOADS[name], tls if LOADS[name].tls else instances)
        if rows:
            done.append(RowSet(name, SETS[name], rows))
            show_progress("")
            print(table(done[-1]), flush=True)


def hold(instances: list[Instance]) -> None:
    for instance in instances:
        print(f"{instance.peer.name}: http://127.0.0.1:{instance.port}/ process {instance.pid}")
    print("also /100k and POST /upload; Ctrl-C ends them", flush=True)
    signal.pause()


def main() -> int:
    options = arguments()
    if missing := [name for name in ("nginx", "wrk", "openssl") if not program(name)]:
        say(f"backends and load need: apt install {' '.join(missing)}")
        return 2
    peers = present(options.peers)
    # Memory, where there is such a file system: the state directory and configurations cost no disk.
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    directory = Path(tempfile.mkdtemp(prefix="smartedge-bench-", dir=memory))
    port = free_port()
    done: list[RowSet] = []
    began = time.monotonic()
    try:
        with contextlib.ExitStack() as stack:
            stack.callback(shutil.rmtree, directory, ignore_errors=True)
            config = backends.write_config(directory, port, MANY if "backends-500" in options.only else FEW)
            argv = [program("nginx") or "nginx", "-e", "stderr", "-p", str(directory), "-c", str(config)]
            stack.enter_context(running(argv, {}, port, directory / "backends.log"))
            bench = Bench(peers, directory, port, options.rounds, options.seconds)
            needed = options.hold or options.only != ["idle"]
            instances = stack.enter_context(bench.start_all(FEW)) if needed else []
            if options.hold:
                hold(instances)
            else:
                secure = any(name in LOADS and LOADS[name].tls for name in options.only)
                tls = stack.enter_context(bench.start_all(FEW, tls=True)) if secure else []
                measure(bench, options.only, instances, tls, done)
    except KeyboardInterrupt:
        say("interrupted")
    if not done:
        return 0 if options.hold else 1
    settings = {
        "rounds": options.rounds,
        "seconds": options.seconds,
        "took_s": round(time.monotonic() - began),
    }
    write_json(options.json, settings, sets=[asdict(row_set) for row_set in done])
    write_markdown(options.md, done)
    caption = f"{options.rounds} interleaved rounds of {options.seconds} s; median; dashed line: Go's ReverseProxy"
    write_svg(options.svg, done, caption)
    say(f"written: {options.json} {options.md} {options.svg}")
    return 0


def interrupt(_signal: int, _frame: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    for ending in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, interrupt)
    sys.exit(main())
