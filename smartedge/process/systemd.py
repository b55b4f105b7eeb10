"""The service manager: what it is told (sd_notify(3)), and the sockets that it hands over (sd_listen_fds(3)).

Both are a few lines over a datagram socket and three variables, and work with whatever else speaks them.
"""

from __future__ import annotations

import _socket
import os
import socket
import time
from collections.abc import Mapping, MutableMapping
from contextlib import closing
from typing import Literal, NamedTuple

FIRST_DESCRIPTOR = 3
Role = Literal["clients", "http", "admin"]
"""Whom a listener is for: clients of `bind`, those that `http_bind` sends to https, or the admin pages."""


class Notifier:
    """Tells the service manager how we are; made by whoever serves (cli/).

    Without a manager nobody is told. It never waits and never fails. env: by which another program finds it.
    """

    def __init__(self, env: Mapping[str, str] = os.environ) -> None:
        address = env.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address[:1] == "@" else address if address[:1] == "/" else ""
        self.env = {"NOTIFY_SOCKET": address} if address else {}

    def tell(self, *assignments: str) -> bool:
        """Send assignments such as `READY=1` in one datagram; say whether it was taken."""
        if not self._address:
            return False
        try:
            with closing(_socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)) as sock:
                sock.sendto("\n".join(assignments).encode(), _socket.MSG_DONTWAIT | _socket.MSG_NOSIGNAL, self._address)
        except OSError:
            return False
        return True

    def ready(self, status: str = "serving") -> None:
        """Say that we serve, for the first time or after a reload. status: one line for people."""
        self.tell("READY=1", f"STATUS={' '.join(status.split())}")

    def reloading(self) -> None:
        """Say that the configuration is being read again; the time tells it from an earlier reload."""
        self.tell("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def taken_over_by(self, pid: int) -> None:
        """Say that another process goes on in our place (the unit then follows that one)."""
        self.tell(f"MAINPID={pid}", "READY=1", "STATUS=serving")

    def stopping(self) -> None:
        """Say that we are about to end."""
        self.tell("STOPPING=1", "STATUS=finishing the requests in flight")


class Passed(NamedTuple):
    """A listening socket that we were started with; found by `passed_sockets`. name: as the service manager calls it."""

    descriptor: int
    name: str

    @property
    def role(self) -> Role:
        """Whom it is for: what it is called (`FileDescriptorName=admin`, `=http`); any other name is for clients."""
        return "admin" if self.name == "admin" else "http" if self.name == "http" else "clients"


def passed_sockets(env: MutableMapping[str, str] = os.environ) -> list[Passed]:
    """Take the sockets that are meant for this process, with the variables that say so; ValueError if one does not listen."""
    said = {name: env.get(name, "") for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")}
    if said["LISTEN_PID"] != str(os.getpid()) or not said["LISTEN_FDS"].isdecimal():
        return []
    for name in said:
        env.pop(name, None)  # they are not for the processes that we start
    names = said["LISTEN_FDNAMES"].split(":")
    found = []
    for number in range(int(said["LISTEN_FDS"])):
        descriptor = FIRST_DESCRIPTOR + number
        if not listens(descriptor):
            raise ValueError(f"descriptor {descriptor} was passed (LISTEN_FDS) but is no listening socket")
        os.set_inheritable(descriptor, False)
        found.append(Passed(descriptor, names[number] if number < len(names) else ""))
    return found


def listens(descriptor: int) -> bool:
    """Say whether a descriptor is one of a listening socket."""
    try:
        with socket.socket(fileno=os.dup(descriptor)) as sock:
            return sock.type == socket.SOCK_STREAM and bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    except OSError:
        return False
