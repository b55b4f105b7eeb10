"""A worker as a process: how it was started, when it begins to serve, its locks, and what it does every second."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable
from typing import Any

import gevent
from gevent.monkey import get_original

log = logging.getLogger(__name__)


class Housekeeping:
    """Call `work` every `interval_s` seconds in a greenlet, from `start` to `stop`; what raises is logged and tried again."""

    def __init__(self, work: Callable[[], None], interval_s: float = 1.0) -> None:
        self._work = work
        self._interval_s = interval_s
        self._greenlet: Any = None

    def start(self) -> None:
        """Begin, with the first call at once."""
        if self._greenlet is None:
            self._greenlet = gevent.spawn(self._run)

    def stop(self) -> None:
        """End, between two calls."""
        greenlet, self._greenlet = self._greenlet, None
        if greenlet is not None:
            greenlet.kill()

    def _run(self) -> None:
        while True:
            try:
                self._work()
            except Exception:
                log.exception("housekeeping failed and is tried again in %g s", self._interval_s)
            gevent.sleep(self._interval_s)


class LateLock:
    """A lock that is made when it is first taken, for what holds one while it waits or writes.

    With gunicorn's `--preload` the app is made in the arbiter, before gevent has patched `threading`. A lock from then stops the
    whole worker when a second greenlet wants it, and with it the one that would give it back: for ever, seen in one start of 12.
    """

    def __enter__(self) -> None:
        self._lock().acquire()

    def __exit__(self, *_: object) -> None:
        self._lock().release()

    def _lock(self) -> threading.Lock:
        lock: threading.Lock = self.__dict__.setdefault("lock", threading.Lock())  # one for all, though several come at once
        return lock


def when_serving(begin: Callable[[], None]) -> None:
    """Have `begin` called as soon as this process runs its event loop, which is when it begins to serve.

    A WSGI app has no hook for that moment: gunicorn's worker imports it, starts its listeners, and only then gives way to the
    loop. With `--preload` the import happens in the arbiter, which runs no loop; its workers inherit the waiting call.
    """
    gevent.get_hub().loop.run_callback(lambda: gevent.spawn(begin))


def stand_still(seconds: float) -> None:
    """Wait, and let nothing else of this process run: no connection is accepted meanwhile."""
    get_original("time", "sleep")(seconds)


def spawned_by_hup() -> bool:
    """Say whether gunicorn's arbiter started this worker because of a SIGHUP, and not in place of one that died.

    The arbiter tells no worker. But a worker is forked in the middle of what its arbiter does, so that it can be read from
    the worker's own stack, below the worker's own frames (also in a greenlet: the main one's stack is that).
    """
    for frame in (sys._getframe(), gevent.get_hub().parent.gr_frame):
        while frame is not None:
            if frame.f_code.co_name == "reload" and frame.f_globals.get("__name__") == "gunicorn.arbiter":
                return True
            frame = frame.f_back
    return False
