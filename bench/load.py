"""Drive one port with one kind of request, by wrk, h2load or go/handshakes.go, and read what that saw."""

from __future__ import annotations

import http.client
import json
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import backends
from peers import BENCH, built
from processes import connect, program

WRK_LUA = BENCH / "wrk.lua"
HANDSHAKES = BENCH / "go" / "handshakes.go"
UPLOAD_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Load:
    """One kind of request. Connections are those of the load, which keeps each of them busy, in one thread.

    varied: no two requests are alike. tls: over TLS. handshakes: each on a TLS connection of its own, "full" or "resumed".
    streams: of HTTP/2, so many at a time on each connection; 0 is HTTP/1.1.
    """

    name: str
    title: str
    path: str
    connections: int
    close: bool = False
    upload_bytes: int = 0
    varied: bool = False
    tls: bool = False
    handshakes: str = ""
    streams: int = 0


LOADS = {
    load.name: load
    for load in (
        Load("small", "small answers, keep-alive", "/", 32),
        Load("new-connection", "small answers, a new client connection each", "/", 32, close=True),
        Load("100k", "100 kB answers", "/100k", 16),
        Load("1m", "1 MB answers", "/1m", 8),
        Load("upload", "1 MB uploads", "/upload", 8, upload_bytes=UPLOAD_BYTES),
        Load("browser", "small answers to requests that all differ, as browsers send them", "/page/1", 32, varied=True),
        Load("tls", "small answers over TLS, keep-alive", "/", 32, tls=True),
        Load("tls-100k", "100 kB answers over TLS", "/100k", 16, tls=True),
        Load("http2", "small answers by HTTP/2 (TLS)", "/", 8, tls=True, streams=8),
        Load("http2-100k", "100 kB answers by HTTP/2 (TLS)", "/100k", 4, tls=True, streams=4),
        Load("handshake", "a full TLS handshake for each small answer", "/", 8, tls=True, handshakes="full"),
        Load("handshake-resumed", "a resumed TLS handshake for each", "/", 8, tls=True, handshakes="resumed"),
    )
}


@dataclass(frozen=True, slots=True)
class Seen:
    """What the load saw in one run. Errors are statuses above 399, broken or refused connections and timeouts."""

    requests: int
    duration_s: float
    p50_ms: float
    p99_ms: float
    errors: int


class LoadFailedError(Exception):
    """Nothing useful came back."""


def drive(load: Load, port: int, seconds: int) -> Seen:
    if load.streams:
        return _h2load(load, port, seconds)
    argv = _handshakes(load, port, seconds) if load.handshakes else _wrk(load, port, seconds)
    run = subprocess.run(argv, capture_output=True, text=True, timeout=seconds + 30)
    line = next((line for line in run.stdout.splitlines() if line.startswith("RESULT ")), None)
    if line is None:
        raise LoadFailedError((run.stderr or run.stdout).strip()[-200:] or "the load printed nothing")
    seen = json.loads(line.removeprefix("RESULT "))
    if not seen["requests"]:
        raise LoadFailedError(f"no request completed, {seen['errors']} errors")
    return Seen(
        requests=seen["requests"],
        duration_s=seen["duration_us"] / 1e6,
        p50_ms=seen["p50_us"] / 1e3,
        p99_ms=seen["p99_us"] / 1e3,
        errors=seen["errors"],
    )


def _h2load(load: Load, port: int, seconds: int) -> Seen:
    """By h2load, whose log has a line for each request: when it began, its status, and how long it took in microseconds."""
    with tempfile.TemporaryDirectory() as directory:
        log = Path(directory) / "log"
        argv = [program("h2load") or "h2load", f"-D{seconds}", f"-c{load.connections}", f"-m{load.streams}", f"--log-file={log}"]
        run = subprocess.run(
            [*argv, f"https://127.0.0.1:{port}{load.path}"], capture_output=True, text=True, timeout=seconds + 30
        )
        lines = [line.split() for line in log.read_text().splitlines()] if log.exists() else []
    if "Application protocol: h2" not in run.stdout:
        raise LoadFailedError((run.stderr or "no HTTP/2").strip()[-200:])
    taken = sorted(int(fields[2]) for fields in lines if fields[1] == "200")
    if not taken:
        raise LoadFailedError(f"no request completed, {len(lines)} errors")
    return Seen(len(taken), seconds, taken[len(taken) // 2] / 1e3, taken[len(taken) * 99 // 100] / 1e3, len(lines) - len(taken))


def _wrk(load: Load, port: int, seconds: int) -> list[str]:
    argv = [program("wrk") or "wrk", "-t1", f"-c{load.connections}", f"-d{seconds}s", "--timeout", "5s", "-s", str(WRK_LUA)]
    argv += ["-H", "Connection: close"] if load.close else []
    argv += [f"{'https' if load.tls else 'http'}://127.0.0.1:{port}{load.path}", "--", str(load.upload_bytes)]
    return [*argv, "varied"] if load.varied else argv


def _handshakes(load: Load, port: int, seconds: int) -> list[str]:
    argv = [str(built(HANDSHAKES)), "-connections", str(load.connections), "-seconds", str(seconds)]
    return [*argv, *(["-resume"] if load.handshakes == "resumed" else []), f"127.0.0.1:{port}"]


def check(load: Load, port: int) -> None:
    """Ask once and look closely: a proxy that is quick and wrong has no place in the table."""
    connection = connect(port, load.tls, 10)
    try:
        if load.upload_bytes:
            connection.request("POST", load.path, body=b"x" * load.upload_bytes)
        else:
            connection.request("GET", load.path)
        answer = connection.getresponse()
        body = answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise LoadFailedError(f"{load.path}: {error!r}") from error
    finally:
        connection.close()
    if answer.status != 200:
        raise LoadFailedError(f"{load.path}: status {answer.status}")
    if load.upload_bytes:
        received = int(answer.getheader(backends.RECEIVED, "0"))
        if received < load.upload_bytes:
            raise LoadFailedError(f"{load.path}: only {received} bytes reached the backend")
    elif len(body) != backends.LENGTHS[load.path]:
        raise LoadFailedError(f"{load.path}: {len(body)} bytes instead of {backends.LENGTHS[load.path]}")
