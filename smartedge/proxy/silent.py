"""Requests that wait on a silent backend are tried elsewhere; what they leave there shows whether the backend is back.

A backend that is silent gets no new requests; what it still owes is how it can show that it is back. So a try that is moved
away leaves its connection open here, unread, until something comes on it, it breaks, or the time for an answer is over.
"""

from __future__ import annotations

import socket
from time import monotonic
from typing import Any, Final

from gevent import get_hub

from smartedge.balancer.cells import RETRIES
from smartedge.balancer.errors import BackendTimeout
from smartedge.balancer.pool import Lease, Outcome
from smartedge.balancer.watch import leases_to_move
from smartedge.http.wire import Wire
from smartedge.proxy.attempts import Attempts
from smartedge.proxy.connection import Connection
from smartedge.proxy.outbound import Outbound
from smartedge.proxy.service import Service
from smartedge.proxy.tried import keep

MOST: Final = 8
"""So many tries are left waiting on one backend; the other connections are closed at once."""

LEFT_LOOK_S: Final = 0.5
"""How often one of them looks whether its time is over."""


def leave_silent(service: Service, now: float) -> None:
    """Have requests that wait on silent backends tried elsewhere; called by the edge, every `balancer.watch.LOOK_S`."""
    for lease in leases_to_move(service.pool, service.budget, now):
        assert isinstance(lease.holder, Attempts)
        move(lease.holder, lease, now)


def move(attempts: Attempts, lease: Lease, now: float) -> None:
    """Have a request go on with another backend than that of this lease, if that may be.

    A sticky session stays, and a race looks after itself. What waits for its own connection, or for its client, is not at
    the backend yet.
    """
    outbound = attempts.under_way
    if lease is not attempts.lease or not isinstance(outbound, Outbound) or not isinstance(outbound.connection, Connection):
        return
    wire = outbound.connection.wire
    if wire.closed or attempts.preferred == lease.backend.id:
        return
    if attempts.replay is not None and attempts.replay.twin() is None:
        return
    if not attempts.more_tries.again(now, sent=True):
        return
    another = attempts.take_another(now, "retry", RETRIES, must=False)
    if another is None:
        return
    if lease.record is not None:
        lease.record.end(now, "overdue")
    if attempts.tried is not None:
        attempts.tried = keep(attempts.tried, lease, "overdue", reason="timeout")
    attempts.moved_to, attempts.lease = another, None
    if sum(other.left for other in lease.backend.learned.waiting) < MOST:
        lease.left = True
        LeftTry(attempts, lease, wire, lease.sent_at + lease.backend.transport.adapter.limits.first_byte_s - now)
    else:
        attempts.lease_ended(lease, lease.close(now, "abandoned"))
    outbound.cancel(BackendTimeout("The backend leaves unanswered what others answer."))


class LeftTry:
    """A try whose request has gone elsewhere; made by `move`, ends itself. wait_s: how long an answer may still take."""

    __slots__ = ("_attempts", "_io", "_lease", "_proof", "_sock", "_timer", "_until")

    def __init__(self, attempts: Attempts, lease: Lease, wire: Wire, wait_s: float) -> None:
        sock = wire.sock._sock
        # The wire is about to be closed, for that is how its reader is woken; the connection stays for as long as this is open.
        self._sock = socket.socket(sock.family, sock.type, sock.proto, fileno=socket.dup(sock.fileno()))
        self._sock.setblocking(False)
        self._attempts = attempts
        self._lease = lease
        self._proof = type(wire) is Wire  # over TLS the peer is told that the connection is closed, and may close it, too
        loop = get_hub().loop
        self._io: Any = loop.io(self._sock.fileno(), 1, ref=False)
        self._io.start(self._readable)
        self._until = monotonic() + wait_s
        self._timer: Any = loop.timer(max(0.001, min(wait_s, LEFT_LOOK_S)), LEFT_LOOK_S, ref=False)
        self._timer.start(self._look)

    def _look(self) -> None:
        """End when the time is over, or its backend has another process, of which no answer is expected (`forget_lost`)."""
        if self._lease not in self._lease.backend.learned.waiting:
            self._end("abandoned")
        elif monotonic() >= self._until:
            self._end("failed")

    def _readable(self) -> None:
        try:
            answered = bool(self._sock.recv(1, socket.MSG_PEEK))
        except BlockingIOError:
            return
        except OSError:
            answered = False
        self._end("ok" if answered else "failed" if self._proof else "abandoned")

    def _end(self, outcome: Outcome) -> None:
        self._io.stop()
        self._io.close()
        self._timer.stop()
        self._timer.close()
        self._sock.close()
        now = monotonic()
        if outcome == "ok":
            self._lease.answered(now)
            outcome = "abandoned"  # nobody reads it
        self._attempts.lease_ended(self._lease, self._lease.close(now, outcome))
