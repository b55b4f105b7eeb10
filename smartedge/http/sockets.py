"""Connected sockets with no more around them than a `Wire` needs; how they are opened, and how names become addresses.

gevent's own socket is two Python objects and two watchers, made for each connection whether or not anybody ever waits on it. With
one request for each connection, or hundreds of backends whose connections leave the processor's caches between two uses, that
can be measured (docs/performance.md).
"""

from __future__ import annotations

import _socket  # what gevent's and the standard library's sockets are made of
import os
import socket as stdlib_socket
from collections.abc import Sequence
from dataclasses import dataclass
from errno import EAGAIN, EINPROGRESS
from functools import lru_cache
from time import monotonic
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import gevent
import gevent.socket
from gevent import get_hub
from gevent.event import Event

NEXT_AFTER_S = 0.25
"""How long an address may take before the next one is tried, too (RFC 8305 section 8: the Connection Attempt Delay)."""

FULL_S = 0.005
"""How soon to ask again a unix socket whose queue of connections is full."""


class Address(NamedTuple):
    """What a socket connects to: an address family and what goes with it."""

    family: int
    sockaddr: Any


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a backend's URL points to, taken apart.

    name: the host name that has to be looked up; "" where there is none to. host: the name or IP address that certificates
    are for. authority: what its own Host field says. base: the path before every request's target. fixed: the addresses,
    where the URL itself says them.
    """

    secure: bool
    name: str
    host: str
    port: int
    authority: bytes
    base: bytes
    fixed: tuple[Address, ...]


@lru_cache(32_768)  # more than an edge has, before and after a reload: of fewer, asked in turn, none would be found
def destination(url: str) -> Destination:
    """Take a backend's URL apart, once for each backend."""
    if url.startswith("unix:"):
        path, _, base = url[5:].partition(":")
        return Destination(False, "", "localhost", 0, b"localhost", base.encode(), (Address(stdlib_socket.AF_UNIX, path),))
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    host, port = parts.hostname or "", parts.port or (443 if secure else 80)
    fixed = (address_of(host, port),) if ":" in host or host.replace(".", "").isdigit() else ()
    name = "" if fixed else host
    return Destination(secure, name, host, port, parts.netloc.encode(), parts.path.rstrip("/").encode(), fixed)


def address_of(ip: str, port: int) -> Address:
    """Make the address of an IP address as text, and a port; an IPv6 address may end with `%` and its scope's number."""
    if ":" not in ip:
        return Address(stdlib_socket.AF_INET, (ip, port))
    host, _, scope = ip.partition("%")
    return Address(stdlib_socket.AF_INET6, (host, port, 0, int(scope or 0)))


class Socket:
    """A non-blocking stream socket; made by `connect` and by `EdgeServer`, owned by a `Wire`.

    Its watchers in gevent's loop are made when somebody first waits.

    The names of the attributes are those of gevent's socket, so a `Wire` takes either. address: what it is connected to.
    """

    __slots__ = ("_reads", "_sock", "_writes", "address")

    def __init__(self, family: int, fileno: int | None = None) -> None:
        self.address: Address | None = None
        self._sock = _socket.socket(family, stdlib_socket.SOCK_STREAM, 0, fileno)
        self._sock.setblocking(False)
        self._reads: Any = None
        self._writes: Any = None

    @property
    def _read_event(self) -> Any:
        if self._reads is None:
            self._reads = get_hub().loop.io(self._sock.fileno(), 1)
        return self._reads

    @property
    def _write_event(self) -> Any:
        if self._writes is None:
            self._writes = get_hub().loop.io(self._sock.fileno(), 2)
        return self._writes

    def connect(self, address: Address, timeout_s: float) -> None:
        """Connect, and let small writes go out at once; raises OSError, TimeoutError among them."""
        deadline = monotonic() + timeout_s
        while not self.begin_connect(address):
            late = TimeoutError(f"no connection within {timeout_s:g} s")
            if address.family != stdlib_socket.AF_UNIX:
                with gevent.Timeout(timeout_s, late):
                    get_hub().wait(self._write_event)
                self.finish_connect()
                return
            if monotonic() >= deadline:  # its queue is full, and nobody says when it no longer is
                raise late
            gevent.sleep(FULL_S)

    def begin_connect(self, address: Address) -> bool:
        """Begin to connect; whether that was all (within one machine it is). Raises OSError."""
        self.address = address
        code = self._sock.connect_ex(address.sockaddr)
        if code and (code not in (EINPROGRESS, EAGAIN) or (code == EAGAIN and address.family != stdlib_socket.AF_UNIX)):
            raise OSError(code, os.strerror(code))
        if code == EAGAIN or (code and not self._is_connected()):
            return False
        self._no_delay()
        return True

    def finish_connect(self) -> None:
        """Connect to the end what has begun, once the socket is writable. Raises OSError."""
        if code := self._sock.getsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_ERROR):
            raise OSError(code, os.strerror(code))
        self._no_delay()

    def _no_delay(self) -> None:
        if self._sock.family != stdlib_socket.AF_UNIX:
            self._sock.setsockopt(stdlib_socket.IPPROTO_TCP, stdlib_socket.TCP_NODELAY, 1)

    def _is_connected(self) -> bool:
        """Whether that was all; within one machine it is, whatever the code says."""
        try:
            self._sock.getpeername()
        except OSError:
            return False
        return True

    def detach(self) -> int:
        """Give the descriptor away, which is for somebody else to close; nobody has waited on this socket, and nobody will."""
        return self._sock.detach()

    def fileno(self) -> int:
        """Return the descriptor, -1 when it is closed; edge/peer_owner.py asks the kernel by it who is at the other end."""
        return self._sock.fileno()

    def close(self) -> None:
        """Close; a second call does nothing. Whoever waits here is the `Wire`'s to wake."""
        for watcher in (self._reads, self._writes):
            if watcher is not None:
                watcher.stop()
                watcher.close()
        self._reads = self._writes = None
        self._sock.close()


def connect(addresses: Sequence[Address], timeout_s: float) -> Socket:
    """Open a connection to the address that accepts first: each has a small start on the one after it (RFC 8305).

    addresses: the preferred one first, as `resolve` gives them. timeout_s: for all of them together.
    Returns a socket with TCP_NODELAY set; raises OSError (the last one), a TimeoutError when one of them kept silent.
    """
    if len(addresses) == 1:
        sock = Socket(addresses[0].family)
        try:
            sock.connect(addresses[0], timeout_s)
        except BaseException:
            sock.close()
            raise
        return sock
    return _AddressRace().run(_interleaved(addresses), monotonic() + timeout_s, timeout_s)


class _AddressRace:
    """Several addresses that are connected to at once, with delays; made by `connect`. The first wins, the others are closed."""

    def __init__(self) -> None:
        self._news = Event()
        self._pending: list[Socket] = []
        self._error: OSError | None = None

    def run(self, addresses: list[Address], deadline: float, timeout_s: float) -> Socket:
        """Connect; see `connect`."""
        winner = None
        try:
            while winner is None:
                if addresses:
                    winner = self._begin(addresses.pop(0))
                    if not self._pending:
                        continue
                elif not self._pending:
                    raise self._error or OSError("no address to connect to")
                while winner is None and self._pending:
                    left = deadline - monotonic()
                    if left <= 0:
                        raise TimeoutError(f"no connection within {timeout_s:g} s")
                    told = self._news.wait(min(left, NEXT_AFTER_S) if addresses else left)
                    self._news.clear()
                    before = len(self._pending)
                    winner = self._look()
                    if addresses and (not told or len(self._pending) < before):
                        break  # The next one's turn: this one has refused, or has taken its time.
            return winner
        finally:
            for sock in self._pending:
                if sock is not winner:
                    sock.close()

    def _begin(self, address: Address) -> Socket | None:
        sock = Socket(address.family)
        self._pending.append(sock)
        try:
            if sock.begin_connect(address):
                return sock
            sock._write_event.start(self._news.set)
        except OSError as error:
            self._failed(sock, error)
        return None

    def _look(self) -> Socket | None:
        """Find the one that is connected, and drop those that failed."""
        for sock in list(self._pending):
            if sock._is_connected():
                sock._write_event.stop()
                sock._no_delay()
                return sock
            try:
                sock.finish_connect()
            except OSError as error:
                self._failed(sock, error)
        return None

    def _failed(self, sock: Socket, error: OSError) -> None:
        self._error = error
        self._pending.remove(sock)
        sock.close()


def _interleaved(addresses: Sequence[Address]) -> list[Address]:
    """Order addresses so that families take turns, the first one's first (RFC 8305 section 4)."""
    first = [one for one in addresses if one.family == addresses[0].family]
    others = [one for one in addresses if one.family != addresses[0].family]
    ordered = []
    while first or others:
        ordered += first[:1] + others[:1]
        first, others = first[1:], others[1:]
    return ordered


def resolve(host: str, port: int) -> list[Address]:
    """Look a host name up: its addresses, in the resolver's order; raises OSError when there is none.

    The look-up runs in gevent's thread pool and holds up this greenlet only.
    """
    found = gevent.socket.getaddrinfo(host, port, type=stdlib_socket.SOCK_STREAM)
    return [Address(family, sockaddr) for family, _type, _proto, _name, sockaddr in found]
