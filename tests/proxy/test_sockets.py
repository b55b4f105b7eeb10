"""Sockets with no more around them than a wire needs: opened, watched, closed."""

from __future__ import annotations

import contextlib

import gevent.socket
import pytest

from smartedge.proxy.sockets import connect, resolve


def test_the_second_address_is_tried_when_the_first_refuses() -> None:
    with contextlib.closing(gevent.socket.socket()) as listener, contextlib.closing(gevent.socket.socket()) as refusing:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        refusing.bind(("127.0.0.1", 0))
        first = resolve("127.0.0.1", refusing.getsockname()[1])
        second = resolve("127.0.0.1", listener.getsockname()[1])
        sock = connect(first + second, 1)
        assert sock._sock.getpeername() == listener.getsockname()
        assert sock._sock.getsockopt(gevent.socket.IPPROTO_TCP, gevent.socket.TCP_NODELAY)
        sock.close()
        with pytest.raises(ConnectionRefusedError):
            connect(first, 1)
    with pytest.raises(OSError):
        connect([], 1)
