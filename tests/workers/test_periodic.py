from __future__ import annotations

import logging

import gevent
import pytest
from gevent.event import Event

from smartedge.workers.periodic import PeriodicWork


def test_work_that_fails_is_logged_and_called_again_until_it_is_stopped(caplog: pytest.LogCaptureFixture) -> None:
    calls: list[int] = []
    twice = Event()

    def work() -> None:
        calls.append(len(calls))
        if len(calls) == 1:
            raise ValueError("once")
        twice.set()

    periodic = PeriodicWork(work, 0.001)
    periodic.start()
    periodic.start()  # a second start is none
    with caplog.at_level(logging.ERROR):
        assert twice.wait(5)
    periodic.stop()
    count = len(calls)
    gevent.sleep(0.005)
    assert len(calls) == count
    assert "tried again in 0.001 s" in caplog.text
