"""Start a server, wait until it answers, and leave nothing behind."""

from __future__ import annotations

import contextlib
import ctypes
import http.client
import os
import random
import resource
import shutil
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PR_SET_PDEATHSIG = 1  # prctl(2)
_libc = ctypes.CDLL(None)


class NotStartedError(Exception):
    """The program ended, or never answered; the text says what it printed last."""


def program(name: str) -> str | None:
    """Where `name` is; Debian keeps servers in sbin, which a user's PATH lacks."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


def free_port() -> int:
    """A port nobody listens on, below the ephemeral range so that no client takes it meanwhile."""
    while True:
        port = random.randrange(20000, 30000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def _before_exec() -> None:
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)  # even a SIGKILL of the benchmark takes its servers along
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def start(argv: Sequence[str], env: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
    """Run `argv` in a process group of its own; what it prints is added to `log`."""
    with log.open("ab") as output:
        return subprocess.Popen(
            argv,
            cwd=ROOT,
            env={**os.environ, **env},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches the benchmark alone, which then stops the group
            preexec_fn=_before_exec,
        )


@contextlib.contextmanager
def running(
    argv: Sequence[str],
    env: Mapping[str, str],
    port: int,
    log: Path,
    path: str = "/",
    wait_s: float = 20.0,
    secure: bool = False,
) -> Iterator[int]:
    """Run `argv` until the block ends; yields its process id once `path` on `port` answers 200. secure: it speaks TLS."""
    process = start(argv, env, log)
    try:
        await_answer(process, port, log, path, wait_s, secure)
        yield process.pid
    finally:
        stop(process)


def await_answer(
    process: subprocess.Popen[bytes], port: int, log: Path, path: str = "/", wait_s: float = 20.0, secure: bool = False
) -> None:
    """Return once `path` on `port` answers 200; raises NotStartedError when it does not, or the process has ended."""
    deadline = time.monotonic() + wait_s
    while not _answers(port, path, secure):
        if process.poll() is not None or time.monotonic() > deadline:
            tail = log.read_text(errors="replace").strip().splitlines()[-3:]
            why = "ended" if process.poll() is not None else f"did not answer 200 within {wait_s:.0f} s"
            raise NotStartedError(f"{why}: {' | '.join(tail) or 'no output'}")
        time.sleep(0.05)


def connect(port: int, secure: bool = False, timeout_s: float = 2.0) -> http.client.HTTPConnection:
    """A client for that port; the certificates here are nobody's to check."""
    if not secure:
        return http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    context = ssl._create_unverified_context()
    return http.client.HTTPSConnection("127.0.0.1", port, timeout=timeout_s, context=context)


def _answers(port: int, path: str, secure: bool) -> bool:
    connection = connect(port, secure)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ask the leader to end, then end whatever is left of its group."""
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(3)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
