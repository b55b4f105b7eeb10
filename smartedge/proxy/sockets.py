"""Connected sockets with no more around them than a `Wire` needs; how they are opened, and how names become addresses.

gevent's own socket is two Python objects and two watchers, made for each connection whether or not anybody ever waits on it. With
one request for each connection, or hundreds of backends whose connections leave the processor's caches between two uses, that
can be measured (docs/performance.md).
"""

from __future__ import annotations

import _socket  # what gevent's and the standard library's sockets are made of
import os
import socket as stdlib_socket
from errno import EINPROGRESS
from time import monotonic
from typing import Any

import gevent
import gevent.socket
from gevent import get_hub


class Socket:
    """A non-blocking stream socket; its watchers in gevent's loop are made when somebody first waits.

    The names of the attributes are those of gevent's socket, so a `Wire` takes either.
    """

    __slots__ = ("_reads", "_sock", "_writes")

    def __init__(self, family: int, fileno: int | None = None) -> None:
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

    def connect(self, sockaddr: Any, timeout_s: float) -> None:
        """Connect, and let small writes go out at once; raises OSError, TimeoutError among them."""
        code = self._sock.connect_ex(sockaddr)
        if code == EINPROGRESS:
            code = 0 if self._is_connected() else self._wait_connected(timeout_s)
        if code:
            raise OSError(code, os.strerror(code))
        self._sock.setsockopt(stdlib_socket.IPPROTO_TCP, stdlib_socket.TCP_NODELAY, 1)

    def _is_connected(self) -> bool:
        """Whether that was all; within one machine it is, whatever the code says."""
        try:
            self._sock.getpeername()
        except OSError:
            return False
        return True

    def _wait_connected(self, timeout_s: float) -> int:
        with gevent.Timeout(timeout_s, TimeoutError(f"no connection within {timeout_s:g} s")):
            get_hub().wait(self._write_event)
        return self._sock.getsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_ERROR)

    def fileno(self) -> int:
        """Return the descriptor, -1 when it is closed."""
        return self._sock.fileno()

    def close(self) -> None:
        """Close; a second call does nothing. Whoever waits here is the `Wire`'s to wake."""
        for watcher in (self._reads, self._writes):
            if watcher is not None:
                watcher.stop()
                watcher.close()
        self._reads = self._writes = None
        self._sock.close()


def connect(addresses: list[tuple[Any, ...]], timeout_s: float) -> Socket:
    """Open a TCP connection to the first of `addresses` that accepts.

    addresses: (family, sockaddr) pairs as `resolve` gives them. timeout_s: for all of them together.
    Returns a socket with TCP_NODELAY set; raises OSError (the last one), a TimeoutError when that address kept silent.
    """
    error: OSError | None = None
    deadline = monotonic() + timeout_s
    for left, (family, sockaddr) in zip(range(len(addresses), 0, -1), addresses, strict=True):
        sock = Socket(family)
        try:
            sock.connect(sockaddr, max(0.001, deadline - monotonic()) / left)  # a dead address must not use up all of it
        except OSError as failed:
            sock.close()
            error = failed
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise error or OSError("no address to connect to")


def resolve(host: str, port: int) -> list[tuple[Any, ...]]:
    """Look a host name up: (family, sockaddr) pairs, in the resolver's order; raises OSError when there is none.

    The look-up runs in gevent's thread pool and holds up this greenlet only.
    """
    found = gevent.socket.getaddrinfo(host, port, type=stdlib_socket.SOCK_STREAM)
    return [(family, sockaddr) for family, _type, _proto, _name, sockaddr in found]
