"""The sockets that the edge listens on: opened by us, or passed by whoever started us."""

from __future__ import annotations

import atexit
import contextlib
import errno
import os
import socket
import stat
from collections.abc import Sequence

from smartedge.config.model import Config
from smartedge.config.values import listen_name, shown
from smartedge.http import resources
from smartedge.process.predecessor import Listener
from smartedge.process.systemd import Role, passed_sockets

BACKLOG = 4096
"""Connections that the system keeps until they are accepted; it has a limit of its own, `net.core.somaxconn`."""

UNIX_BACKLOG = 128
"""The same for a unix socket, which is our user's alone."""


class CannotListen(Exception):
    """An address that can't be listened on; the text says why and what to do."""


def open_listeners(config: Config, handed: Sequence[Listener] = (), *, ends_here: bool = True) -> list[Listener]:
    """Give the sockets that we listen on, those for clients first, those for the admin pages alone last.

    What the service manager passes takes the place of `bind`, and of `http_bind` and `admin_bind` if one of its sockets has such
    a name (systemd.py): it keeps them open while we are restarted, so that no client is refused meanwhile. handed: what the
    program listened on that we take over from; what was opened for an address that is not wanted any more is closed. ends_here:
    the end of this process is that of its unix sockets; not where the listeners are handed on to another.
    """
    try:
        passed = [Listener(one.descriptor, one.role, "") for one in passed_sockets()]
    except ValueError as error:
        raise CannotListen(str(error)) from error
    found: list[Listener] = []
    roles: list[tuple[Role, str]] = [("clients", "bind"), ("http", "http_bind"), ("admin", "admin_bind")]
    for role, key in roles:
        bind = getattr(config, key)
        given = [one for one in (*passed, *handed) if one.role == role and one.bind in ("", bind)]
        if given and bind is None:
            raise CannotListen(f'a socket named "{role}" was passed, but {key} is not set')
        if bind is not None and not given:
            given = [Listener(listen_at(bind, f"--{key.replace('_', '-')}", ends_here=ends_here), role, bind)]
        found += given
    kept = {one.descriptor for one in found}
    for one in handed:
        if one.descriptor not in kept:
            os.close(one.descriptor)
    return found


def own_sockets(listeners: Sequence[Listener]) -> None:
    """Remove the unix sockets at our end that we have taken over: from here on no other program listens there."""
    for one in listeners:
        if one.bind and isinstance(path := listen_name(one.bind), str):
            _remove_at_exit(path)


def disown_sockets() -> None:
    """Have the unix sockets stay that this process would remove at its end: another listens there now."""
    atexit.unregister(_remove_own_socket)


def listen_at(bind: str, flag: str, *, ends_here: bool = True) -> int:
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


def listen_unix(path: str, *, removed_at_exit: bool = True) -> socket.socket:
    """Listen there, with mode 0600; a socket file that nobody listens on any more is replaced.

    removed_at_exit: of this process; not where the listener is handed on to another. Raises OSError with the path.
    """
    _remove_stale_socket(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)  # not chmod afterwards: somebody else could connect in between
    try:
        sock.bind(path)
        sock.listen(UNIX_BACKLOG)
        sock.setblocking(False)  # as our server wants it, whose loop waits
        if removed_at_exit:
            _remove_at_exit(path)
    except OSError as error:
        sock.close()
        raise OSError(error.errno, error.strerror, path) from error
    finally:
        os.umask(before)
    return sock


def _remove_stale_socket(path: str) -> None:
    """Remove what a process left behind that ended without saying so (SIGKILL); raises OSError for what is in use."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise FileExistsError(errno.EEXIST, "is there, and is no socket", path)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(1.0)
            probe.connect(path)
    except ConnectionRefusedError:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
    except FileNotFoundError:
        pass
    except (BlockingIOError, TimeoutError):  # its backlog is full
        raise OSError(errno.EADDRINUSE, "another process listens there", path) from None
    else:
        raise OSError(errno.EADDRINUSE, "another process listens there", path)


def _remove_at_exit(path: str) -> None:
    atexit.register(_remove_own_socket, path, os.stat(path).st_ino, os.getpid())


def _remove_own_socket(path: str, inode: int, pid: int) -> None:
    with contextlib.suppress(OSError):
        if os.getpid() == pid and os.lstat(path).st_ino == inode:
            os.unlink(path)
