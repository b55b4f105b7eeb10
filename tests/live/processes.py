"""Real processes for the live tests: start one, wait until it is ready, read its output, leave nothing of it.

Every process gets a session of its own, and everything that it starts stays in that session whatever process
group it moves to: this is how the end of a test finds all of it (Linux: /proc).
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parents[2]

Truth = TypeVar("Truth")


PATIENCE = 4
LONGEST_S = 100.0
"""Below pytest's own timeout, so that it is said what was waited for."""

FIRST_PAUSE_S, LAST_PAUSE_S = 0.01, 0.03
"""Between two looks at a condition: not too often, for who is asked is slowed down; but asking may be what brings it about."""


def wait_until(condition: Callable[[], Truth], timeout_s: float = 10.0, what: str = "") -> Truth:
    """Return the first true answer of `condition`, or fail and say `what` was waited for.

    timeout_s: far more than it takes on a machine that is idle; a loaded one has PATIENCE times that.
    An OSError or HTTPException in it means "not yet": so a connection may be tried until it is accepted.
    """
    deadline = time.monotonic() + min(PATIENCE * timeout_s, LONGEST_S)
    last: object = None
    pause_s = FIRST_PAUSE_S
    while True:
        try:
            last = answer = condition()
            if answer:
                return answer
        except (OSError, http.client.HTTPException) as error:
            last = error
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {PATIENCE} times {timeout_s} s: {what or condition} (last: {last!r})")
        time.sleep(pause_s)
        pause_s = min(pause_s * 1.25, LAST_PAUSE_S)


def free_port() -> int:
    """A port that nobody listens on now, on either loopback address."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as first:
            port: int = first.getsockname()[1]
        if not listens(port, "::1"):
            return port


def listens(port: int, host: str = "127.0.0.1") -> bool:
    """Whether somebody accepts connections there."""
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True


@dataclass(frozen=True)
class Answer:
    """An HTTP answer, headers in order as they came."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        """The first value of a header, or None."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    @property
    def text(self) -> str:
        """The body as UTF-8."""
        return self.body.decode()

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


def ask(
    url: str,
    method: str = "GET",
    *,
    headers: Mapping[str, str] | None = None,
    body: bytes | str | None = None,
    timeout_s: float = 10.0,
) -> Answer:
    """One HTTP request on a connection of its own; the path goes out as written."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout_s)
    try:
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request(method, target, body, dict(headers or {}))
        answer = connection.getresponse()
        return Answer(answer.status, answer.getheaders(), answer.read())
    finally:
        connection.close()


def members(session: int) -> dict[int, str]:
    """The living processes of a session: pid to command line. Zombies are dead."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError, IndexError):
            # After the name, which may contain anything: state, ppid, pgrp, session (proc(5)).
            state, _, _, its_session, *_ = (entry / "stat").read_text().rpartition(")")[2].split()
            if int(its_session) == session and state not in "ZX":
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                found[int(entry.name)] = command.strip()
    return found


class Running:
    """A started process with all that it has started in turn, and what they have printed (stderr too)."""

    def __init__(self, command: Sequence[str | Path], cwd: Path, env: Mapping[str, str] | None) -> None:
        self.command = [str(part) for part in command]
        # A file never fills up and blocks its writer, as a pipe does.
        self._printed = tempfile.TemporaryFile()  # noqa: SIM115 - closed by end()
        self.process = subprocess.Popen(
            self.command,
            cwd=cwd,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=self._printed,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.pid = self.process.pid

    @property
    def output(self) -> str:
        """Everything printed until now."""
        size = os.fstat(self._printed.fileno()).st_size
        return os.pread(self._printed.fileno(), size, 0).decode(errors="replace")

    @property
    def lines(self) -> list[str]:
        """The output by lines."""
        return self.output.splitlines()

    def members(self) -> dict[int, str]:
        """The process and its living descendants: pid to command line."""
        return members(self.pid)

    def find(self, words: str) -> int:
        """The pid of the one member whose command line contains these words."""
        found = [pid for pid, command in self.members().items() if words in command]
        assert len(found) == 1, f"{words!r} is {len(found)} times in {self.members()}"
        return found[0]

    def wait_for(self, pattern: str, timeout_s: float = 10.0) -> re.Match[str]:
        """Wait until the output matches a regular expression (^ and $ are ends of lines)."""

        def seen() -> re.Match[str] | None:
            match = re.search(pattern, self.output, re.MULTILINE)
            if match is None and self.process.poll() is not None:
                match = re.search(pattern, self.output, re.MULTILINE)
                assert match, f"ended with {self.process.returncode} before printing {pattern!r}\n{self}"
            return match

        try:
            found = wait_until(seen, timeout_s, f"{pattern!r} in the output")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self}") from None
        assert found is not None
        return found

    def wait(self, timeout_s: float = 10.0) -> int:
        """Wait for the process's own end; its exit status."""
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still runs after {timeout_s} s\n{self}") from None

    def interrupt(self) -> None:
        """What a terminal does on Ctrl-C: SIGINT to the whole foreground process group."""
        os.killpg(self.pid, signal.SIGINT)

    def stop(self, how: signal.Signals = signal.SIGTERM, timeout_s: float = 10.0) -> int:
        """Send a signal to the process alone and wait for its end; its exit status."""
        self.process.send_signal(how)
        return self.wait(timeout_s)

    def end(self) -> None:
        """Leave nothing of it: SIGTERM to every member, and soon SIGKILL."""
        for how, patience_s in ((signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0)):
            for pid in self.members():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, how)
            deadline = time.monotonic() + patience_s
            while (self.process.poll() is None or self.members()) and time.monotonic() < deadline:
                time.sleep(0.02)
        self.process.wait(5)
        self._printed.close()

    def __str__(self) -> str:
        return f"$ {' '.join(self.command)}\n{self.output}"


@contextlib.contextmanager
def running(
    command: Sequence[str | Path],
    ready: str | int | Callable[[], object] | None = None,
    *,
    timeout_s: float = 20.0,
    cwd: Path = ROOT,
    env: Mapping[str, str] | None = None,
) -> Iterator[Running]:
    """Run a command until the block ends; then nothing of it is left, whatever happened.

    `ready` is a regular expression for its output, a port on 127.0.0.1, or a question that is to become true.
    """
    process = Running(command, cwd, env)
    try:
        if isinstance(ready, str):
            process.wait_for(ready, timeout_s)
        elif ready is not None:
            port = ready

            def question() -> object:
                assert process.process.poll() is None, f"ended with {process.process.returncode}\n{process}"
                return listens(port) if isinstance(port, int) else port()

            try:
                wait_until(question, timeout_s, f"ready: {ready}")
            except AssertionError as error:
                raise AssertionError(f"{error}\n{process}") from None
        yield process
    finally:
        process.end()
