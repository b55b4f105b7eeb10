"""The server: accepts connections while there is room for them, and stops when their requests are answered."""

from __future__ import annotations

import contextlib
import socket as stdlib_socket
from collections import deque
from time import monotonic
from typing import Any

from gevent import get_hub, sleep, spawn_later
from gevent.baseserver import _handle_and_close_when_done
from gevent.pool import Pool
from gevent.pywsgi import WSGIServer

from smartedge.balancer.errors import EdgeStopped
from smartedge.http.resources import HOLDERS, NO_ROOM, is_own, most_clients, tell_own_trouble
from smartedge.http.sockets import Socket
from smartedge.server.front import Front
from smartedge.server.greenlets import GreenletPool, LimitedGreenletPool
from smartedge.server.handler import EdgeHandler
from smartedge.server.reader import FRESH_S

ENDED_S = 1.0
"""How long connections that were cut at the end of a stop may take to be counted and logged, in seconds."""

TOLD_S = 0.5
"""How long the clients of those may take to be told why, in seconds."""

LAST_CALL_S = 0.5
"""Where nobody is in a hurry, connections that still wait for a request are closed so many seconds before the end of a stop."""

PAUSE_S = 0.05
"""When there is room for no more, it is looked again after so long."""


PARTING_S = 0.5
MOST_TURNED_AWAY = 256
PARTING_BYTES = 65536
"""Clients for whom there is no memory have so long to read that; so many at a time, of whom so much is taken in."""


class EdgeServer(WSGIServer):  # type: ignore[misc]
    """Serves an app on a listener; made by `run` (cli/), by gunicorn (worker.py) and by `AdminDoor`, one for each listener.

    gevent's WSGIServer with an `EdgeHandler` for each connection, greenlets that are used again, and a stop that waits for
    answers, not for idle connections. ssl_context: has clients speak TLS; or a function that is asked for every connection, and
    gives None for plain ones. front: what all connections share. connections: how many are open; most_connections: no more are
    accepted, as many as the limit of descriptors carries unless given, and idle ones are closed for new ones.
    """

    def __init__(
        self,
        listener: Any,
        application: Any = None,
        *,
        ssl_context: Any = None,
        most_connections: int | None = None,
        **kwargs: Any,
    ) -> None:
        self.front = Front(application, ssl_context if callable(ssl_context) else lambda: ssl_context)
        kwargs.setdefault("log", None)
        kwargs["spawn"] = _spawner(kwargs.get("spawn"))
        self.connections = 0
        self._leaving: set[Any] = set()
        self._turned_away: deque[tuple[float, Socket]] = deque()
        self._parting = get_hub().loop.timer(PARTING_S, PARTING_S / 2, ref=False)
        self.most_connections = most_connections or most_clients()
        super().__init__(listener, application, **kwargs)
        self.front.environ = self.environ
        HOLDERS.add(self)

    def handle(self, sock: Any, address: Any) -> None:
        """Serve one connection, in a greenlet of its own."""
        EdgeHandler(sock, address, self.front).handle()

    def do_handle(self, sock: Any, address: Any) -> None:
        """Have a connection served in a greenlet of its own, or turned away where there is no memory for one."""
        try:
            self._spawn(_handle_and_close_when_done, self._handle, self.do_close, (sock, address))
        except MemoryError as error:
            HOLDERS.make_room(error, "accepting a connection")
            self._turn_away(sock)

    def _turn_away(self, sock: Socket) -> None:
        """Answer that there is no memory, with next to none: by the kernel alone, and without waiting for the request.

        A client that has been closed before its request has come is told no more than that: a moment is left for that. Over TLS
        the connection is closed, for to shake hands takes as much memory as to serve.
        """
        if self.front.tls() is not None:
            self.do_close(sock)
            return
        try:
            sock._sock.send(NO_ROOM)
            sock._sock.shutdown(stdlib_socket.SHUT_WR)
        except OSError:
            self.do_close(sock)
            return
        if not self._turned_away:
            self._parting.start(self._part, update=True)
        self._turned_away.append((monotonic(), sock))
        if len(self._turned_away) > MOST_TURNED_AWAY:
            self._part_from_oldest()

    def _part(self) -> None:
        """Close those that were turned away a moment ago; what they have sent is taken in, or a reset takes the answer away."""
        until = monotonic() - PARTING_S
        while self._turned_away and self._turned_away[0][0] <= until:
            self._part_from_oldest()
        if not self._turned_away:
            self._parting.stop()

    def _part_from_oldest(self) -> None:
        _, sock = self._turned_away.popleft()
        with contextlib.suppress(OSError, MemoryError):
            sock._sock.recv(PARTING_BYTES)
        self.do_close(sock)

    def init_socket(self) -> None:
        """Listen, without Nagle's delay: accepted sockets inherit it (it made an answer in two writes take 44 ms)."""
        tell_own_trouble(get_hub())
        super().init_socket()
        if self.socket.family != stdlib_socket.AF_UNIX:
            self.socket.setsockopt(stdlib_socket.IPPROTO_TCP, stdlib_socket.TCP_NODELAY, 1)

    def do_read(self) -> tuple[Socket, Any] | None:
        """Accept a connection; None when there is none, or no room for it now."""
        listener = self.socket
        too_many = self.connections - self.most_connections
        if too_many > 0 and not self.close_idle(too_many):
            self._pause()
            return None
        try:
            fileno, address = listener._accept()
        except BlockingIOError:
            return None
        except OSError as error:
            if not is_own(error):
                raise
            if not HOLDERS.make_room(error, "accepting a connection"):
                self._pause()
            return None
        self.connections += 1
        return Socket(listener.family, fileno), address

    def do_close(self, sock: Any, *args: Any) -> None:
        """Close a connection that was accepted; called once for each."""
        if sock in self._leaving:
            self._leaving.discard(sock)
        else:
            self.connections -= 1
        super().do_close(sock, *args)

    def _pause(self) -> None:
        """Accept nothing for a moment: what waits in the system's queue is not lost."""
        self.stop_accepting()
        self._timer = self.loop.timer(PAUSE_S)
        self._timer.start(self._start_accepting_if_started)

    def close_idle(self, most: int) -> int:
        """Close so many connections at most that wait for a request, those first that have waited longest; say how many."""
        closed = 0
        for incoming in self.front.longest_idle():
            if closed == most:
                break
            if not incoming.wire.stuck and incoming.wire.peer_is_quiet():
                incoming.wire.close()
                self._leaving.add(incoming.wire.sock)
                self.connections -= 1
                closed += 1
        return closed

    def update_environ(self) -> None:
        """Fill in the server's name and port without asking the DNS, as the stock one does."""
        address = self.address
        self.environ.setdefault("SERVER_NAME", str(address[0]) if isinstance(address, tuple) else "")
        self.environ.setdefault("SERVER_PORT", str(address[1]) if isinstance(address, tuple) else "")

    def close(self) -> None:
        """Stop accepting, and close the connections on which no request is under way; fresh ones have a moment to send one."""
        if not self.front.stopping:
            self.front.hooks.on_stopping()
        self.front.stopping = True
        while self.started and not self.full() and (accepted := self.do_read()) is not None:
            self.do_handle(*accepted)  # the system has accepted it already, and would reset it
        super().close()
        if self.front.lingers:
            self.front.say_goodbye()
        else:
            self.front.close_idle(fresh=False)
            spawn_later(FRESH_S, self.front.close_idle, fresh=True)

    def stop_lingering(self) -> None:
        """Close the connections that wait for a request, where a stop has let them have one more."""
        if self.front.lingers:
            self.front.lingers = False
            self.front.close_idle(fresh=True)

    def stop(self, timeout: float | None = None) -> None:
        """Stop accepting, let open requests finish for up to `timeout` seconds (stop_timeout when None), end the rest."""
        self.stop_gracefully(self.stop_timeout if timeout is None else timeout)

    def stop_gracefully(self, grace_s: float, *, lingers: bool = False) -> bool:
        """Stop accepting, let open requests finish for up to `grace_s` seconds; True when all did.

        lingers: others serve here by now, so there is no hurry, and a connection is closed behind its next answer:
        whoever sends a request on one that was idle, just as it is closed, would not know whether it was taken.
        """
        self.front.lingers = lingers
        self.close()
        deadline = monotonic() + grace_s
        last_call = deadline - min(LAST_CALL_S, grace_s / 2)
        while self.front.open and monotonic() < deadline:
            if monotonic() > last_call:
                self.stop_lingering()
            sleep(0.02)
        done = not self.front.open
        now = monotonic()
        self._cut_all(now + TOLD_S, now + TOLD_S + ENDED_S)
        return done

    def _cut_all(self, told_until: float, ended_until: float) -> None:
        """End all connections: whose requests can be told why are closed at the first of these times, or with that answer."""
        why, front = EdgeStopped(), self.front
        for incoming in list(front.open):
            if not incoming.cut_requests(why):
                incoming.wire.close()
        while front.open and monotonic() < told_until:
            sleep(0.01)
        for incoming in list(front.open):
            incoming.wire.close()
        while front.open and monotonic() < ended_until:
            sleep(0.01)  # They give their leases back, count and log.


def _spawner(spawn: Any) -> Any:
    """Give what runs the connections: greenlets that are used again, as many at a time as the pool allows that was given."""
    if spawn is None or spawn == "default":
        return GreenletPool().spawn
    size = spawn if isinstance(spawn, int) else spawn.size if isinstance(spawn, Pool) else None
    return spawn if size is None else LimitedGreenletPool(size)
