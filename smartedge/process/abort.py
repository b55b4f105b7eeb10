"""SIGABRT in a worker of gunicorn's: the arbiter sends it to one whose loop stands still, and SIGKILL a second later.

gunicorn's own handler ends the process where it stands: all of its requests are cut, and none has a line in the log. Here what
holds up the loop is ended alone, if it is a request's, and the worker ends as it always does, but soon: the others have a second
more, and what is cut then is answered, counted and logged. It shows the arbiter again that it lives, and is not killed.
"""

from __future__ import annotations

import logging
import signal
from types import FrameType
from typing import Any, Final

import gevent
from gevent import getcurrent

from smartedge.process.gunicorn_worker import gunicorn_worker

log = logging.getLogger("smartedge")

GRACE_S: Final = 1
"""So long may requests go on in a worker whose loop has stood still."""


def handle_abort() -> None:
    """In a worker of gunicorn's: act on SIGABRT as above. Called in the worker as its loop runs."""
    worker, before = gunicorn_worker(), signal.getsignal(signal.SIGABRT)
    if worker is None or not callable(before):
        return

    def on_abort(number: int, frame: FrameType | None) -> None:
        where = "" if frame is None else f" at {frame.f_code.co_filename}:{frame.f_lineno}, in {frame.f_code.co_name}"
        log.error("gunicorn ends this worker, whose loop has stood still%s", where)
        try:
            before(number, frame)  # which has it end, and calls the hook worker_abort
        except SystemExit:
            current: Any = getcurrent()
            hub = gevent.get_hub()
            if current is hub:
                raise
            worker.aborted = True
            worker.cfg.set("graceful_timeout", GRACE_S)
            if current.parent is hub:  # a request's, or another one's beside it; the worker's own has none
                raise gevent.GreenletExit from None

    signal.signal(signal.SIGABRT, on_abort)
