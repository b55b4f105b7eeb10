"""A worker among others: it follows what they have reloaded, and says once what it can't apply; it drains when they all do."""

from __future__ import annotations

import logging

import pytest

from smartedge.balancer.learned import Learned
from smartedge.config.model import ConfigError, Problem
from smartedge.edge.follower import RETRY_S, Follower, running_config
from smartedge.workers.state_dir import StateError


class Worker:
    """In place of a Reloader: what follows; trouble: what it raises."""

    def __init__(self) -> None:
        self.trouble: Exception | None = None
        self.asked = 0

    def follow_newest(self) -> bool:
        self.asked += 1
        if self.trouble is not None:
            raise self.trouble
        return True


def test_it_follows_whenever_it_is_called() -> None:
    worker = Worker()
    follower = Follower(Learned(), worker)
    for step in range(3):
        follower.follow_newest(100.0 + step * 0.05)
    assert worker.asked == 3


@pytest.mark.parametrize(
    "trouble", [ConfigError([Problem("certfile", "cannot be read")], status=422), StateError("torn"), OSError("gone")]
)
def test_what_cannot_be_applied_is_said_once_and_tried_again(trouble: Exception, caplog: pytest.LogCaptureFixture) -> None:
    worker = Worker()
    worker.trouble = trouble
    follower = Follower(Learned(), worker)
    for step in range(100):
        follower.follow_newest(100.0 + step * RETRY_S / 20)
    assert worker.asked == 5
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert str(trouble) in caplog.text
    worker.trouble = None
    follower.follow_newest(200.0)
    worker.trouble = trouble
    follower.follow_newest(201.0)
    assert len(caplog.records) == 2, "after it went well, it is news again"


def test_whoever_is_no_worker_of_a_running_edge_has_nothing_to_start_from() -> None:
    assert running_config({}) is None


def test_alone_it_leads_and_is_the_one_worker_there_is() -> None:
    follower = Follower(Learned(), Worker())
    assert follower.leads(100.0)
    assert [worker["slot"] for worker in follower.workers(100.0)] == [0]


def test_it_drains_when_the_operator_wants_that_of_all_or_it_stops_itself() -> None:
    follower = Follower(Learned(), Worker())
    assert not follower.draining
    follower.set_draining(True)
    assert follower.draining
    follower.set_draining(False)
    assert not follower.draining
    follower.stopping = True
    assert follower.draining
