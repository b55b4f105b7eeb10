"""Wires: waits that end by themselves, and what is noticed while nobody waits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import inf
from time import monotonic
from typing import Any

import gevent
import gevent.event
import gevent.socket
import pytest
from gevent import get_hub

from smartedge.http import wire
from smartedge.http.wire import Sweep, Wire, WireClosed, WireTimeout
from tests.peers import wire_pair

BIG = b"x" * 4_000_000


@pytest.fixture
def pair() -> Iterator[tuple[Wire, Any]]:
    ours, theirs = wire_pair()
    with gevent.Timeout(5):
        yield ours, theirs
    ours.close()
    theirs.close()


def expect(error: type[Exception], use: Callable[..., Any], *arguments: Any) -> None:
    with pytest.raises(error):
        use(*arguments)


def test_bytes_are_given_as_they_come_and_the_end_as_nothing(pair: tuple[Wire, Any]) -> None:
    ours, theirs = pair
    theirs.sendall(b"one")
    assert ours.recv(1) == b"one"
    gevent.spawn_later(0.01, theirs.sendall, b"two")
    assert ours.recv(1) == b"two"
    theirs.close()
    assert ours.recv(1) == b""


def test_silence_ends_a_read_after_its_time(pair: tuple[Wire, Any]) -> None:
    ours, theirs = pair
    with pytest.raises(WireTimeout):
        ours.recv(0.05)
    theirs.sendall(b"late")  # and the wire can still be used
    assert ours.recv(1) == b"late"


def test_what_has_come_while_the_loop_stood_still_is_read_and_not_too_late(
    pair: tuple[Wire, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a SIGSTOP of the whole process every request that had come meanwhile was taken for silence, and its client closed."""
    monkeypatch.setattr(wire, "STOOD_STILL_S", 0.3)
    ours, theirs = pair
    reading = gevent.spawn(ours.recv, 0.1)
    gevent.sleep(0.05)  # it waits, and the loop has looked
    theirs.sendall(b"in time")
    stand_still(0.5)
    assert reading.get() == b"in time"


def test_silence_is_noticed_by_a_loop_that_is_always_late(pair: tuple[Wire, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "STOOD_STILL_S", 0.05)
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


def test_a_peer_that_takes_nothing_ends_a_write_after_its_time(pair: tuple[Wire, Any]) -> None:
    ours, _ = pair
    with pytest.raises(WireTimeout):
        ours.send(BIG, 0.05)


def test_a_peer_that_takes_a_little_at_a_time_gets_everything(pair: tuple[Wire, Any]) -> None:
    ours, theirs = pair
    received = bytearray()

    def read() -> None:
        while len(received) < len(BIG):
            received.extend(theirs.recv(100_000))
            gevent.sleep(0.001)

    reader = gevent.spawn(read)
    ours.send(BIG, 0.5)
    reader.join()
    assert bytes(received) == BIG


def test_closing_wakes_the_one_who_reads(pair: tuple[Wire, Any]) -> None:
    ours, _ = pair
    reader = gevent.spawn(expect, WireClosed, ours.recv, 5)
    gevent.sleep(0.01)
    ours.close()
    reader.get(timeout=1)


def test_closing_wakes_the_one_who_writes(pair: tuple[Wire, Any]) -> None:
    ours, _ = pair
    writer = gevent.spawn(expect, OSError, ours.send, BIG, 5)
    gevent.sleep(0.01)
    ours.close()
    writer.get(timeout=1)


def test_a_closed_wire_refuses_and_may_be_closed_again(pair: tuple[Wire, Any]) -> None:
    ours, _ = pair
    ours.close()
    ours.close()
    for use in (lambda: ours.recv(1), lambda: ours.send(b"x", 1)):
        with pytest.raises(WireClosed):
            use()
    assert not ours.peer_is_quiet()


@pytest.mark.parametrize("what", ["close", "sendall"])
def test_a_move_of_the_peer_is_noticed_while_nobody_reads(pair: tuple[Wire, Any], what: str) -> None:
    ours, theirs = pair
    moved = gevent.event.Event()
    ours.watch(5)
    ours.on_idle = moved.set
    theirs.close() if what == "close" else theirs.sendall(b"x")
    assert moved.wait(1)
    assert ours.readable
    assert ours.recv(1) == (b"" if what == "close" else b"x")


def test_a_peer_that_leaves_is_noticed_on_a_connection_that_was_never_waited_on(pair: tuple[Wire, Any]) -> None:
    """The first read of a connection finds its bytes there and arms no watcher: its client could leave unseen."""
    ours, theirs = pair
    theirs.sendall(b"request")
    assert ours.recv(1) == b"request"
    moved = gevent.event.Event()
    ours.on_idle = moved.set
    theirs.close()
    assert moved.wait(1)
    assert ours.peer_is_gone()


def test_an_idle_time_that_is_over_is_told(pair: tuple[Wire, Any]) -> None:
    ours, _ = pair
    over = gevent.event.Event()
    ours.watch(0.02)
    ours.on_idle = over.set
    assert over.wait(1)


def test_the_kernel_is_asked_whether_a_peer_is_quiet(pair: tuple[Wire, Any]) -> None:
    ours, theirs = pair
    assert ours.peer_is_quiet()
    assert not ours.peer_is_gone()
    theirs.sendall(b"x")
    assert not ours.peer_is_quiet()
    assert not ours.peer_is_gone()
    theirs.shutdown(gevent.socket.SHUT_WR)
    assert not ours.peer_is_gone()  # it waits for its answer
    theirs.close()
    assert ours.peer_is_gone()  # although a byte is waiting before the end
    assert ours.recv(1) == b"x"
    assert ours.peer_is_gone()
    ours.close()
    assert ours.peer_is_gone()


def test_a_peer_that_leaves_behind_unread_bytes_is_noticed(pair: tuple[Wire, Any]) -> None:
    """The watcher rests where bytes lie that nobody reads yet: the client's departure behind them was never heard of."""
    ours, theirs = pair
    told: list[bool] = []
    ours.on_idle = lambda: told.append(ours.peer_is_gone())
    theirs.sendall(b"the next request")
    gevent.sleep(0.25)
    assert told == [False]
    theirs.close()
    gevent.sleep(0.25)
    assert told[-1]
    assert ours.recv(1) == b"the next request"


def test_a_deadline_can_be_set_while_somebody_waits(pair: tuple[Wire, Any]) -> None:
    ours, _ = pair
    reader = gevent.spawn(expect, WireTimeout, ours.recv, float("inf"))
    gevent.sleep(0.01)
    ours.expect_within(0.01)
    reader.get(timeout=1)


def test_half_a_close_lets_the_peer_answer(pair: tuple[Wire, Any]) -> None:
    ours, theirs = pair
    ours.finish_sending()
    assert theirs.recv(10) == b""
    theirs.sendall(b"answer")
    assert ours.recv(1) == b"answer"


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
    sweep = Sweep(get_hub())
    sweep.wires.update({Idle(sweep.wires), Idle(sweep.wires), Idle(sweep.wires)})
    sweep._look()
    assert sweep.wires == set()
