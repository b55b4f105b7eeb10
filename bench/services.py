"""What many services cost: start, a reload that changes one of them, memory, CPU at rest, and how evenly probes are spread.

`python bench/services.py [--services 200] [--backends 20] [--interval 10] [--workers 1,4]`. The bars, with 200 services of 20
backends: started within 2 s, reloaded within 0.1 s with 4 workers, 150 MB for one worker. Linux only, whose loopback is all of
127.0.0.0/8.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from statistics import median
from typing import Any

BUCKET_S = 0.1
TICKS = os.sysconf("SC_CLK_TCK")


async def play_backends() -> None:
    """Answer on every address of this machine; at each line on stdin, print how many came in each tenth of a second so far."""
    counts: dict[int, int] = {}

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        bucket = int(time.monotonic() / BUCKET_S)
        counts[bucket] = counts.get(bucket, 0) + 1
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        writer.close()

    server = await asyncio.start_server(answer, "0.0.0.0", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    while await asyncio.to_thread(sys.stdin.readline):
        print(json.dumps(counts), flush=True)


def document(args: argparse.Namespace, port: int, changed: int = 0) -> str:
    """Write the configuration; changed: makes another one of a service in the middle."""
    services = {
        f"s{number}": {"backends": [address_of(number * args.backends + host, port) for host in range(args.backends)]}
        for number in range(args.services)
    }
    services[f"s{args.services // 2}"]["backends"][0] = f"http://127.200.0.{changed + 1}:{port}"
    routes = [{"host": f"{name}.example", "to": name} for name in services]
    return json.dumps({"services": services, "routes": routes, "health": {"path": "/up", "interval_s": args.interval}})


def address_of(index: int, port: int) -> str:
    """Give each backend an address of its own."""
    return f"http://127.{1 + index // 62_500}.{index // 250 % 250}.{index % 250 + 1}:{port}"


def ask(url: str, host: str, body: bytes | None = None) -> Any:
    request = urllib.request.Request(url, data=body, headers={"Host": host} if host else {})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return answer.read()


def tree(pid: int) -> list[int]:
    """The process and its children."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(one for child in children for one in tree(int(child)))]


def pss_mb(pid: int) -> float:
    lines = (line for one in tree(pid) for line in Path(f"/proc/{one}/smaps_rollup").read_text().splitlines())
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def cpu_s(pid: int) -> float:
    fields = (Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split() for one in tree(pid))
    return sum(int(one[11]) + int(one[12]) for one in fields) / TICKS


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def measure(args: argparse.Namespace, workers: int, backends: subprocess.Popen[str], port: int) -> None:
    """Start an edge, look at it, and print a line."""
    assert backends.stdin is not None
    assert backends.stdout is not None
    with tempfile.TemporaryDirectory() as folder:
        file, bind = Path(folder) / "backends.json", free_port()
        file.write_text(document(args, port))
        command = [
            sys.executable,
            "-m",
            "smartedge",
            "run",
            "-c",
            str(file),
            "--bind",
            f"127.0.0.1:{bind}",
            "--workers",
            str(workers),
        ]
        started = time.monotonic()
        env = {**os.environ, "SMARTEDGE_STATE_DIR": folder}
        edge = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            url = f"http://127.0.0.1:{bind}"
            while True:
                try:
                    ask(url, "s0.example")
                    break
                except OSError:
                    time.sleep(0.01)
            start_s, start_cpu_s = time.monotonic() - started, cpu_s(edge.pid)
            while json.loads(ask(f"{url}/health", ""))["up"] < args.services * args.backends:
                time.sleep(0.2)
            probed_s = time.monotonic() - started
            reloads = []
            for number in range(1, 8):
                text = document(args, port, number).encode()
                began = time.monotonic()
                ask(f"{url}/api/reload", "", text)
                reloads.append(time.monotonic() - began)
                time.sleep(2.5)  # what the one before has left is tidied up meanwhile
            cpu, began = cpu_s(edge.pid), time.monotonic()
            time.sleep(args.interval)
            rest = (cpu_s(edge.pid) - cpu) / (time.monotonic() - began)
            until = int(time.monotonic() / BUCKET_S)
            backends.stdin.write("\n")
            backends.stdin.flush()
            counts = json.loads(backends.stdout.readline())
            lately = [counts.get(str(bucket), 0) for bucket in range(until - int(args.interval / BUCKET_S), until)]
            print(
                f"{workers} worker(s): start {start_s:.2f} s ({start_cpu_s:.2f} s of CPU), all probed after {probed_s:.1f} s;"
                f" reload of one service {min(reloads) * 1e3:.0f} ms at best, {median(reloads) * 1e3:.0f} in the middle;"
                f" {pss_mb(edge.pid):.0f} MB;"
                f" CPU at rest {rest * 100:.0f}% of a core; probes in {BUCKET_S:g} s: {sum(lately) / len(lately):.0f} on average,"
                f" {min(lately)} to {max(lately)}",
                flush=True,
            )
        finally:
            edge.terminate()
            edge.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--services", type=int, default=200)
    parser.add_argument("--backends", type=int, default=20)
    parser.add_argument("--interval", type=float, default=10.0)
    parser.add_argument("--workers", default="1,4")
    args = parser.parse_args()
    command = [sys.executable, __file__, "play"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as backends:
        try:
            assert backends.stdout is not None
            port = int(backends.stdout.readline())
            for workers in args.workers.split(","):
                measure(args, int(workers), backends, port)
        finally:
            backends.terminate()


if __name__ == "__main__":
    asyncio.run(play_backends()) if sys.argv[1:] == ["play"] else main()
