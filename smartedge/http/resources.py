"""What the system has to give, and what it means when it has no more: our own trouble, and nobody else's.

EMFILE when we connect to a backend says nothing about the backend. Who gets such an error blames nobody, closes what is idle
(`make_room`) and says so in the log, once.
"""

from __future__ import annotations

import errno
import logging
import mmap
import os
import resource
import socket
from collections.abc import Callable
from time import monotonic
from typing import Any, Final, TypeVar
from weakref import WeakSet

log = logging.getLogger("smartedge")

OWN_TROUBLE = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL))
"""No descriptor, no memory, no port of our own is left."""

_NO_THREAD: Final = "can't start new thread"
"""What Python says where there is no memory for one, or none is allowed."""

MOST_DESCRIPTORS = 1 << 20
"""Linux's own limit (`fs.nr_open`); some containers allow a thousand times as many, which nobody needs."""

QUIET_S = 60.0
"""The same trouble is said again when it has been so long since it was last seen."""

_seen_at: dict[int, float] = {}


_DETAIL = (
    b'{"status": 503, "title": "Edge out of resources", "detail": "The edge itself has no memory or descriptors left for it."}\n'
)

NO_ROOM: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\nContent-Length: %d\r\n"
    b"Retry-After: 1\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n%b" % (len(_DETAIL), _DETAIL)
)
"""The answer where there may be no memory to make one, made beforehand; so it has no id of its request and no date."""


class TooFewDescriptors(Exception):
    """This process may open too few files to serve anybody; the text says how many, and how many it needs."""


class OwnTrouble(Exception):
    """What was to be found out about somebody else could not be, for something is missing here. error: what the system said."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(os.strerror(_number_of(error)) if _number_of(error) else str(error))
        self.error = error


def name_of(error: OSError) -> str:
    """Give the name of an error's number, such as EMFILE."""
    return errno.errorcode.get(error.errno or 0, "")


def reason(error: BaseException) -> str:
    """Say what is short, in the system's words and with the limit where it is one of this process."""
    number = _number_of(error)
    name = errno.errorcode.get(number, type(error).__name__)
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    hint = f"; at most {limit} descriptors may be open (ulimit -n, LimitNOFILE)" if name == "EMFILE" else ""
    return f"{getattr(error, 'strerror', None) or str(error) or os.strerror(number)} ({name}){hint}"


def is_own(error: BaseException | None) -> bool:
    """Whether an error is our own trouble; a resolver that has no descriptor left does not say so, and is tested."""
    if isinstance(error, socket.gaierror):
        return _descriptors_are_gone()
    if isinstance(error, RuntimeError):
        return str(error) == _NO_THREAD
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in OWN_TROUBLE)


def _number_of(error: BaseException) -> int:
    """Return the number of an error; Python raises MemoryError where a system call would say ENOMEM."""
    return errno.ENOMEM if isinstance(error, MemoryError) else getattr(error, "errno", None) or 0


ROOM_BYTES: Final = 8 * 1024 * 1024
"""So much memory is left to those who are being served, and to the interpreter, before another greenlet is refused."""


def require_memory() -> None:
    """Raise MemoryError unless ROOM_BYTES more could be mapped; 3 µs, and nothing is used of it.

    To switch from one greenlet to another may take some hundred bytes, and where there are none the `greenlet` library ends the
    process. So it must not come to that: what can be refused is refused before.
    """
    try:
        mmap.mmap(-1, ROOM_BYTES, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS).close()
    except OSError as error:
        raise MemoryError from error


def raise_limit() -> int:
    """Raise the soft limit of open descriptors to the hard one, and give the limit in force."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MOST_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError):
            return soft
        return wanted
    return soft if soft != resource.RLIM_INFINITY else MOST_DESCRIPTORS


def require_descriptors() -> None:
    """Raise the limit, and raise TooFewDescriptors where even the hard one carries no edge: it would fail at any moment."""
    limit = raise_limit()
    if limit < FEWEST_DESCRIPTORS:
        raise TooFewDescriptors(
            f"at most {limit} files may be open, and the edge needs {FEWEST_DESCRIPTORS}, with one for each connection;"
            " raise the hard limit: `ulimit -Hn 65536`, LimitNOFILE=65536 in a systemd unit, --ulimit nofile=65536 of a container"
        )


def most_clients(limit: int | None = None) -> int:
    """Give how many clients may be connected at a time: each may need a connection to a backend besides its own.

    A part is kept for probes, files and the admin pages: an eighth, 16 at least and 128 at most.
    """
    if limit is None:
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        if limit == resource.RLIM_INFINITY:
            limit = MOST_DESCRIPTORS
    kept = max(_LEAST_KEPT, min(128, limit // 8)) + _STANDING
    return max(_FEWEST_CLIENTS, (limit - kept) // 2)


_STANDING = 24
"""About so many descriptors are open as long as the edge runs: loop, listeners, board, locks, logs."""

_LEAST_KEPT = 16
_FEWEST_CLIENTS = 4

FEWEST_DESCRIPTORS = _STANDING + _LEAST_KEPT + 2 * _FEWEST_CLIENTS
"""With fewer the edge does not begin."""


class Holders:
    """Who has idle connections that can be closed when descriptors run out. Each is asked to close some, and says how many."""

    def __init__(self) -> None:
        self._holders: WeakSet[object] = WeakSet()

    def add(self, holder: object) -> None:
        """Have a holder asked; it has a method `close_idle(most)` that says how many it has closed."""
        self._holders.add(holder)

    def make_room(self, error: BaseException, doing: str, most: int = 16) -> bool:
        """Have idle connections closed, and say in the log what is short; True when there is room now. doing: for the log."""
        closed = 0
        if getattr(error, "errno", None) != errno.EADDRNOTAVAIL:  # a port that was in use stays so for a minute
            for holder in list(self._holders):
                close: Callable[[int], int] = holder.close_idle  # type: ignore[attr-defined]
                closed += close(most)
        _tell(error, doing)
        return closed > 0


HOLDERS = Holders()


T = TypeVar("T")


def with_room(do: Callable[[], T], doing: str) -> T:
    """Call `do`, and once more after room was made if something is missing here; raises OSError of its own, or OwnTrouble."""
    for is_last in (False, True):
        try:
            return do()
        except (OSError, MemoryError) as error:
            if not is_own(error):
                raise
            if not HOLDERS.make_room(error, doing) or is_last:
                raise OwnTrouble(error) from error
    raise AssertionError("unreachable")


def _tell(error: BaseException, doing: str) -> None:
    number, now = _number_of(error), monotonic()
    before, _seen_at[number] = _seen_at.get(number), now
    if before is not None and now - before <= QUIET_S:
        return
    try:
        log.error("the edge itself is short of something while %s: %s; idle connections are closed first", doing, reason(error))
    except MemoryError:  # nor for the line: the next one says it
        del _seen_at[number]


def tell_own_trouble(hub: Any) -> None:
    """Have a hub say in the log's one line, not in a traceback, what greenlets and callbacks die of for want of something."""
    handle_error = hub.handle_error

    def handle(context: Any, kind: Any, error: Any, trace: Any) -> None:
        if context is not None and is_own(error):
            HOLDERS.make_room(error, "going on")
        else:
            handle_error(context, kind, error, trace)

    if not getattr(hub, "smartedge_tells", False):
        hub.smartedge_tells, hub.handle_error = True, handle


def _descriptors_are_gone() -> bool:
    try:
        os.close(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        return error.errno in OWN_TROUBLE
    return False
