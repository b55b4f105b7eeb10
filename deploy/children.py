"""Processes that one program starts, shows and ends: what `make run` and `make cluster` are made of.

Standard library only, one thread. Children run in process groups of their own, so that a Ctrl-C reaches the program
alone and it decides who stops when. What they print passes through unchanged, whole line by whole line. Nothing
outlives the program, even when it is killed: the kernel then tells the children (PR_SET_PDEATHSIG, prctl(2)).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import select
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import IO

ROOT = Path(__file__).resolve().parent.parent
START_S = 20.0
PR_SET_PDEATHSIG = 1


class FailedError(Exception):
    """Something does not run, or no longer: an exit status and the line that says why."""

    def __init__(self, status: int | None, why: str) -> None:
        super().__init__(why)
        self.status = 2 if status is None or status < 0 else status  # below zero: a signal has ended the child


class StoppedError(Exception):
    """Somebody has asked for the end: Ctrl-C, SIGTERM, or a terminal that is gone."""


def end_with_parent() -> None:
    """Have the kernel send SIGTERM to this process when its parent is gone; Linux only, elsewhere nothing."""
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


class Stream:
    """One output of a child on its way to ours, whole line by whole line."""

    def __init__(self, source: IO[bytes], sink: int, prefix: bytes) -> None:
        self.source = source
        self.sink = sink
        self.prefix = prefix
        self.begun = b""
        os.set_blocking(source.fileno(), False)

    def pump(self) -> bool:
        """Pass on what is there now; False when nothing is; OSError when nobody reads ours."""
        try:
            data = os.read(self.source.fileno(), 65536)
        except BlockingIOError:
            return False
        text = self.begun + data
        cut = text.rfind(b"\n") + 1
        self.begun = text[cut:]
        self.pass_on(text[:cut])
        return bool(data)

    def pass_on(self, text: bytes) -> None:
        """Write lines, each with the prefix."""
        write(self.sink, b"".join(self.prefix + line for line in text.splitlines(keepends=True)) if self.prefix else text)

    def close(self) -> None:
        """Pass on a last line that lacks its end."""
        self.source.close()
        self.pass_on(self.begun)


def write(sink: int, text: bytes) -> None:
    """Write all of it, also to a terminal that another program has made non-blocking."""
    while text:
        try:
            text = text[os.write(sink, text) :]
        except BlockingIOError:
            select.select([], [sink], [])


def say(text: str, sink: int = 1) -> None:
    """Print a line of our own."""
    with contextlib.suppress(OSError):
        write(sink, f"{text}\n".encode())


class Child:
    """A process that runs in a group of its own, and its output.

    stage: when it is ended; those of the highest one first. grace_s: how long it may take then. prefix: begins each of its
    lines.
    """

    def __init__(
        self, name: str, command: Sequence[str], stage: int, grace_s: float, prefix: str, env: Mapping[str, str]
    ) -> None:
        self.name, self.stage, self.grace_s = name, stage, grace_s
        ours = os.getpid()

        def in_the_child() -> None:
            end_with_parent()
            if os.getppid() != ours:  # gone before the kernel was asked
                os._exit(1)

        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            process_group=0,
            preexec_fn=in_the_child,  # safe: this program has one thread
        )
        out, err = self.process.stdout, self.process.stderr
        assert out is not None
        assert err is not None
        self.streams = [Stream(out, 1, prefix.encode()), Stream(err, 2, prefix.encode())]

    @property
    def status(self) -> int | None:
        """The exit status, below zero for a signal, or None while it runs."""
        return self.process.poll()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to it and to whatever it has started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)


class Children:
    """The children that run, and the signals that have come."""

    def __init__(self) -> None:
        self.children: list[Child] = []
        self.stops = 0  # how often the end was asked for
        self.selector = selectors.DefaultSelector()
        self.woken, self.wakes = socket.socketpair()
        self.woken.setblocking(False)
        self.wakes.setblocking(False)
        self.selector.register(self.woken, selectors.EVENT_READ)
        signal.set_wakeup_fd(self.wakes.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self.on_stop)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # it only has to wake the selector

    def on_stop(self, number: int, _: FrameType | None) -> None:
        """Count who asks for the end; a closing terminal may ask twice and is in no hurry."""
        self.stops = max(self.stops, 1) if number == signal.SIGHUP else self.stops + 1

    def start(
        self,
        name: str,
        *command: str,
        stage: int = 0,
        grace_s: float = 3.0,
        prefix: str = "",
        env: Mapping[str, str] | None = None,
    ) -> Child:
        """Start one; a command that begins with an option or a Python file is run by this very interpreter."""
        if command[0].startswith("-") or command[0].endswith(".py"):
            command = (sys.executable, *command)
        child = Child(name, command, stage, grace_s, prefix, env or {})
        self.children.append(child)
        for stream in child.streams:
            self.selector.register(stream.source, selectors.EVENT_READ, (child, stream))
        return child

    def turn(self, timeout_s: float | None) -> list[Child]:
        """Wait for output, a signal or the time, and pass on what was printed; which children have ended."""
        for key, _ in self.selector.select(timeout_s):
            if key.fileobj is self.woken:
                with contextlib.suppress(BlockingIOError):
                    self.woken.recv(4096)
            else:
                self.pump(*key.data, to_the_end=False)
        ended = [child for child in self.children if child.status is not None]
        for child in ended:
            self.children.remove(child)
            child.signal(signal.SIGKILL)  # whatever it had started
            for stream in list(child.streams):
                self.pump(child, stream, to_the_end=True)
        return ended

    def pump(self, child: Child, stream: Stream, *, to_the_end: bool) -> None:
        """Pass on one piece or all of the rest; a stream that has no more is done with."""
        try:
            more = stream.pump()
            while more and to_the_end:
                more = stream.pump()
            if not more:
                child.streams.remove(stream)
                self.selector.unregister(stream.source)
                stream.close()
        except OSError:  # nobody reads our own output any more: who would press Ctrl-C?
            self.stops = max(self.stops, 1)

    def wait_ended(self, child: Child) -> None:
        """Wait until one has done its work; FailedError when it has failed, which it has said itself, or StoppedError."""
        while child in self.children and not self.stops:
            self.turn(None)
        if self.stops:
            raise StoppedError
        if child.status:
            raise FailedError(child.status, "")

    def wait_ready(self, child: Child, ready: Callable[[], bool]) -> None:
        """Wait until a child does what it is for; FailedError when it is late or any child ends, or StoppedError."""
        deadline = time.monotonic() + START_S
        while not ready():
            for ended in self.turn(0.02):
                raise FailedError(ended.status or 2, f"{ended.name} did not start (exit {ended.status})")
            if self.stops:
                raise StoppedError
            if time.monotonic() > deadline:
                raise FailedError(2, f"{child.name} did not start within {START_S:.0f} s")

    def end(self) -> None:
        """Stop all that still runs, stage by stage; asked a second time, at once."""
        enough = self.stops
        for stage in sorted({child.stage for child in self.children}, reverse=True):
            late = [child for child in self.children if child.status is None and child.stage == stage]
            for child in late:
                child.signal(signal.SIGTERM)
            deadline = time.monotonic() + max((child.grace_s for child in late), default=0)
            while any(c.status is None for c in late) and self.stops <= enough and time.monotonic() < deadline:
                self.turn(0.1)
        for child in self.children:
            child.signal(signal.SIGKILL)
            child.process.wait()
        self.turn(0)  # their last words


def refuse_busy(name: str, host: str, port: int) -> None:
    """Raise FailedError when somebody listens at the address already."""
    hosts = ("127.0.0.1", "::1") if host == "localhost" else (host,)
    for address in hosts:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    find = f"ss -ltnp 'sport = :{port}'"
                    raise FailedError(2, f"port {port} for {name} is busy; stop what uses it ({find})") from None


def accepts(host: str, port: int) -> bool:
    """Whether somebody accepts connections there."""
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True


def run_children(work: Callable[[Children], None]) -> int:
    """Have `work` start and watch children, and end all that it has started; the exit status.

    0 after Ctrl-C or SIGTERM; else 2, or that of the child that failed, after one line that says why.
    """
    end_with_parent()
    children = Children()
    try:
        work(children)
    except StoppedError:
        pass
    except FailedError as error:
        if text := str(error):
            say(text, sink=2)
        return error.status
    finally:
        children.end()
    return 0
