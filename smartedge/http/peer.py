"""What the kernel knows of a connection's other end."""

from __future__ import annotations

import select
import socket as stdlib_socket
from collections.abc import Callable
from fcntl import ioctl
from select import POLLIN
from termios import TIOCOUTQ
from typing import Any

import gevent.monkey

RESET = b"\1\0\0\0\0\0\0\0"
"""The SO_LINGER that makes a close a reset: on, with a time of 0."""

FINISHED_S = 1.0
"""How long a peer that has finished sending is taken for one that waits, before it is sent a word, in seconds."""

UNSENT_BYTES = 131072
"""How much waits in the kernel to be sent, at most, where many share a connection (`keep_little_unsent`)."""

_NOTSENT_LOWAT = 25
"""TCP_NOTSENT_LOWAT of Linux (tcp(7)), for which Python has no name."""

_FINISHED = getattr(select, "POLLRDHUP", 0)
_Poll: Any = gevent.monkey.get_original("select", "poll")
_NONE = bytes(4)
_PROBES = (
    (stdlib_socket.SOL_SOCKET, stdlib_socket.SO_KEEPALIVE, 1),
    (stdlib_socket.IPPROTO_TCP, stdlib_socket.TCP_KEEPIDLE, 15),
    (stdlib_socket.IPPROTO_TCP, stdlib_socket.TCP_KEEPINTVL, 15),
    (stdlib_socket.IPPROTO_TCP, stdlib_socket.TCP_KEEPCNT, 4),
)


def is_gone(fileno: int) -> bool:
    """Whether a connection is at its end: reset, or closed by both sides. Unread bytes hide nothing."""
    asked = _Poll()
    asked.register(fileno, 0)
    return bool(asked.poll(0))  # nothing is asked for: what is told is POLLERR or POLLHUP


def has_finished(fileno: int) -> bool:
    """Whether the other side will send nothing more: it has ended its half of the connection, or all of it.

    Unread bytes hide nothing. Linux alone tells (POLLRDHUP of poll(2)); elsewhere the answer is that of `is_gone`.
    """
    asked = _Poll()
    asked.register(fileno, _FINISHED)
    return bool(asked.poll(0))


def asker(fileno: int) -> Callable[[int], list[Any]]:
    """Give what, called with 0, tells whether bytes or an end have come on this connection: then its list is not empty."""
    asked = _Poll()
    asked.register(fileno, POLLIN)
    return asked.poll  # type: ignore[no-any-return]


def keep_asking(sock: Any) -> None:
    """Have the kernel ask the peer now and then whether it still exists. sock: one of `_socket`."""
    for level, option, value in _PROBES:
        try:
            sock.setsockopt(level, option, value)
        except OSError:
            return  # a unix socket needs none


def nothing_on_its_way(sock: Any) -> bool:
    """Whether closing this socket (a non-blocking one of `_socket`) destroys nothing; see Wire.may_close."""
    try:
        return not sock.recv(1, stdlib_socket.MSG_PEEK)
    except BlockingIOError:
        return ioctl(sock.fileno(), TIOCOUTQ, _NONE) == _NONE
    except OSError:
        return True


def keep_little_unsent(sock: Any) -> None:
    """Have the kernel take no more of us than it can soon send: what comes next, for somebody else, has less before it."""
    try:
        sock.setsockopt(stdlib_socket.IPPROTO_TCP, _NOTSENT_LOWAT, UNSENT_BYTES)
    except OSError:
        pass  # not a TCP socket
