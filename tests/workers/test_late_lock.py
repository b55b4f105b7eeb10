from __future__ import annotations

import subprocess
import sys

from smartedge.workers.late_lock import LateLock

PRELOADED = """
from smartedge.workers.late_lock import LateLock

lock = LateLock()  # gunicorn's arbiter makes the app, with --preload

from gevent import monkey

monkey.patch_all()  # a worker begins

import gevent


def hold():
    with lock:
        gevent.sleep(0.01)


gevent.joinall([gevent.spawn(hold) for _ in range(3)], raise_error=True)
print("all had it")
"""


def test_a_lock_from_before_the_patch_is_waited_for_by_greenlets_and_stops_no_worker() -> None:
    """With --preload a request that came while the worker began stopped it for ever: the lock was one for threads."""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", PRELOADED], capture_output=True, text=True, timeout=20)
    assert (done.stdout, done.stderr) == ("all had it\n", "")


def test_a_late_lock_is_given_back_by_an_error_too() -> None:
    lock = LateLock()
    for _ in range(2):
        try:
            with lock:
                raise ValueError
        except ValueError:
            pass
