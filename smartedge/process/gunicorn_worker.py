"""The worker of gunicorn's that this process is, if it is one: found on the stack, for gunicorn tells no application of it."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

import gevent


def gunicorn_worker() -> Any:
    """Return the worker of gunicorn's that this is: whoever runs it is in the main greenlet's stack; None if it is none."""
    frame = _running()
    return None if frame is None else frame.f_locals["self"]


def gunicorn_servers() -> list[Any]:
    """Return that worker's own list of gevent's servers with which it accepts connections; none where it can't be found."""
    frame = _running()
    return [] if frame is None else frame.f_locals.get("servers", [])


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
