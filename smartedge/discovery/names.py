"""The addresses of host names: looked up again and again, beside all requests, and the same in all workers of an edge.

Discovery yields addresses; `edge/backends.py` makes backends of them.

One worker, the leader, looks names up for all: it probes what the names lead to; a resolver that gives a few of many addresses,
others each time, would have every worker use other backends; and the resolver is asked once for the whole edge. The others read
what it has found from a file in the state directory. A worker looks a name up itself only when nobody has yet: at its start, and
for a new name of a reload.
"""

from __future__ import annotations

import json
import logging
import os
import socket as stdlib_socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from random import Random
from time import monotonic
from typing import Any

import gevent
import gevent.socket
from gevent.event import Event
from gevent.lock import BoundedSemaphore

from smartedge.config.private_file import write_private

log = logging.getLogger("smartedge")

LOOK_S = 0.25
"""How often a worker looks what is due, and what the leader has found."""

AT_ONCE = 8
"""Names that are looked up at the same time: gevent's resolver has ten threads, and silent name servers hold one each."""

HURRY_S = 1.0
"""A name whose server cannot be reached is looked up again so soon, but no sooner after the last time."""

JITTER_RATIO = 0.1

LookUp = Callable[[str], Sequence[str]]
"""Gives the IP addresses of a name, the preferred one first; raises OSError."""


class NamesFile:
    """What the leader has found, for the other workers: `{"app": ["10.0.0.5"]}`, replaced whole."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def mark(self) -> object:
        """Return what tells the file from its successor; None while there is none."""
        try:
            found = os.stat(self._path)
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size

    def read(self) -> dict[str, tuple[str, ...]]:
        """Return what it says; nothing where it cannot be read."""
        try:
            return {name: tuple(ips) for name, ips in json.loads(self._path.read_bytes()).items()}
        except (OSError, ValueError):
            return {}

    def write(self, found: Mapping[str, Sequence[str]]) -> None:
        """Replace it; raises OSError."""
        write_private(self._path, json.dumps(found).encode(), sync=False)


class Names:
    """Keeps the addresses of the names that it follows. One of each worker, owned by its `BackendRegistry`.

    found: the addresses of each name at its last good look-up; a look-up that fails or finds none changes nothing.
    changed: called, in a greenlet of its own, when `found` is another one.
    """

    def __init__(self, look_up: LookUp, rng: Random, now: Callable[[], float] = monotonic) -> None:
        self.found: Mapping[str, tuple[str, ...]] = {}
        self.changed: Callable[[], None] = lambda: None
        self._look_up = look_up
        self._rng = rng
        self._now = now
        self._every_s = 5.0
        self._due: dict[str, float] = {}
        self._began: dict[str, float] = {}
        self._running: dict[str, Any] = {}
        self._problems: dict[str, str] = {}
        self._threads = BoundedSemaphore(AT_ONCE)
        self._leads: Callable[[], bool] = lambda: True
        self._file: NamesFile | None = None
        self._mark: object = None
        self._is_news = self._is_unwritten = False
        self._said_unwritten = ""
        self._waiting = 0
        self._wake = Event()
        self._runner: Any = None

    def __repr__(self) -> str:
        known = (f"{name}: {' '.join(self.found.get(name, ('?',)))}" for name in self._due)
        return f"<Names {', '.join(known)}>"

    def follow_names(self, names: Iterable[str], every_s: float) -> None:
        """Look these up from here on, and no others; every_s: how often each, in seconds."""
        now = self._now()
        self._every_s = every_s
        self._due = {name: min(self._due.get(name, now), now + every_s) for name in names}
        self._problems = {name: text for name, text in self._problems.items() if name in self._due}
        self._wake.set()

    def share_file(self, file: NamesFile | None, leads: Callable[[], bool]) -> None:
        """Be one of several workers. file: the leader writes it, None without others. leads: whether this worker is that."""
        self._file, self._leads = file, leads

    def start(self) -> None:
        """Begin to look up."""
        if self._runner is None:
            self._runner = gevent.spawn(self._run)

    def stop(self) -> None:
        """End, with the look-ups under way."""
        gevent.killall([greenlet for greenlet in (self._runner, *self._running.values()) if greenlet is not None])
        self._runner = None
        self._running.clear()

    def wait_for_names(self, names: Iterable[str], wait_s: float) -> None:
        """Wait, for so long at most, for names that nobody has looked up yet."""
        self._read_file()
        new = [self._start_look_up(name) for name in names if name not in self.found and name not in self._problems]
        if new:
            self._waiting += 1  # the caller uses them itself, perhaps under a lock that `changed` takes
            try:
                gevent.joinall(new, timeout=wait_s)
            finally:
                self._waiting -= 1

    def addresses(self, name: str, wait_s: float) -> tuple[str, ...]:
        """Return a name's addresses for a request that comes before they are known. Raises OSError, TimeoutError among them."""
        if name not in self.found:
            self._start_look_up(name).join(wait_s)
        if name not in self.found:
            if problem := self._problems.get(name):
                raise OSError(f"{name} cannot be looked up: {problem}")
            raise TimeoutError(f"{name} was not looked up within {wait_s:g} s")
        return self.found[name]

    def look_up_soon(self, name: str) -> None:
        """Look a name up soon, for its server could not be reached."""
        if name in self._due:
            self._due[name] = min(self._due[name], self._began.get(name, 0.0) + HURRY_S)

    def _run(self) -> None:
        while True:
            try:
                self.do_what_is_due()
            except Exception:
                log.exception("what names lead to could not be put to use, and is tried again")
                gevent.sleep(HURRY_S)
            self._wake.wait(LOOK_S)
            self._wake.clear()

    def do_what_is_due(self) -> None:
        """Do what is due now."""
        if not self._due or self._waiting:
            return
        if not self._leads():
            if self._read_file():
                self.changed()
            return
        now = self._now()
        for name, due in list(self._due.items()):
            if due <= now:
                self._start_look_up(name)
        is_news, self._is_news = self._is_news, False
        if is_news or self._is_unwritten:
            self._write_file()
        if is_news:
            self.changed()

    def _start_look_up(self, name: str) -> Any:
        """Look a name up, once at a time; return the greenlet that does."""
        if name not in self._running:
            self._running[name] = gevent.spawn(self._look_up_once, name)
        return self._running[name]

    def _look_up_once(self, name: str) -> None:
        try:
            with self._threads:
                self._began[name] = self._now()
                try:
                    found, problem = tuple(dict.fromkeys(self._look_up(name))), ""
                except (OSError, UnicodeError) as error:
                    found, problem = (), str(getattr(error, "strerror", None) or error).lower()
            self._keep_found(name, found, problem or ("" if found else "it has no address"))
        finally:
            self._running.pop(name, None)
            if name in self._due:
                self._due[name] = self._now() + self._every_s * self._rng.uniform(1 - JITTER_RATIO, 1 + JITTER_RATIO)
            self._wake.set()

    def _keep_found(self, name: str, found: tuple[str, ...], problem: str) -> None:
        before = self.found.get(name, ())
        if problem:
            if self._problems.get(name) != problem:
                kept = f"; it is still taken for {', '.join(before)}" if before else ""
                log.warning("name %s cannot be looked up: %s%s", name, problem, kept)
            self._problems[name] = problem
            return
        if self._problems.pop(name, None):
            log.warning("name %s can be looked up again: %s", name, ", ".join(found))
        if set(found) != set(before):  # a resolver that shuffles has said nothing new
            if before:
                log.info("name %s has moved: from %s to %s", name, ", ".join(before), ", ".join(found))
            self.found = {**self.found, name: found}
            self._is_news = True

    def _read_file(self) -> bool:
        """Take over what the leader has found since; whether that is something new."""
        if self._file is None or (mark := self._file.mark()) == self._mark:
            return False
        self._mark = mark
        found = {name: ips for name, ips in self._file.read().items() if ips}
        if all(set(self.found.get(name, ())) == set(ips) for name, ips in found.items()):
            return False
        self.found = {**self.found, **found}
        return True

    def _write_file(self) -> None:
        """Tell the other workers; what cannot be written now (a full disk) is tried again, and said once."""
        if self._file is None:
            return
        try:
            self._file.write({name: self.found[name] for name in self._due if name in self.found})
            self._mark = self._file.mark()
            self._is_unwritten, self._said_unwritten = False, ""
        except OSError as error:
            self._is_unwritten = True
            if (problem := error.strerror or str(error)) != self._said_unwritten:
                self._said_unwritten = problem
                log.warning("the other workers cannot be told what names lead to: %s", problem)


def look_up(name: str) -> list[str]:
    """Ask the system's resolver, in a thread; raises OSError.

    Where a name has several addresses of a family, each is a server of its own: those that this machine has no way to are left
    out (IPv6 without a route), unless it has none to any.
    """
    found = gevent.socket.getaddrinfo(name, 0, type=stdlib_socket.SOCK_STREAM)
    ips = [_text(family, sockaddr) for family, _type, _proto, _name, sockaddr in found]
    return reachable(ips) if len(ips) > 2 or len({":" in ip for ip in ips}) < len(ips) else ips


def reachable(ips: list[str]) -> list[str]:
    """Leave out addresses that this machine has no way to, unless it has none to any."""
    return [ip for ip in ips if has_route(ip)] or ips


def _text(family: int, sockaddr: Any) -> str:
    scope = sockaddr[3] if family == stdlib_socket.AF_INET6 else 0
    return f"{sockaddr[0]}%{scope}" if scope else str(sockaddr[0])


def has_route(ip: str) -> bool:
    """Whether the kernel would know where to send a packet; none is sent."""
    family = stdlib_socket.AF_INET6 if ":" in ip else stdlib_socket.AF_INET
    host, _, scope = ip.partition("%")
    try:
        with stdlib_socket.socket(family, stdlib_socket.SOCK_DGRAM) as probe:
            probe.connect((host, 9, 0, int(scope)) if scope else (host, 9))
    except OSError:
        return False
    return True
