"""An event loop in a thread of its own, so that a test that knows nothing of gevent may block while the edge serves."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

import gevent
from gevent.event import Event

T = TypeVar("T")

LOOK_S = 60.0
"""A timer of so long keeps the loop going while nothing else waits on it."""


class LoopThread:
    """A gevent loop in a thread; owned by an `EdgeUnderTest`, which has everything of its edge done there.

    In a process that gevent has patched the thread is a greenlet, and its loop is the one that all have.
    """

    def __init__(self) -> None:
        self._runs = threading.Event()
        self._end: Any = None
        self._loop: Any = None
        self._thread = threading.Thread(target=self._run, name="smartedge", daemon=True)
        self._thread.start()
        self._runs.wait()

    def call(self, function: Callable[[], T], timeout_s: float = 30.0) -> T:
        """Call a function in a greenlet of the loop and return what it returns; raises what it raises, or TimeoutError."""
        future: Future[T] = Future()

        def run() -> None:
            try:
                future.set_result(function())
            except BaseException as error:
                future.set_exception(error)

        self._loop.run_callback_threadsafe(lambda: gevent.spawn(run))
        return future.result(timeout_s)

    def stop(self) -> None:
        """End the loop; what still runs on it ends with it."""
        self._loop.run_callback_threadsafe(lambda: self._end.set())
        self._thread.join(10)

    def _run(self) -> None:
        hub = gevent.get_hub()
        self._end, self._loop = Event(), hub.loop
        timer = self._loop.timer(LOOK_S, repeat=LOOK_S)
        timer.start(lambda: None)
        self._runs.set()
        self._end.wait()
        timer.close()
        if not self._loop.default:  # it is this thread's own; under gevent's patches it is everybody's
            hub.destroy(destroy_loop=True)
