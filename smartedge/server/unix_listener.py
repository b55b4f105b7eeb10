"""A unix socket to listen on that is its user's alone, and what earlier processes have left in its place."""

from __future__ import annotations

import atexit
import contextlib
import errno
import os
import socket
import stat

BACKLOG = 128


def listen_unix(path: str, *, removed_at_exit: bool = True) -> socket.socket:
    """Listen there, with mode 0600; a socket file that nobody listens on any more is replaced.

    removed_at_exit: of this process; not where the listener is handed on to another. Raises OSError with the path.
    """
    _make_way(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)  # not chmod afterwards: somebody else could connect in between
    try:
        sock.bind(path)
        sock.listen(BACKLOG)
        sock.setblocking(False)  # as our server wants it, whose loop waits
        if removed_at_exit:
            atexit.register(_remove, path, os.stat(path).st_ino, os.getpid())
    except OSError as error:
        sock.close()
        raise OSError(error.errno, error.strerror, path) from error
    finally:
        os.umask(before)
    return sock


def _make_way(path: str) -> None:
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


def _remove(path: str, inode: int, pid: int) -> None:
    with contextlib.suppress(OSError):
        if os.getpid() == pid and os.lstat(path).st_ino == inode:
            os.unlink(path)
