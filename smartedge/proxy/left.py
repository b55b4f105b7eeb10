"""Tries that were left waiting: their requests have gone elsewhere, and only whether an answer comes is still of interest.

A backend that is silent gets no new requests; what it still owes is how it can show that it is back. So a try that is moved
away leaves its connection open here, unread, until something comes on it, it breaks, or the time for an answer is over.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any, Final

from gevent import get_hub

from smartedge.balancer.pool import Lease, Outcome
from smartedge.http.wire import Wire

MOST: Final = 8
"""So many of one backend's are kept; the other connections are closed at once."""

Ended = Callable[[Lease, Outcome], None]
"""Told how a try ended: "ok" for an answer."""


class Left:
    """One of them. ended: closes the lease, and tells what its breaker made of it."""

    __slots__ = ("_ended", "_io", "_lease", "_proof", "_sock", "_timer")

    def __init__(self, lease: Lease, wire: Wire, wait_s: float, ended: Ended) -> None:
        sock = wire.sock._sock
        # The wire is about to be closed, for that is how its reader is woken; the connection stays for as long as this is open.
        self._sock = socket.socket(sock.family, sock.type, sock.proto, fileno=socket.dup(sock.fileno()))
        self._sock.setblocking(False)
        self._lease = lease
        self._ended = ended
        self._proof = type(wire) is Wire  # over TLS the peer is told that the connection is closed, and may close it, too
        loop = get_hub().loop
        self._io: Any = loop.io(self._sock.fileno(), 1, ref=False)
        self._io.start(self._readable)
        self._timer: Any = loop.timer(max(0.001, wait_s), ref=False)
        self._timer.start(self._end, "failed")

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
        self._ended(self._lease, outcome)
