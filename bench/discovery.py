"""What discovery costs the requests, and how quick it is: a thousand backends in etcd, of which fifty are replaced each second.

`python bench/discovery.py [--backends 1000] [--changes 50] [--rate 200] [--seconds 15] [--rounds 3] [--workers 1,2]`. Requests
come at random times at a fixed rate (an open loop: one that is late does not hold up the next), and are timed from when they
should have begun; rounds without and with changes take turns. Then backends are put and deleted one by one: how long after its
first good probe has one its first request, and how long after etcd's answer has one its last. It needs etcd, and Linux,
whose loopback is all of 127.0.0.0/8. `--source file` has a file in place of etcd.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import gevent
import gevent.event
import gevent.monkey

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
PREFIX = "/bench/"
MONITOR_S = 0.002


def play_backends() -> None:
    """Answer on every address of this machine; at each line on stdin, print `Backends.seen`."""
    from gevent.server import StreamServer

    seen: dict[str, list[float | None]] = {}

    def serve(sock: Any, _peer: object) -> None:
        times = seen.setdefault(sock.getsockname()[0], [None, None, None])
        with contextlib.suppress(OSError), sock:
            held = b""
            while True:
                while b"\r\n\r\n" not in held:
                    data = sock.recv(4096)
                    if not data:
                        return
                    held += data
                head, _, held = held.partition(b"\r\n\r\n")
                now = time.monotonic()
                if not head.startswith(b"GET /up "):
                    times[1] = now if times[1] is None else times[1]
                    times[2] = now
                sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                if head.startswith(b"GET /up ") and times[0] is None:
                    times[0] = time.monotonic()

    server = StreamServer(("0.0.0.0", 0), serve, backlog=4096)
    server.start()
    print(server.server_port, flush=True)
    while gevent.get_hub().threadpool.apply(sys.stdin.readline):
        print(json.dumps(seen), flush=True)


class Backends:
    """The process that plays all backends."""

    def __init__(self) -> None:
        argv = [sys.executable, __file__, "--play-backends"]
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())

    def seen(self) -> dict[str, list[float | None]]:
        """By address: when its first probe was answered, when its first and its last request came."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        found: dict[str, list[float | None]] = json.loads(self.process.stdout.readline())
        return found

    def was_asked(self, address: str) -> bool:
        """Whether a request has come to this one."""
        return self.seen().get(address, [None, None])[1] is not None


def address_of(index: int) -> str:
    """Give each backend an address of its own."""
    return f"127.{1 + index // 62_500}.{index // 250 % 250}.{index % 250 + 1}"


class EtcdKeys:
    """A key for each backend, in an etcd that runs."""

    kind = "etcd"

    def __init__(self, endpoint: str, port: int) -> None:
        from smartedge.discovery.etcd_client import EtcdClient

        self.port, self.endpoint = port, endpoint
        self.client = EtcdClient([endpoint])
        self.said = {"etcd": {"prefix": PREFIX, "endpoints": [endpoint]}}

    def begin(self, indexes: Sequence[int]) -> None:
        """Have just these."""
        self.client.delete(PREFIX, prefix=True)
        for index in indexes:
            self.replace(None, index)

    def replace(self, old: int | None, new: int | None) -> None:
        """Have another one in the place of one."""
        from smartedge.discovery.etcd_client import delete_op, put_op

        put = [] if new is None else [put_op(f"{PREFIX}{new}", f"http://{address_of(new)}:{self.port}".encode())]
        self.client.txn([], put + ([] if old is None else [delete_op(f"{PREFIX}{old}")]))


class Etcd(EtcdKeys):
    """An etcd of its own."""

    def __init__(self, folder: Path, port: int) -> None:
        from bench.processes import free_port

        client, peer = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
        binary = shutil.which("etcd")
        if binary is None:
            raise SystemExit("etcd is not installed; --source file does without it")
        argv = [binary, "--data-dir", str(folder / "etcd"), "--log-level", "error", "--listen-client-urls", client]
        argv += ["--advertise-client-urls", client, "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]
        argv += ["--initial-cluster", f"default={peer}"]
        self.process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(lambda: answers(f"{client}/health"), 20)
        super().__init__(client, port)

    def stop(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.wait()


class File:
    """A file with a list of the backends."""

    kind = "file"

    def __init__(self, folder: Path, port: int) -> None:
        self.port, self.path = port, folder / "found.json"
        self.said = {"file": {"path": str(self.path)}}
        self.there: dict[int, None] = {}

    def begin(self, indexes: Sequence[int]) -> None:
        """Have just these."""
        self.there = dict.fromkeys(indexes)
        self.replace(None, None)

    def replace(self, old: int | None, new: int | None) -> None:
        """Have another one in the place of one."""
        if new is not None:
            self.there[new] = None
        if old is not None:
            del self.there[old]
        self.path.with_suffix(".new").write_text(json.dumps([f"http://{address_of(one)}:{self.port}" for one in self.there]))
        os.replace(self.path.with_suffix(".new"), self.path)

    def stop(self) -> None:
        """There is nothing to end."""


def until(condition: Any, timeout_s: float) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end:
            raise SystemExit("it did not come about in time")
        gevent.sleep(0.02)


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def status(url: str) -> Any:
    with urllib.request.urlopen(f"{url}/api/status", timeout=30) as answer:
        return json.load(answer)


@contextlib.contextmanager
def edge(folder: Path, source: Any, workers: int, interval_s: float) -> Iterator[str]:
    """Run an edge; give its URL."""
    from bench.processes import free_port

    url = f"127.0.0.1:{free_port()}"
    (folder / "backends.json").write_text(
        json.dumps(
            {"discover": source.said, "health": {"path": "/up", "interval_s": interval_s}, "bind": url, "workers": workers}
        )
    )
    with open(folder / f"edge-{workers}.log", "wb") as log:
        argv = [sys.executable, "-m", "smartedge", "run"]
        process = subprocess.Popen(argv, cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=log, stderr=log)
        try:
            until(lambda: answers(f"http://{url}/health"), 60)
            yield f"http://{url}"
        finally:
            process.terminate()
            process.wait()


class Load:
    """Requests at random times at a fixed rate, each on one of a few kept connections; `latencies` of what has been answered."""

    def __init__(self, url: str, rate: float) -> None:
        self.latencies: list[float] = []
        self.failed = 0
        self.late: list[float] = []
        host, _, port = url.removeprefix("http://").partition(":")
        self._to = host, int(port)
        self._idle: list[Any] = []
        self._rate = rate
        self._greenlet = gevent.spawn(self._run)

    def _run(self) -> None:
        due = time.monotonic()
        while True:
            due += random.expovariate(self._rate)
            gevent.sleep(max(due - time.monotonic(), 0))
            self.late.append(time.monotonic() - due)
            gevent.spawn(self._ask, due)

    def _ask(self, due: float) -> None:
        import gevent.socket

        try:
            sock = self._idle.pop() if self._idle else gevent.socket.create_connection(self._to, timeout=30)
            sock.sendall(b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n")
            answer = b""
            while not answer.endswith(b"\r\n\r\nok"):
                data = sock.recv(4096)
                if not data:
                    raise ConnectionError("closed")
                answer += data
                if b"HTTP/1.1 5" in answer:
                    raise ConnectionError(answer.decode())
        except OSError:
            self.failed += 1
            return
        self.latencies.append(time.monotonic() - due)
        self._idle.append(sock)

    def measure(self, seconds: float) -> tuple[list[float], int]:
        """Give the latencies of so many seconds, and how many failed."""
        self.latencies, self.failed = [], 0
        gevent.sleep(seconds)
        return self.latencies, self.failed

    def stop(self) -> None:
        """Ask nothing more."""
        self._greenlet.kill()


def percentile(values: Sequence[float], ratio: float) -> float:
    return sorted(values)[min(int(len(values) * ratio), len(values) - 1)] if values else float("nan")


def play_changes(args: argparse.Namespace) -> None:
    """Replace one backend after the other, at a rate, by others that never were: from one line on stdin to the next."""
    source = EtcdKeys(args.endpoint, args.port) if args.endpoint else File(Path(args.folder), args.port)
    there = list(range(args.backends))
    source.begin(there)
    print("ready", flush=True)
    fresh = args.backends
    while sys.stdin.readline():
        stop = gevent.event.Event()
        gevent.get_hub().threadpool.spawn(sys.stdin.readline).rawlink(lambda _, stop=stop: stop.set())
        due = time.monotonic()
        while not stop.is_set():
            place = random.randrange(len(there))
            old, there[place] = there[place], fresh
            source.replace(old, fresh)
            fresh += 1
            due += 1 / args.changes
            gevent.sleep(max(due - time.monotonic(), 0))


class Changes:
    """The process that replaces backends, so that it does not hold the load up."""

    def __init__(self, source: Any, folder: Path, args: argparse.Namespace) -> None:
        argv = [sys.executable, __file__, "--play-changes", "--folder", str(folder), "--port", str(source.port)]
        argv += ["--backends", str(args.backends), "--changes", str(args.changes)]
        argv += ["--endpoint", source.endpoint] if source.kind == "etcd" else []
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.process.stdout.readline()

    def turn(self) -> None:
        """Begin, or end."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()


def measure_requests(source: Any, folder: Path, args: argparse.Namespace, workers: int) -> None:
    """Time requests without and with changes, in turns."""
    changes = Changes(source, folder, args)
    with edge(folder, source, workers, args.interval) as url:
        until(lambda: sum(one["health"] == "healthy" for one in status(url)["backends"]) == args.backends, 60)
        load = Load(url, args.rate)
        gevent.sleep(2)
        taken: dict[str, list[float]] = {"at rest": [], "changing": []}
        failed = {"at rest": 0, "changing": 0}
        before = status(url)["generation"]
        for _ in range(args.rounds):
            for name in taken:
                if name == "changing":
                    changes.turn()
                gevent.sleep(1)
                latencies, errors = load.measure(args.seconds)
                taken[name] += latencies
                failed[name] += errors
                if name == "changing":
                    changes.turn()
                    gevent.sleep(1)
        load.stop()
        changes.process.terminate()
        after = status(url)
        for name, latencies in taken.items():
            marks = "  ".join(
                f"p{ratio * 100:g} {percentile(latencies, ratio) * 1000:6.2f} ms" for ratio in (0.5, 0.9, 0.99, 0.999)
            )
            print(f"{workers} workers, {name:9}: {marks}  ({len(latencies)} requests, {failed[name]} failed)")
        late = percentile(load.late, 0.99) * 1000
        lags = ", ".join(f"{one['loop_lag_s'] * 1000:.1f}" for one in after["workers"])
        made = after["generation"] - before
        print(f"{workers} workers: {made} generations; the load was {late:.2f} ms late (p99); lags {lags} ms")


def measure_reaction(source: Any, folder: Path, args: argparse.Namespace, backends: Backends, workers: int) -> None:
    """Time how soon a backend that comes is asked, and how long one that goes still is."""
    source.begin([0, 1, 2])
    came, went = [], []
    with edge(folder, source, workers, args.interval) as url:
        until(lambda: status(url)["backends"] and all(one["health"] == "healthy" for one in status(url)["backends"]), 60)
        load = Load(url, 400.0)
        for index in range(30_000, 30_000 + args.times):
            source.replace(None, index)
            until(partial(backends.was_asked, address_of(index)), 30)
            probed, asked, _ = backends.seen()[address_of(index)]
            assert probed is not None
            assert asked is not None
            came.append(asked - probed)
            gevent.sleep(random.random() * 0.3)
            source.replace(index, None)
            answered = time.monotonic()
            gevent.sleep(0.7)
            last = backends.seen()[address_of(index)][2]
            assert last is not None
            went.append(last - answered)
        load.stop()
    for what, values in (("first good probe to first request", came), ("etcd's answer to last request", went)):
        print(f"{workers} workers, {what}: median {percentile(values, 0.5) * 1000:.0f} ms, most {max(values) * 1000:.0f} ms")


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--play-backends", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--play-changes", action="store_true", help=argparse.SUPPRESS)
    for name in ("--folder", "--endpoint"):
        parser.add_argument(name, default="", help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--source", choices=("etcd", "file"), default="etcd")
    parser.add_argument("--backends", type=int, default=1000)
    parser.add_argument("--changes", type=float, default=50.0, help="each second")
    parser.add_argument("--rate", type=float, default=200.0, help="requests each second")
    parser.add_argument("--seconds", type=float, default=15.0, help="of a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--times", type=int, default=30, help="that a backend comes and goes")
    parser.add_argument("--interval", type=float, default=2.0, help="seconds between probes of a backend")
    parser.add_argument("--workers", default="1,2")
    args = parser.parse_args()
    if args.play_backends:
        play_backends()
        return
    if args.play_changes:
        play_changes(args)
        return
    backends = Backends()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = (Etcd if args.source == "etcd" else File)(folder, backends.port)
        try:
            head = f"{date.today()}, {os.cpu_count()} processors, {args.backends} backends of {source.kind}"
            print(f"{head}, {args.changes:g} changes/s")
            for workers in map(int, args.workers.split(",")):
                if args.rounds:
                    measure_requests(source, folder, args, workers)
                if args.times:
                    measure_reaction(source, folder, args, backends, workers)
        finally:
            source.stop()
            backends.process.terminate()


if __name__ == "__main__":
    gevent.monkey.patch_all()
    main()
