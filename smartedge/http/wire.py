"""A socket with somebody waiting on it: reads and writes that end by themselves when a deadline passes.

gevent's own socket starts and stops a libev watcher (one `epoll_ctl` each) for every wait and a timer for every timeout. A `Wire`
keeps one read watcher armed for its whole life and leaves its deadlines to a single sweep per process, which saves a quarter of
the CPU of a small request (docs/performance.md). The price: deadlines are kept to within `SWEEP_S`.
"""

from __future__ import annotations

import socket as stdlib_socket
from collections.abc import Callable
from fcntl import ioctl
from math import inf
from termios import TIOCOUTQ
from time import monotonic
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import gevent
import gevent.monkey
from gevent import get_hub, getcurrent

SWEEP_S = 0.1
"""How often deadlines are looked at, in seconds."""

STOOD_STILL_S = 1.0
"""A loop that has not looked at its deadlines for so long has stood still: the process was stopped, or the machine."""

RECV_BYTES = 131072
"""The most that one read takes from the kernel."""

RESET = b"\1\0\0\0\0\0\0\0"
"""The SO_LINGER that makes a close a reset: on, with a time of 0."""

_Poll: Any = gevent.monkey.get_original("select", "poll")
_NONE = bytes(4)
_PROBES = (
    (stdlib_socket.SOL_SOCKET, stdlib_socket.SO_KEEPALIVE, 1),
    (stdlib_socket.IPPROTO_TCP, stdlib_socket.TCP_KEEPIDLE, 15),
    (stdlib_socket.IPPROTO_TCP, stdlib_socket.TCP_KEEPINTVL, 15),
    (stdlib_socket.IPPROTO_TCP, stdlib_socket.TCP_KEEPCNT, 4),
)


class WireTimeout(Exception):
    """The peer did nothing until the deadline."""


class WireClosed(ConnectionError):
    """This side closed the wire while somebody waited on it."""


class Sweep:
    """One timer per event loop that ends every wait whose deadline has passed, and sees to wires that nobody watches.

    Made by the first `Wire` of its loop; calls `expire` and `attend` of every one.

    polled_at: when the loop last asked the kernel (`loop.now()` is no answer: every timer that is started moves it).
    """

    _of_hub: WeakKeyDictionary[Any, Sweep] = WeakKeyDictionary()

    def __init__(self, hub: Any) -> None:
        self.wires: set[Wire] = set()
        self._looked_at = monotonic()
        self._let_pass = 0
        self._timer = hub.loop.timer(SWEEP_S, repeat=SWEEP_S, ref=False)
        self._timer.start(self._look)
        self.polled_at = 0.0
        self._check = hub.loop.check(ref=False, priority=hub.loop.MAXPRI)
        self._check.start(self._polled)

    def _polled(self) -> None:
        self.polled_at = monotonic()

    @classmethod
    def of(cls, hub: Any) -> Sweep:
        """Give the sweep of this hub's loop, made when it is first asked for."""
        sweep = cls._of_hub.get(hub)
        if sweep is None:
            sweep = cls._of_hub[hub] = cls(hub)
        return sweep

    def _look(self) -> None:
        now = monotonic()
        # After a standstill it has still to be told what came in time: the kernel is asked in this round of the loop or the next
        # (a SIGCONT interrupts the first), and timers come first in each. So two looks are let pass, then one is made whatever
        # happens, for a loop may always be slow.
        stood_still = now - self._looked_at > STOOD_STILL_S
        self._looked_at = now
        if self._let_pass < 2 and (stood_still or self._let_pass):
            self._let_pass += 1
            return
        self._let_pass = 0
        late = []
        for wire in tuple(self.wires):  # `attend` may close some of them
            if wire.read_deadline < now or wire.write_deadline < now:
                late.append(wire)
            elif wire.on_idle is not None:
                wire.attend()
        for wire in late:
            wire.expire(now)


class Side(Protocol):
    """A connection as a tunnel and `linger` use it: a `Wire`, or gunicorn's socket as a `BorrowedWire` (proxy/foreign.py)."""

    def recv(self, timeout_s: float, size: int = ...) -> bytes: ...  # noqa: D102
    def send(self, data: bytes, timeout_s: float) -> None: ...  # noqa: D102
    def finish_sending(self) -> None: ...  # noqa: D102
    def break_off(self) -> None: ...  # noqa: D102
    def close(self) -> None: ...  # noqa: D102


class Wire:
    """A plain TCP connection, used by at most one reader and one writer greenlet at a time.

    Owned by whoever opened or accepted it: `EdgeHandler`, the adapter of a backend (proxy/transport.py), a probe, a tunnel.

    sock: a connected socket, ours (http/sockets.py) or gevent's; the wire owns it from here on.
    urgent: what happens here is told before what happens elsewhere in the same round of the event loop. The connections to
        backends are: what one sends unasked is known before a request of that round could go out on it and get it for an answer.
    on_idle: called without arguments when the peer sends or closes, or the deadline passes, while nobody reads
        (a pooled connection that went stale); None means nobody wants to know.
    """

    __slots__ = (
        "__weakref__",
        "_armed",
        "_hub",
        "_io",
        "_loop",
        "_reader",
        "_recv",
        "_send",
        "_sweep",
        "_tried",
        "_urgent",
        "_writer",
        "closed",
        "on_idle",
        "read_deadline",
        "readable",
        "sock",
        "write_deadline",
    )

    def __init__(self, sock: Any, *, urgent: bool = False) -> None:
        self.sock = sock
        self._urgent = urgent
        self.closed = False
        self.readable = False
        self.read_deadline = self.write_deadline = inf
        self.on_idle: Callable[[], None] | None = None
        self._recv = sock._sock.recv
        self._send = sock._sock.send
        self._io: Any = None
        self._armed = False
        self._tried = False
        self._reader: Any = None
        self._writer: Any = None
        self._hub = get_hub()
        self._loop = Sweep.of(self._hub)
        self._sweep = self._loop.wires
        self._sweep.add(self)

    def recv(self, timeout_s: float, size: int = RECV_BYTES) -> bytes:
        """Wait for bytes and take what is there: at least one byte, at most `size`, or b"" when the peer has finished.

        Raises WireTimeout after about `timeout_s` seconds of silence, ConnectionError when the connection broke.
        """
        if not self._tried:
            # The first bytes of a new connection are often there already: then no watcher is needed at all.
            self._tried = True
            try:
                return self._recv(size)  # type: ignore[no-any-return]
            except BlockingIOError:
                pass
        while True:
            if self.readable:
                self.readable = False
            else:
                self.wait_readable(timeout_s)
            try:
                return self._recv(size)  # type: ignore[no-any-return]
            except BlockingIOError:
                continue

    def wait_readable(self, timeout_s: float) -> None:
        """Wait until a read would not block; raises as `recv` does."""
        if self.readable:
            self.readable = False
            return
        if self.closed:
            raise WireClosed("the connection is closed")
        if not self._armed:
            self._arm()
        self._reader = getcurrent()
        self.read_deadline = monotonic() + timeout_s
        try:
            self._hub.switch()
        finally:
            self._reader = None
            self.read_deadline = inf

    def _on_readable(self) -> None:
        reader = self._reader
        if reader is not None:
            reader.switch()
            return
        # Nobody reads now. The watcher is level-triggered and would fire again at once: let it rest until somebody does.
        self._armed = False
        self.readable = True
        self._io.stop()
        if self.on_idle is not None:
            self.on_idle()

    def expect_within(self, timeout_s: float) -> None:
        """Give whoever reads now a new deadline."""
        if self._reader is not None:
            self.read_deadline = monotonic() + timeout_s

    def watch(self, idle_s: float) -> float:
        """Have `on_idle` called when the peer closes or sends while nobody reads, or after `idle_s` seconds; return the time."""
        now = monotonic()
        self.read_deadline = now + idle_s
        if not self._armed:
            self.attend()
        return now

    def attend(self) -> None:
        """Arm the watcher for somebody who set `on_idle` (called by the sweep: a quick answer does without a watcher).

        Where unread bytes lie, the watcher would tell of nothing else, and rests: the kernel is asked whether the peer is gone.
        """
        if self._armed:
            return
        if not self.readable:
            self._arm()
        elif self.on_idle is not None and self.peer_is_gone():
            self.on_idle()

    def _arm(self) -> None:
        if self._io is None:
            self._io = self.sock._read_event
            if self._urgent:
                self._io.priority = self._hub.loop.MAXPRI
        self._armed = True
        self._io.start(self._on_readable)

    def unseen_s(self) -> float:
        """How long ago the event loop last asked the kernel what there is, in seconds: what came since is not known."""
        return monotonic() - self._loop.polled_at

    def peer_is_quiet(self) -> bool:
        """Ask the kernel whether the peer has neither sent nor closed (one system call)."""
        if self.readable or self.closed:
            return False
        try:
            self._recv(1, stdlib_socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def peer_is_gone(self) -> bool:
        """Ask the kernel whether the connection is at its end: reset, or closed by both sides. Unread bytes hide nothing.

        A peer that has only finished sending waits for its answer, or has closed: nobody can tell until it is sent something.
        """
        if self.closed:
            return True
        asked = _Poll()
        asked.register(self.sock.fileno(), 0)
        return bool(asked.poll(0))  # nothing is asked for: what is told is POLLERR or POLLHUP

    def probe_peer(self) -> None:
        """Have the kernel ask now and then whether the peer still exists: one that has closed says no after a minute or so."""
        for level, option, value in _PROBES:
            try:
                self.sock._sock.setsockopt(level, option, value)
            except OSError:
                return  # a unix socket needs none

    def may_close(self) -> bool:
        """Whether a close destroys nothing: the peer has finished, or it has received all that was sent and said no more."""
        return nothing_on_its_way(self.sock._sock)

    def end_wait(self) -> None:
        """End the wait of whoever reads as if its time were over; within SWEEP_S."""
        self.read_deadline = -inf

    def send(self, data: bytes | bytearray | memoryview, timeout_s: float) -> None:
        """Send all of `data`; raises WireTimeout when the peer takes nothing for `timeout_s` seconds, OSError when it is gone."""
        try:
            sent = self._send(data)
        except BlockingIOError:
            sent = 0
        if sent == len(data):
            return
        left = memoryview(data)[sent:]
        while left:
            self._wait_writable(timeout_s)
            try:
                left = left[self._send(left) :]
            except BlockingIOError:
                continue

    def _wait_writable(self, timeout_s: float) -> None:
        if self.closed:
            raise WireClosed("the connection is closed")
        self._writer = getcurrent()
        self.write_deadline = monotonic() + timeout_s
        try:
            self._hub.wait(self.sock._write_event)
        finally:
            self._writer = None
            self.write_deadline = inf

    def expire(self, now: float) -> None:
        """End the waits whose deadline is before `now` (called by the sweep, in the hub)."""
        if self.read_deadline < now:
            self.read_deadline = inf
            if self._reader is not None:
                self._reader.throw(WireTimeout("nothing was received in time"))
            elif self.on_idle is not None:
                self.on_idle()
        if self.write_deadline < now:
            self.write_deadline = inf
            if self._writer is not None:
                self._writer.throw(WireTimeout("nothing could be sent in time"))

    def finish_sending(self) -> None:
        """Tell the peer that nothing more comes (half close)."""
        try:
            self.sock._sock.shutdown(stdlib_socket.SHUT_WR)
        except OSError:
            pass  # It is gone already, which says the same.

    def break_off(self) -> None:
        """Have `close` reset the connection: the peer can tell that something is missing."""
        if not self.closed:
            self.sock._sock.setsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_LINGER, RESET)

    def close(self) -> None:
        """Close the connection; whoever waits on it in another greenlet gets a WireClosed."""
        if self.closed:
            return
        self.closed = True
        self._sweep.discard(self)
        self.on_idle = None
        if self._armed:
            self._io.stop()
        if self._reader is not None or self._writer is not None:
            self._hub.loop.run_callback(self._wake)
        self._recv = self._send = _refuse
        self.sock.close()

    def _wake(self) -> None:
        for waiting in (self._reader, self._writer):
            if waiting is not None:
                waiting.throw(WireClosed("the connection is closed"))


def nothing_on_its_way(sock: Any) -> bool:
    """Whether closing this socket (a non-blocking one of `_socket`) destroys nothing; see Wire.may_close."""
    try:
        return not sock.recv(1, stdlib_socket.MSG_PEEK)
    except BlockingIOError:
        return ioctl(sock.fileno(), TIOCOUTQ, _NONE) == _NONE
    except OSError:
        return True


def _refuse(*_args: object) -> Any:
    raise WireClosed("the connection is closed")


def spawn(function: Callable[[], None]) -> Any:
    """Run `function` in a greenlet of its own."""
    return gevent.spawn(function)
