"""Our server in a worker of gunicorn's: it ends as such a worker does, and counts requests for it."""

from __future__ import annotations

import sys
from functools import partial
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


def counted(app: Any, worker: Any) -> Any:
    """Give the app for a server of ours in this worker, counted if that is to end after so many requests (`--max-requests`)."""
    return CountedApp(app, partial(count_request, worker)) if worker.max_requests < sys.maxsize else app


def count_request(worker: Any) -> None:
    """Count a request that gunicorn's own loop does not see; the worker ends after so many (`--max-requests`)."""
    worker.nr += 1
    if worker.nr >= worker.max_requests and worker.alive:
        worker.log.info("Autorestarting worker after current request.")
        worker.alive = False
