"""What watching costs etcd, and how soon watchers hear: N watches on one prefix, M writes a second of some size.

`python bench/etcd_watch.py [--watchers 16,64,256,1000] [--writes 10] [--bytes 1000] [--seconds 10]`. Starts an etcd of its own
(Debian: etcd-server). Four of the watches are those of the edge's own client, whose latency is measured, from before a put until
they have its event; the others are in a process of their own and only read what comes. Linux only: CPU is read from /proc.
"""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import argparse  # noqa: E402
import base64  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import socket  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402
from pathlib import Path  # noqa: E402

import gevent  # noqa: E402

sys.path.insert(0, str(Path(__file__).parents[1]))

from smartedge.discovery.etcd_client import EtcdClient  # noqa: E402

PREFIX = "/bench/"
MEASURED = 4
TICKS = os.sysconf("SC_CLK_TCK")


def watch_only(port: int, count: int) -> None:
    """Keep so many watches open and read what comes; says when all are open, and ends with standard input."""
    key, end = (base64.b64encode(text.encode()).decode() for text in (PREFIX, PREFIX[:-1] + "0"))
    body = json.dumps({"create_request": {"key": key, "range_end": end}})
    request = f"POST /v3/watch HTTP/1.1\r\nHost: bench\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
    opened = []

    def read(sock: socket.socket) -> None:
        while sock.recv(1 << 16):
            pass

    for _ in range(count):
        sock = socket.create_connection(("127.0.0.1", port))
        sock.sendall(request)
        sock.recv(1 << 16)
        opened.append(gevent.spawn(read, sock))
    print("open", flush=True)
    sys.stdin.read()


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def memory_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def measure(args: argparse.Namespace, watchers: int) -> None:
    """Start an etcd with so many watches, write, and print a line."""
    port, peer = free_port(), free_port()
    url = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory() as folder:
        command = ["etcd", "--data-dir", folder, "--listen-client-urls", url, "--advertise-client-urls", url]
        peers = f"http://127.0.0.1:{peer}"
        command += ["--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers, "--initial-cluster", f"default={peers}"]
        etcd = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        others: subprocess.Popen[str] | None = None
        try:
            client = EtcdClient([url])
            while True:
                try:
                    revision, _ = client.range(PREFIX, prefix=True)
                    break
                except Exception:
                    time.sleep(0.05)
            watch = [sys.executable, __file__, "watch", str(port), str(watchers - MEASURED)]
            others = subprocess.Popen(watch, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            assert others.stdout is not None
            others.stdout.readline()
            took: list[float] = []
            sent: dict[str, float] = {}

            def hear() -> None:
                for _, events in EtcdClient([url]).watch(PREFIX, True, revision + 1):
                    now = time.perf_counter()
                    took.extend(now - sent[event.key] for event in events)

            readers = [gevent.spawn(hear) for _ in range(MEASURED)]
            gevent.sleep(2)
            value = b"x" * args.bytes
            before, began, puts = cpu_s(etcd.pid), time.perf_counter(), 0
            for number in range(int(args.seconds * args.writes)):
                key = f"{PREFIX}{number}"
                gevent.sleep(max(began + number / args.writes - time.perf_counter(), 0))
                sent[key] = time.perf_counter()
                client.put(key, value)
                puts += 1
            wanted = puts * MEASURED
            until = time.perf_counter() + 20
            while len(took) < wanted and time.perf_counter() < until:
                gevent.sleep(0.01)
            spent, lasted = cpu_s(etcd.pid) - before, time.perf_counter() - began
            gevent.killall(readers)
            took.sort()
            print(
                f"{watchers} watches, {puts / lasted:.0f} writes/s of {args.bytes} bytes: heard after"
                f" {took[len(took) // 2] * 1e3:.1f} ms in the middle, {took[int(len(took) * 0.99)] * 1e3:.1f} ms p99"
                f" ({len(took)} of {wanted}); etcd: {spent / lasted * 100:.0f}% of a core,"
                f" {spent / puts / watchers * 1e6:.0f} µs an event, {memory_mb(etcd.pid):.0f} MB",
                flush=True,
            )
        finally:
            for process in (others, etcd):
                if process is not None:
                    process.terminate()
                    process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--watchers", default="16,64,256,1000")
    parser.add_argument("--writes", type=float, default=10.0)
    parser.add_argument("--bytes", type=int, default=1_000)
    parser.add_argument("--seconds", type=float, default=10.0)
    args = parser.parse_args()
    for watchers in args.watchers.split(","):
        measure(args, int(watchers))


if __name__ == "__main__":
    watch_only(int(sys.argv[2]), int(sys.argv[3])) if sys.argv[1:2] == ["watch"] else main()
