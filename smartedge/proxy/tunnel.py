"""Tunnels: bytes between a client and a backend that have switched to a protocol of their own (RFC 9110 section 7.8).

Each way has a greenlet that reads and then writes, so a side that takes nothing soon gets nothing more: 64 KiB and the kernel's
buffers are all that is ever held. No timer runs: whoever keeps the `Tunnels` asks them now and then (`end_overdue`).
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from time import monotonic

import gevent

from smartedge.http.side import Side
from smartedge.http.wire import WireClosed, WireTimeout
from smartedge.proxy.websocket import GOING_AWAY, ends_whole

CLIENT_BROKE = "The client broke the tunnel's connection."
BACKEND_BROKE = "The backend broke the tunnel's connection."
EDGE_ENDED = "The edge ended the tunnel."

GOODBYE_S = 0.25
"""How long before its end a client of WebSocket is told that the edge goes away, and how long that may take, in seconds."""


class Tunnel:
    """Carries bytes both ways until both have finished, one breaks, or somebody ends it; made and run by an UpgradeExchange.

    idle_s: the longest without a byte either way. half_s: the same, once one side has finished (RFC 9293 section 3.6: it may go
    on reading, but most that finish have only left). count: told of the bytes that were carried: (from client, from backend).
    is_websocket: where the edge ends it between two frames, the client is told so by a close frame (1001).
    why: what ended it; empty while it is open, and when both sides finished.
    """

    __slots__ = (
        "_backend",
        "_client",
        "_closed",
        "_count",
        "_half_s",
        "_idle_s",
        "_is_leaving",
        "_is_websocket",
        "_is_whole",
        "_moved_at",
        "_open_ways",
        "bytes_in",
        "bytes_out",
        "why",
    )

    def __init__(
        self,
        client: Side,
        backend: Side,
        idle_s: float,
        half_s: float,
        count: Callable[[int, int], None],
        *,
        is_websocket: bool = False,
    ) -> None:
        self._client = client
        self._backend = backend
        self._idle_s = idle_s
        self._half_s = min(half_s, idle_s)
        self._count = count
        self._moved_at = monotonic()
        self._closed = self._is_leaving = False
        self._is_websocket = self._is_whole = is_websocket
        self.bytes_in = self.bytes_out = 0
        self._open_ways = 2
        self.why = ""

    def run(self, from_client: bytes, from_backend: bytes) -> None:
        """Carry until the end; what is given has come already. Whatever happens, both connections are closed then."""
        other = gevent.spawn(lambda: self._carry(from_backend, inward=False))
        try:
            self._carry(from_client, inward=True)
            other.join()
        finally:
            self.end(EDGE_ENDED if self._open_ways else "")

    def _carry(self, data: bytes, *, inward: bool) -> None:
        source, sink = (self._client, self._backend) if inward else (self._backend, self._client)
        source_broke, sink_broke = (CLIENT_BROKE, BACKEND_BROKE) if inward else (BACKEND_BROKE, CLIENT_BROKE)
        try:
            while True:
                if not data:
                    try:
                        data = source.recv(inf)
                    except OSError as error:
                        return self._broken(sink, source_broke, error)
                self._moved_at = monotonic()
                if not data:
                    break
                if not inward:
                    if self._is_leaving:
                        return None  # the client has been told that nothing more comes
                    self._is_whole = False
                try:
                    sink.send_now(data, inf)
                except OSError as error:
                    return self._broken(source, sink_broke, error)
                self._moved(len(data), inward)
                if self._is_websocket and not inward:
                    self._is_whole = ends_whole(data)
                data = b""
            self._is_whole = False  # nothing may stand behind an end
            sink.finish_sending()
            self._open_ways -= 1
            self._idle_s = self._half_s
        except BaseException:
            self.end(EDGE_ENDED)  # The other way must not wait for ever.
            raise

    def _moved(self, size: int, inward: bool) -> None:
        self._moved_at = monotonic()
        if inward:
            self.bytes_in += size
            self._count(size, 0)
        else:
            self.bytes_out += size
            self._count(0, size)

    def _broken(self, other: Side, why: str, error: OSError) -> None:
        """Pass a break on as one: a clean end would say that everything had come."""
        if self._closed:
            return
        if isinstance(error, WireClosed):
            why = EDGE_ENDED  # The server closes what is still open when its time to stop is over.
        else:
            other.break_off()
        self.end(why)

    def leave(self, why: str) -> None:
        """End it, and tell a client of WebSocket before, if nothing of a frame is on its way; callable from anywhere."""
        if self._closed or self._is_leaving:
            return
        if not self._is_whole:
            self.end(why)
            return
        self._is_leaving = True
        gevent.spawn(self._say_goodbye, why)

    def _say_goodbye(self, why: str) -> None:
        try:
            self._client.send_now(GOING_AWAY, GOODBYE_S)
            self._client.finish_sending()
        except (OSError, WireTimeout):
            pass  # It is gone, or takes nothing: it will see the end.
        self.end(why)

    def overdue(self, now: float) -> bool:
        """Whether nothing has moved for too long."""
        return now - self._moved_at > self._idle_s

    def end(self, why: str) -> None:
        """Close both connections, which ends `run`; callable from anywhere, waits for nothing."""
        if not self._closed:
            self._closed = True
            self.why = why
            self._client.close()
            self._backend.close()

    @property
    def idle_s(self) -> float:
        """How long it may be idle now."""
        return self._idle_s


class Tunnels:
    """All tunnels that are open in this worker, each with the key of its backend; owned by the Forwarder, ended by the edge."""

    def __init__(self) -> None:
        self._open: dict[Tunnel, str] = {}

    def __len__(self) -> int:
        return len(self._open)

    def add(self, tunnel: Tunnel, backend_key: str) -> None:
        """Take in a tunnel that begins."""
        self._open[tunnel] = backend_key

    def remove(self, tunnel: Tunnel) -> None:
        """Forget one that has ended."""
        self._open.pop(tunnel, None)

    def end_overdue(self, now: float) -> None:
        """End those in which nothing has moved for too long."""
        for tunnel in [tunnel for tunnel in self._open if tunnel.overdue(now)]:
            tunnel.leave(f"Not a byte went either way for {tunnel.idle_s:g} s.")

    def end_all_after(self, seconds: float) -> None:
        """End every one that is open then: the edge stops."""
        gevent.spawn_later(max(seconds - GOODBYE_S, seconds / 2), self._end_all)  # before the server closes all

    def _end_all(self) -> None:
        for tunnel in list(self._open):
            tunnel.leave(EDGE_ENDED)

    def end_of(self, backend_key: str, why: str) -> bool:
        """End all those to one backend; False when there are none."""
        found = [tunnel for tunnel, key in self._open.items() if key == backend_key]
        for tunnel in found:
            tunnel.leave(why)
        return bool(found)
