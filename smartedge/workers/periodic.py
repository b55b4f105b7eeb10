"""What a worker does again and again beside its requests."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import gevent

log = logging.getLogger(__name__)


class PeriodicWork:
    """Calls `work` every `interval_s` seconds in a greenlet, from `start` to `stop`; made and ended by the Edge.

    What `work` raises is logged, and it is called again at its next turn.
    """

    def __init__(self, work: Callable[[], None], interval_s: float) -> None:
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


def give_way() -> None:
    """Let requests go on: what takes long is done in pieces."""
    gevent.sleep(0.001)  # not 0, which comes before the sockets that have something to read
