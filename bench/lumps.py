"""What holds up requests in lumps: scrapes, reloads and probes of many backends, on one worker.

    python bench/lumps.py --backends 1000

A round of the event loop is all that is worked on between two looks at the sockets: a request that comes meanwhile waits for
its end. Told of each act: the processor time that it took in all, and its longest round. Processor time and not the clock's, so
that a busy machine gives the same figures as an idle one.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import sleep, thread_time
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from bench.stretches import Stretches  # noqa: E402

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n"
FORMATS = {
    "text": "text/plain;version=0.0.4",
    "OpenMetrics": "application/openmetrics-text;version=1.0.0",
}


def play_backends() -> None:
    """Answer every request on one port of all loopback addresses; prints the port."""

    class Answers(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            self.transport.write(ANSWER * data.count(b"\r\n\r\n"))

    async def serve() -> None:
        server = await asyncio.get_running_loop().create_server(Answers, "0.0.0.0", 0, backlog=4096)
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()

    asyncio.run(serve())


def run_edge(config: str, *, stretches: bool) -> None:
    """Serve, and tell for each line on standard input of the rounds since the one before: `[in all, longest]` in milliseconds.

    stretches: tell where the longest round went, too, on standard error.
    """
    from gevent import monkey

    monkey.patch_all()
    import gc
    import os

    import gevent
    from gevent.fileobject import FileObject

    from smartedge import create_app
    from smartedge.observe import console
    from smartedge.server.server import EdgeServer

    console.install()  # what it says of thousands of first probes would fill the pipe, which nobody reads meanwhile
    os.environ["SMARTEDGE_CONFIG"] = config
    app = create_app()
    server = EdgeServer(("127.0.0.1", 0), app)
    server.start()
    app.edge.begin_serving()
    traced = Stretches() if stretches else None
    rounds = Rounds(gevent.get_hub().loop, traced)
    print(server.server_port, flush=True)
    for line in FileObject(sys.stdin, "r"):
        if line.startswith("collect"):
            gc.collect()
        for took_s, where in traced.take() if traced is not None else ():
            print(f"    {took_s * 1e3:5.1f}  {where}", file=sys.stderr, flush=True)
        print(json.dumps(rounds.take()), flush=True)


class Rounds:
    """The processor time of each round of a loop: between two polls, with whatever callbacks came before the second.

    traced: is told of each round.
    """

    def __init__(self, loop: Any, traced: Stretches | None = None) -> None:
        self._traced = traced
        self._clock = thread_time
        self._since = thread_time()
        self._all = self._longest = 0.0
        self._watcher = loop.check()
        self._watcher.start(self._next)

    def _next(self) -> None:
        if self._traced is not None:
            self._traced.next_round()
        now = self._clock()
        took = now - self._since
        self._since = now
        self._all += took
        self._longest = max(self._longest, took)

    def take(self) -> list[float]:
        """Give the sum and the longest since the last time, in milliseconds."""
        self._next()
        found = [self._all * 1e3, self._longest * 1e3]
        self._all = self._longest = 0.0
        return found


@contextmanager
def child(*arguments: str, errors: int | None = subprocess.DEVNULL) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Run this file as another process; gives it and the port that it prints."""
    command = [sys.executable, __file__, *arguments]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": errors}
    with subprocess.Popen(command, **pipes, text=True) as process:
        assert process.stdout is not None
        try:
            yield process, int(next(line for line in process.stdout if line.strip().isdigit()))
        finally:
            process.kill()


class Driver:
    """Has the edge do something, and asks what it took."""

    def __init__(self, edge: subprocess.Popen[str], port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._edge = edge

    def ask(self, path: str, body: object = None, accept: str = "*/*") -> bytes:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Accept": accept, "Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            content: bytes = answer.read()
        return content

    def take(self) -> tuple[float, float]:
        assert self._edge.stdin is not None
        assert self._edge.stdout is not None
        self._edge.stdin.write("take\n")
        self._edge.stdin.flush()
        in_all, longest = json.loads(next(line for line in self._edge.stdout if line.startswith("[")))
        return in_all, longest

    def measure(self, name: str, act: Callable[[], object], times: int) -> dict[str, float]:
        """Do it so many times; prints and returns medians and the worst."""
        found = []
        for _ in range(times):
            sleep(0.2)
            self.take()
            act()
            found.append(self.take())
        row = {
            "in_all_ms": statistics.median(one[0] for one in found),
            "longest_ms": statistics.median(one[1] for one in found),
            "worst_ms": max(one[1] for one in found),
        }
        print(f"{name:34} {row['in_all_ms']:9.1f} {row['longest_ms']:9.1f} {row['worst_ms']:9.1f}", flush=True)
        return row


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--backends", type=int, default=1000)
    parser.add_argument("--times", type=int, default=7)
    parser.add_argument("--json", type=Path, help="write the figures there, too")
    parser.add_argument("--stretches", action="store_true", help="tell after each act where its longest round went")
    parser.add_argument("--only", default="", help="measure only what has this in its name")
    parser.add_argument("--play-backends", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--run-edge", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.play_backends:
        return play_backends()
    if options.run_edge:
        return run_edge(options.run_edge, stretches=options.stretches)
    with tempfile.TemporaryDirectory() as directory, child("--play-backends") as (_, backends_port):
        path = Path(directory) / "backends.json"
        path.write_text(json.dumps(configuration(backends_port, options.backends)))
        traced = ["--stretches"] if options.stretches else []
        errors = None if options.stretches else subprocess.DEVNULL
        with child("--run-edge", str(path), *traced, errors=errors) as (edge, port):
            figures = measure_all(Driver(edge, port), backends_port, options.backends, options.times, options.only)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    return None


def configuration(port: int, count: int, offset: int = 0, interval_s: float = 10.0) -> dict[str, object]:
    """A configuration of so many backends, which have no place in common with those of another offset."""
    backends = [
        {"id": f"b{number:05}", "url": f"http://127.{1 + number // 62500}.{number // 250 % 250}.{number % 250 + 1}:{port}"}
        for number in range(offset, offset + count)
    ]
    return {"backends": backends, "health": {"interval_s": interval_s}}


def measure_all(edge: Driver, port: int, count: int, times: int, only: str) -> dict[str, dict[str, float]]:
    """Have the edge do all that comes in lumps; figures by the name of what was done. only: what has this in its name."""
    print(f"a fixed piece of Python: {calibrate():.1f} ms here and now; 10 on the machine of docs/metrics.md")
    print(f"{count} backends, ms of processor      in all   longest     worst round")
    sleep(12)  # the first probes are over, and the next ones spread
    figures: dict[str, dict[str, float]] = {}

    def measure(name: str, act: Callable[[], object], times: int = times) -> None:
        if only in name:
            figures[name] = edge.measure(name, act, times)

    measure("at rest, 1 s", lambda: sleep(1))

    for name, accept in FORMATS.items():
        measure(f"a scrape, {name}", lambda accept=accept: edge.ask("/metrics", accept=accept))
    measure("four scrapers, each 100 ms, 1 s", lambda: scrape_often(edge, 4))
    measure("status", lambda: edge.ask("/api/status"))
    offset = [0]

    def reload(part: int) -> None:
        offset[0] += part
        edge.ask("/api/reload", configuration(port, count, offset[0]))

    measure("a reload that changes nothing", lambda: reload(0))
    measure("a reload, a tenth are others", lambda: reload(count // 10))
    measure("a reload, half of them are others", lambda: reload(count // 2))
    measure("a reload, all are, and probes, 2 s", lambda: (reload(count), sleep(2)), min(times, 3))
    edge.ask("/api/reload", configuration(port, count, offset[0], 1.0))
    sleep(2)
    measure("probes of all each second, 1 s", lambda: sleep(1))
    return figures


def calibrate() -> float:
    """Time a fixed piece of Python, in milliseconds of processor."""

    def once() -> float:
        started = thread_time()
        assert sum(len(f"{number:x}: value") for number in range(50_000))
        return (thread_time() - started) * 1e3

    return min(once() for _ in range(5))


def scrape_often(edge: Driver, scrapers: int) -> None:
    """Scrape ten times in a second, each of several at once."""

    def run() -> None:
        for _ in range(10):
            edge.ask("/metrics")
            sleep(0.1)

    threads = [threading.Thread(target=run) for _ in range(scrapers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
