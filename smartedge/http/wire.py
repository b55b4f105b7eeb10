"""A socket with somebody waiting on it: reads and writes that end by themselves when a deadline passes.

gevent's own socket starts and stops a libev watcher (one `epoll_ctl` each) for every wait and a timer for every timeout. A `Wire`
keeps one read watcher armed for its whole life and leaves its deadlines to a single sweep per process, which saves a quarter of
the CPU of a small request (docs/performance.md). The price: deadlines are kept to within `SWEEP_S`.
"""

from __future__ import annotations

import socket as stdlib_socket
from collections.abc import Callable
from math import inf
from time import monotonic
from typing import Any, Final

from gevent import get_hub, getcurrent
from greenlet import greenlet  # type: ignore[import-untyped]

from smartedge.http.derivable import mypyc_attr
from smartedge.http.peer import FINISHED_S, RESET, asker, has_finished, is_gone, keep_asking, nothing_on_its_way
from smartedge.http.sweep import Sweep
from smartedge.http.wire_errors import WireClosed, WireStalled, WireTimeout

__all__ = ["AT_ONCE_BYTES", "RECV_BYTES", "Wire", "WireClosed", "WireStalled", "WireTimeout"]

RECV_BYTES: Final = 131072
"""The most that one read takes from the kernel."""

AT_ONCE_BYTES: Final = 65536
"""What is as long as this, or longer, waits for nobody: the call costs little beside the copying."""

_switch_to: Callable[[Any], Any] = greenlet.switch  # the hub's own asks first whether the one who leaves wants to be told


@mypyc_attr(allow_interpreted_subclasses=True)
class Wire:
    """A plain TCP connection, used by at most one reader and one writer greenlet at a time.

    Owned by whoever opened or accepted it: `EdgeHandler`, the adapter of a backend (proxy/transport.py), a probe, a tunnel.

    sock: a connected socket, ours (http/sockets.py) or gevent's; the wire owns it from here on.
    urgent: what happens here is told before what happens elsewhere in the same round of the event loop. The connections to
        backends are: what one sends unasked is known before a request of that round could go out on it and get it for an answer.
    on_idle: called without arguments when the peer sends or closes, or the deadline passes, while nobody reads
        (a pooled connection that went stale); None means nobody wants to know.
    loop: what is done for all wires of its event loop.
    sent_at: when what `send` had put off last went out, by the monotonic clock; 0 before. unsent: of what it put off last not a
        byte has gone out, nor will. stuck: what `send` has put off waits for the socket to take more.
    """

    __slots__ = (
        "__weakref__",
        "_armed",
        "_asker",
        "_at_once",
        "_failure",
        "_hub",
        "_io",
        "_probed",
        "_reader",
        "_recv",
        "_send",
        "_send_s",
        "_tried",
        "_urgent",
        "_waiting",
        "_writer",
        "closed",
        "loop",
        "on_idle",
        "read_deadline",
        "readable",
        "sent_at",
        "sock",
        "stuck",
        "unsent",
        "write_deadline",
    )

    def __init__(self, sock: Any, *, urgent: bool = False) -> None:
        self.sock = sock
        self._urgent = urgent
        self.closed = self.readable = self.unsent = False
        self.read_deadline = self.write_deadline = inf
        self.on_idle: Callable[[], None] | None = None
        self._recv = sock._sock.recv
        self._send = sock._sock.send
        self._io: Any = None
        self._asker: Any = None  # knows whether the peer is quiet
        self._armed = self._tried = self._probed = False
        self._reader: Any = None
        self._writer: Any = None
        self._waiting = b""  # to be sent at the end of this round, or once the socket takes more
        self._send_s = 0.0
        self._at_once = self.stuck = False
        self._failure: Exception | None = None  # of what was put off
        self.sent_at = 0.0
        self._hub = get_hub()
        self.loop = Sweep.of(self._hub)
        self.loop.wires.add(self)

    def recv(self, timeout_s: float, size: int = RECV_BYTES) -> bytes:
        """Wait for bytes and take what is there: at least one byte, at most `size`, or b"" when the peer has finished.

        Raises WireTimeout after about `timeout_s` seconds of silence, ConnectionError when the connection broke; when there is
        nothing to read, also what befell the bytes that `send` had put off: WireStalled, OSError.
        """
        if not self._tried:
            # The first bytes of a new connection are often there already: then no watcher is needed at all.
            self._tried = True
            if not self._waiting:  # else it is the peer who waits
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
        if self._failure is not None:
            raise self._failure
        if not self._armed:
            self._arm()
        self._reader = getcurrent()
        self.read_deadline = monotonic() + timeout_s
        try:
            _switch_to(self._hub)
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

        Where unread bytes lie, the watcher would tell of nothing else, and rests: the kernel is asked whether the peer is gone,
        and before it was probed whether it has finished.
        """
        if self._armed:
            return
        if not self.readable:
            self._arm()
        elif self.on_idle is not None and (self.peer_is_gone() if self._probed else has_finished(self.sock.fileno())):
            self.on_idle()

    def _arm(self) -> None:
        if self._io is None:
            self._io = self.sock._read_event
            if self._urgent:
                self._io.priority = self._hub.loop.MAXPRI
        self._armed = True
        self._io.start(self._on_readable)

    def peer_is_quiet(self) -> bool:
        """Ask the kernel whether the peer has neither sent nor closed (one system call)."""
        if self.readable or self.closed:
            return False
        if self._asker is None:
            self._asker = asker(self.sock.fileno())
        return not self._asker(0)  # a read that finds nothing would raise, which takes three times as long

    def peer_is_gone(self) -> bool:
        """Ask the kernel whether the connection is at its end: reset, or closed by both sides. Unread bytes hide nothing.

        A peer that has only finished sending waits for its answer, or has closed: nobody can tell until it is sent something.
        """
        return self.closed or is_gone(self.sock.fileno())

    def probe_peer(self, word: bytes = b"") -> None:
        """Have it found out whether a silent peer still exists; `peer_is_gone` knows then. Waits for nothing.

        The kernel asks it: one that has closed says no after a minute or so. After FINISHED_S `on_idle` is called again; a peer
        that has finished sending gets `word` at that call: who has closed refuses it at once.
        """
        keep_asking(self.sock._sock)
        if not self._probed:
            self._probed = has_finished(self.sock.fileno())
            self.read_deadline = monotonic() + FINISHED_S
        elif word and not self._waiting and self._writer is None and self._failure is None:
            self._put_off(word)

    def _put_off(self, data: bytes) -> None:
        self._waiting, self._send_s = data, inf
        self.loop.sending.append(self)

    def may_close(self) -> bool:
        """Whether a close destroys nothing: the peer has finished, or it has received all that was sent and said no more."""
        self.send_waiting(monotonic())
        return not self._waiting and nothing_on_its_way(self.sock._sock)

    def end_wait(self) -> None:
        """End the wait of whoever reads as if its time were over; within SWEEP_S."""
        self.read_deadline = -inf

    # ---- sending ----

    def send(self, data: bytes | bytearray | memoryview, timeout_s: float) -> None:
        """Send all of `data`: what is long at once, what is short, in a busy loop, at the end of its round.

        Raises WireStalled when the peer takes nothing for `timeout_s` seconds, OSError when it is gone. What was put off can
        raise only later: then the next `send` does, or a `recv` that finds nothing. Where the error is needed now: `send_now`.
        """
        waiting, loop = self._waiting, self.loop
        loop.sends += 1
        if self._at_once or not loop.busy or len(waiting) + len(data) >= AT_ONCE_BYTES:
            Wire.send_now(self, data, timeout_s)  # this one's own: what comes from TlsWire is encrypted already
            return
        if waiting:
            self._waiting = waiting + data
        else:
            self._waiting = bytes(data)
            loop.sending.append(self)
        self._send_s = timeout_s

    def send_now(self, data: bytes | bytearray | memoryview, timeout_s: float) -> None:
        """Send all of `data`, behind what waits already, and return when the kernel has it; raises as `send` does."""
        if self._failure is not None:
            raise self._failure
        waiting, self._waiting = self._waiting, b""
        if self.stuck:
            self._let_go()
        try:
            sent = self.sock._sock.sendmsg((waiting, data)) if waiting else self._send(data)
        except BlockingIOError:
            sent = 0
        missing = len(waiting) + len(data) - sent
        self._at_once = missing > 0  # A peer that is slow now may be so at the end of its answer, and that is told here.
        if not missing:
            return
        left = memoryview(data)[-missing:] if missing <= len(data) else memoryview(waiting + data)[sent:]
        while left:
            self._wait_writable(timeout_s)
            try:
                left = left[self._send(left) :]
            except BlockingIOError:
                continue

    def send_waiting(self, now: float) -> None:
        """Send what `send` has put off, as much of it as the socket takes (called by the Sweep at the end of the round)."""
        waiting = self._waiting
        if not waiting:
            return
        try:
            sent = self._send(waiting)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self.unsent = not self.stuck
            self._fail(error)
            return
        if sent == len(waiting):
            self._waiting = b""
            self.sent_at = now
            if self.stuck:
                self._let_go()
            return
        self._waiting = waiting[sent:]
        if not self.stuck:
            # Whoever waits here waits for bytes, and nobody may come to send any: the loop goes on with it.
            self.stuck = self._at_once = True
            self.sock._write_event.start(lambda: self.send_waiting(monotonic()))
        self.write_deadline = now + self._send_s

    def _let_go(self) -> None:
        """Have the loop go on no more; whoever calls this does."""
        self.stuck = False
        self.write_deadline = inf
        self.sock._write_event.stop()

    def _fail(self, error: Exception) -> None:
        """Keep what befell bytes that nobody sends any more for the next use of the wire; a reader reads what is there first."""
        if self.stuck:
            self._let_go()
        self._waiting = b""
        self._failure = error.with_traceback(None)
        self._at_once = self.readable = True
        if self._reader is not None:
            self._hub.loop.run_callback(self._read_again)

    def _read_again(self) -> None:
        if self._reader is not None:
            self._reader.switch()

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
            stalled = WireStalled("nothing could be sent in time")
            if self._writer is not None:
                self._writer.throw(stalled)
            elif self.stuck:
                self._fail(stalled)

    # ---- the end ----

    def finish_sending(self) -> None:
        """Tell the peer that nothing more comes (half close), behind what waits to be sent."""
        try:
            if self._waiting:
                Wire.send_now(self, b"", self._send_s)
        except (OSError, WireTimeout):
            return
        try:
            self.sock._sock.shutdown(stdlib_socket.SHUT_WR)
        except OSError:
            pass  # It is gone already, which says the same.

    def break_off(self) -> None:
        """Have `close` reset the connection: the peer can tell that something is missing."""
        if not self.closed:
            self.sock._sock.setsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_LINGER, RESET)

    def close(self) -> None:
        """Close the connection; whoever waits on it in another greenlet gets a WireClosed.

        What waits to be sent goes out before, as far as the socket takes it at once.
        """
        if self.closed:
            return
        if self.stuck:
            self._let_go()
        if self._waiting:
            try:
                self._send(self._waiting)
            except OSError:
                pass  # Who closes wants to hear of nothing.
        self.closed = self._at_once = True
        self._waiting = b""
        self._failure = None  # its traceback may hold this
        self.loop.wires.discard(self)
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


def _refuse(*_args: object) -> Any:
    raise WireClosed("the connection is closed")
