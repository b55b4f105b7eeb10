from __future__ import annotations

import logging

import gevent
import gevent.socket
import pytest
from gevent.event import Event

from smartedge.workers.periodic import PIECE_S, Pauses, PeriodicWork, give_way, in_pieces


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


class Clock:
    """A clock that a step moves on."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_work_gives_way_when_it_has_held_up_requests_for_long_enough_and_not_before() -> None:
    clock, paused_at = Clock(), []
    pause = Pauses(lambda: paused_at.append(clock.now), clock)
    for _ in range(10):
        clock.now += PIECE_S * 0.4
        pause()
    assert [round((at - 1000.0) / PIECE_S, 1) for at in paused_at] == [1.2, 2.4, 3.6]


def test_in_pieces_gives_all_items_in_order_and_nothing_of_nothing() -> None:
    assert list(in_pieces(range(3))) == [0, 1, 2]
    assert list(in_pieces([])) == []


def test_who_gives_way_lets_sockets_that_have_something_to_read_go_first() -> None:
    """gevent.sleep(0) does not: it goes on with callbacks for 5 ms before it looks at any socket."""
    reader, writer = gevent.socket.socketpair()
    with reader, writer:
        received: list[bytes] = []
        waiting = gevent.spawn(lambda: received.append(reader.recv(1)))
        gevent.sleep(0.001)
        writer.send(b"x")
        rounds = 0
        while not received and rounds < 1000:
            give_way()
            rounds += 1
        waiting.join(20)
        assert received == [b"x"]
        assert rounds <= 3
