"""The sockets that the edge listens on: opened by us, or passed by whoever started us."""

from __future__ import annotations

import socket

from smartedge.config.model import Config
from smartedge.config.values import listen_name, shown
from smartedge.http import resources
from smartedge.process.systemd import passed_sockets
from smartedge.server.unix_listener import listen_unix

BACKLOG = 4096
"""Connections that the system keeps until they are accepted; it has a limit of its own, `net.core.somaxconn`."""


class CannotListen(Exception):
    """An address that can't be listened on; the text says why and what to do."""


def listeners(config: Config, *, ends_here: bool = True) -> list[tuple[int, bool]]:
    """Give descriptors that listen, those for clients first, and whether each is for the admin pages alone.

    What the service manager passes takes the place of `bind`, and of `admin_bind` if one of its sockets has that name
    (systemd.py): it keeps them open while we are restarted, so that no client is refused meanwhile. ends_here: the end of
    this process is that of its unix sockets; not where the listeners are handed on to another.
    """
    try:
        passed = passed_sockets()
    except ValueError as error:
        raise CannotListen(str(error)) from error
    clients = [one.descriptor for one in passed if not one.is_admin] or [listen(config.bind, "--bind", ends_here=ends_here)]
    admins = [one.descriptor for one in passed if one.is_admin]
    if admins and config.admin_bind is None:
        raise CannotListen('a socket named "admin" was passed, but admin_bind is not set')
    if config.admin_bind is not None:
        admins = admins or [listen(config.admin_bind, "--admin-bind", ends_here=ends_here)]
    return [*((one, False) for one in clients), *((one, True) for one in admins)]


def listen(bind: str, flag: str, *, ends_here: bool = True) -> int:
    """Listen at an address, and give the descriptor; raises CannotListen. flag: what chooses another."""
    name = listen_name(bind)
    if isinstance(name, str):
        try:
            return int(listen_unix(name, removed_at_exit=ends_here).detach())
        except OSError as error:
            raise CannotListen(f"cannot listen on {shown(bind)}: {error.strerror}; choose another {flag}") from error
    host, port = name
    try:
        family, kind, *_, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        with socket.socket(family, kind) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(place)
            sock.listen(BACKLOG)
            return int(sock.detach())
    except socket.gaierror:
        raise CannotListen(f"no host {host} is known here; choose another {flag}") from None
    except OSError as error:
        raise CannotListen(_why_not(error, bind, host, port, flag)) from error


def _why_not(error: OSError, bind: str, host: str, port: int, flag: str) -> str:
    match resources.name_of(error):
        case "EADDRINUSE":
            return f"port {port} is in use; stop the other program or choose {flag}"
        case "EADDRNOTAVAIL":
            return f"{host} is no address of this machine; choose another {flag}"
        case "EACCES" if port < 1024:
            return f"port {port} may be listened on by root only, or with CAP_NET_BIND_SERVICE; choose another {flag}"
    return f"cannot listen on {bind}: {error.strerror}; choose another {flag}"
