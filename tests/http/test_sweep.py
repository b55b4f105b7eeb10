"""What one loop does for all its wires: deadlines, also behind a standstill, and sends at the end of a round."""

from __future__ import annotations

from collections.abc import Iterator
from math import inf
from time import monotonic
from typing import Any

import gevent
import pytest
from gevent import get_hub

from smartedge.http import sweep
from smartedge.http.sweep import Sweep
from smartedge.http.wire import Wire, WireTimeout
from tests.peers import wire_pair


@pytest.fixture
def pair() -> Iterator[tuple[Wire, Any]]:
    ours, theirs = wire_pair()
    with gevent.Timeout(20):
        yield ours, theirs
    ours.close()
    theirs.close()


def test_what_has_come_while_the_loop_stood_still_is_read_and_not_too_late(
    pair: tuple[Wire, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a SIGSTOP of the whole process every request that had come meanwhile was taken for silence, and its client closed."""
    monkeypatch.setattr(sweep, "STOOD_STILL_S", 0.3)
    ours, theirs = pair
    reading = gevent.spawn(ours.recv, 0.5)
    gevent.sleep(0.15)  # it waits, and the loop has looked
    theirs.sendall(b"in time")
    stand_still(1.0)
    assert reading.get() == b"in time"


def test_silence_is_noticed_by_a_loop_that_is_always_late(pair: tuple[Wire, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "STOOD_STILL_S", 0.05)
    ours, _ = pair
    reading = gevent.spawn(ours.recv, 0.05)
    while not reading.ready():
        gevent.sleep(0.001)
        stand_still(0.12)
    assert isinstance(reading.exception, WireTimeout)


def stand_still(seconds: float) -> None:
    """Hold up the loop."""
    until = monotonic() + seconds
    while monotonic() < until:
        pass


class Idle:
    """A wire that nobody uses, and that ends when it is attended to, with another one."""

    read_deadline = write_deadline = inf
    on_idle = True

    def __init__(self, wires: set[Any]) -> None:
        self.wires = wires

    def attend(self) -> None:
        self.wires.clear()

    def expire(self, now: float) -> None:
        raise AssertionError(now)


def test_wires_that_end_while_all_are_looked_at_end_nothing_else() -> None:
    """A set that changed while it was gone through ended the sweep in a traceback, and with it every deadline of that round."""
    made = Sweep(get_hub())
    made.wires.update({Idle(made.wires), Idle(made.wires), Idle(made.wires)})
    made._look()
    assert made.wires == set()


def test_a_loop_that_says_little_says_it_at_once(pair: tuple[Wire, Any]) -> None:
    """Its peer works while the round is brought to its end; where much is to be said, that takes the processor from others."""
    ours, theirs = pair
    loop = Sweep.of(get_hub())
    while loop.sends or loop.busy:
        gevent.sleep(0)
    ours.send(b"x", 1)
    assert ours._waiting == b""
    for _ in range(sweep.BUSY_SENDS):
        ours.send(b"x", 1)
    while loop.sends:  # Until this round has ended, no longer: a sleep is two rounds where another timer is due in it.
        gevent.sleep(0)
    ours.send(b"y", 1)
    assert ours._waiting == b"y"
    assert theirs.recv(100).startswith(b"x")
