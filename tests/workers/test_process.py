from __future__ import annotations

from types import FunctionType

import gevent
from gevent.event import Event

from smartedge.workers.process import spawned_by_hup, when_serving


def test_what_waits_for_a_worker_to_serve_begins_with_its_event_loop() -> None:
    begun = Event()
    when_serving(begun.set)
    assert not begun.is_set()
    assert begun.wait(5)


def test_a_worker_sees_by_its_stack_that_a_hup_of_gunicorns_arbiter_has_started_it() -> None:
    found: list[bool] = []

    def reload() -> None:
        found.append(spawned_by_hup())

    reload()  # another `reload` is none
    arbiters = FunctionType(reload.__code__, {**globals(), "__name__": "gunicorn.arbiter"}, closure=reload.__closure__)
    arbiters()
    assert found == [False, True]
    assert not gevent.spawn(spawned_by_hup).get()
