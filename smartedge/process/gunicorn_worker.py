"""The worker of gunicorn's that this process is, if it is one: found on the stack, for gunicorn tells no application of it."""

from __future__ import annotations

import sys
from functools import partial
from types import FrameType
from typing import Any

import gevent

from smartedge.server.counted import CountedApp
from smartedge.server.server import EdgeServer

LINGER_S = 1.9
"""As a worker ends, a connection on which nothing is under way may carry one more request for so long, in seconds.

gunicorn's own loop gives it `--keep-alive` (2 s); the worker looks once a second whether all have ended.
"""


class WorkerServer(EdgeServer):
    """An EdgeServer in a worker of gunicorn's, which is mostly replaced when it ends (`--max-requests`, SIGHUP, SIGUSR2).

    So a client that sends a request on its idle connection as the worker ends is answered, and told to open another one.
    """

    def close(self) -> None:
        """Stop accepting, and after a while close the connections on which no request is under way."""
        if not self.front.stopping:
            self.front.lingers = True
            gevent.spawn_later(LINGER_S, self.stop_lingering)
        super().close()


def gunicorn_worker() -> Any:
    """Return the worker of gunicorn's that this is: whoever runs it is in the main greenlet's stack; None if it is none."""
    frame = _running()
    return None if frame is None else frame.f_locals["self"]


def gunicorn_servers() -> list[Any]:
    """Return that worker's own list of gevent's servers with which it accepts connections; none where it can't be found."""
    frame = _running()
    return [] if frame is None else frame.f_locals.get("servers", [])


def counted(app: Any, worker: Any) -> Any:
    """Give the app for a server of ours in this worker, counted if that is to end after so many requests (`--max-requests`)."""
    return CountedApp(app, partial(count_request, worker)) if worker.max_requests < sys.maxsize else app


def count_request(worker: Any) -> None:
    """Count a request that gunicorn's own loop does not see; the worker ends after so many (`--max-requests`)."""
    worker.nr += 1
    if worker.nr >= worker.max_requests and worker.alive:
        worker.log.info("Autorestarting worker after current request.")
        worker.alive = False


def _running() -> FrameType | None:
    """Find the frame of the worker's `run`, in this greenlet's stack or in the main one's."""
    start: tuple[FrameType | None, ...] = (sys._getframe(), getattr(gevent.get_hub().parent, "gr_frame", None))
    for frame in start:
        while frame is not None:
            worker = frame.f_locals.get("self")
            if frame.f_code.co_name == "run" and hasattr(worker, "sockets") and hasattr(worker, "cfg"):
                return frame
            frame = frame.f_back
    return None
