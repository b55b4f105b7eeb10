"""A lock that may be made before gevent has patched `threading`."""

from __future__ import annotations

import threading


class LateLock:
    """A lock that is made when it is first taken; owned by the Edge and its Reloader, who hold one while they wait or write.

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
