"""A worker as a process that gunicorn may have started: when it begins to serve, and why it was started."""

from __future__ import annotations

import sys
from collections.abc import Callable

import gevent
from gevent.monkey import get_original


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
