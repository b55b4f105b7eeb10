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

from smartedge.http.peer import RESET
from smartedge.http.wire import AT_ONCE_BYTES, Wire, WireClosed, WireStalled, WireTimeout
from tests.busy import make_busy
from tests.peers import tcp_pair, wire_pair

BIG = b"x" * 4_000_000


@pytest.fixture(autouse=True)
def busy(monkeypatch: pytest.MonkeyPatch) -> None:
    make_busy(monkeypatch)


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


@pytest.mark.parametrize("closes", [True, False], ids=["closed", "waits"])
@pytest.mark.parametrize("behind", [b"", b"the next request"], ids=["nothing", "unread bytes"])
def test_a_peer_that_has_closed_refuses_a_word_and_one_that_waits_gets_it_before_its_answer(behind: bytes, closes: bool) -> None:
    sock, theirs = tcp_pair()
    ours = Wire(sock)
    gone = gevent.event.Event()
    ours.on_idle = lambda: gone.set() if ours.peer_is_gone() else ours.probe_peer(b"a word, ")
    theirs.sendall(behind)
    gevent.sleep(0.15)  # the sweep has seen these bytes, which are no end
    if closes:
        theirs.close()
        assert gone.wait(5)
    else:
        theirs.shutdown(gevent.socket.SHUT_WR)
        assert theirs.recv(100) == b"a word, "
        ours.send_now(b"the answer", 1)
        assert theirs.recv(100) == b"the answer"
        assert not gone.is_set()
        theirs.close()
    ours.close()


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


def small_buffers(ours: Wire) -> None:
    """Have the kernel take no more than a few kB at a time."""
    ours.sock._sock.setsockopt(gevent.socket.SOL_SOCKET, gevent.socket.SO_SNDBUF, 1)


def exactly(sock: Any, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = sock.recv(size - len(data))
        assert piece
        data += piece
    return data


def test_small_sends_of_one_round_go_out_together_at_its_end(pair: tuple[Wire, Any]) -> None:
    ours, theirs = pair
    for piece in (b"one, ", bytearray(b"two, "), memoryview(b"three")):
        ours.send(piece, 1)
    with pytest.raises(BlockingIOError):
        theirs._sock.recv(100)
    assert theirs.recv(100) == b"one, two, three"
    assert monotonic() - ours.sent_at < 5


def test_what_new_greenlets_send_does_not_wait_for_the_next_round(pair: tuple[Wire, Any]) -> None:
    """They start between two looks at the kernel: what they say must be out before the second, which may take long."""
    ours, theirs = pair
    rounds: list[float] = []
    counting = get_hub().loop.check(ref=False)
    counting.start(lambda: rounds.append(monotonic()))
    gevent.spawn(gevent.spawn, ours.send, b"x", 1)  # the second is started by the first
    assert theirs.recv(1) == b"x"
    counting.stop()
    assert len(rounds) <= 2


def test_a_large_send_takes_along_what_waits_and_keeps_the_order(pair: tuple[Wire, Any]) -> None:
    ours, theirs = pair
    reader = gevent.spawn(exactly, theirs, 5 + len(BIG) + 4)
    ours.send(b"head:", 1)
    ours.send(BIG, 5)
    ours.send(b"tail", 1)
    assert reader.get(timeout=20) == b"head:" + BIG + b"tail"


def test_small_sends_are_joined_up_to_a_limit(pair: tuple[Wire, Any]) -> None:
    ours, theirs = pair
    reader = gevent.spawn(exactly, theirs, 3 * AT_ONCE_BYTES)
    for _ in range(96):
        ours.send(b"x" * (AT_ONCE_BYTES // 32), 5)
        assert len(ours._waiting) < AT_ONCE_BYTES
    assert reader.get(timeout=20) == b"x" * 3 * AT_ONCE_BYTES


def test_what_the_socket_does_not_take_goes_out_while_somebody_waits_for_bytes(pair: tuple[Wire, Any]) -> None:
    """An answer that waits to be read by a slow client must not wait for the client's next request, too."""
    ours, theirs = pair
    small_buffers(ours)
    data = bytes(range(256)) * 200
    ours.send(data, 5)
    reading = gevent.spawn(ours.recv, 5)
    gevent.sleep(0.01)
    assert ours._waiting
    assert exactly(theirs, len(data)) == data
    assert not ours._waiting
    assert ours.write_deadline == inf
    theirs.sendall(b"next")
    assert reading.get(timeout=5) == b"next"


def test_a_slow_peer_is_waited_for_by_the_next_send(pair: tuple[Wire, Any]) -> None:
    ours, theirs = pair
    small_buffers(ours)
    data = b"x" * 50_000
    ours.send(data, 5)
    gevent.sleep(0.01)
    sending = gevent.spawn(ours.send, b"behind", 5)
    gevent.sleep(0.01)
    assert not sending.ready()
    assert exactly(theirs, len(data) + 6) == data + b"behind"
    sending.get(timeout=5)
    ours.send_now(b".", 1)
    ours.send(b"put off again", 1)
    assert ours._waiting == b"put off again"


def test_a_peer_that_takes_nothing_is_told_of_to_whoever_reads_and_to_whoever_sends(pair: tuple[Wire, Any]) -> None:
    ours, _ = pair
    small_buffers(ours)
    ours.send(b"x" * 50_000, 0.05)
    with pytest.raises(WireStalled):
        ours.recv(20)
    for use in (lambda: ours.send(b"x", 20), lambda: ours.send_now(b"x", 20), lambda: ours.recv(20)):
        with pytest.raises(WireStalled):
            use()
    ours.finish_sending()
    ours.close()


def test_what_can_not_be_sent_is_told_of_behind_what_has_come() -> None:
    """A backend that answers and resets the connection before it has the request: its answer counts."""
    near, theirs = tcp_pair()
    ours = Wire(near)
    theirs.sendall(b"answer")
    theirs.setsockopt(gevent.socket.SOL_SOCKET, gevent.socket.SO_LINGER, RESET)
    theirs.close()
    while not ours.peer_is_gone():
        gevent.sleep(0.001)
    ours.send(b"request", 5)
    assert ours.recv(5) == b"answer"
    assert ours.recv(5) == b""
    assert ours.unsent
    for send in (ours.send, ours.send_now):
        expect(OSError, send, b"another", 5)
    ours.close()


def test_a_failure_wakes_the_one_who_reads() -> None:
    near, theirs = tcp_pair()
    ours = Wire(near)
    reading = gevent.spawn(expect, OSError, ours.recv, 20)
    gevent.sleep(0.01)
    ours._fail(OSError("no memory"))
    reading.get(timeout=5)
    ours.close()
    theirs.close()


@pytest.mark.parametrize("end", [Wire.close, Wire.finish_sending, Wire.may_close])
def test_whoever_ends_a_wire_sends_what_waits_before(pair: tuple[Wire, Any], end: Callable[[Wire], Any]) -> None:
    ours, theirs = pair
    ours.send(b"the last words", 1)
    end(ours)
    assert theirs._sock.recv(100) == b"the last words"
    if end is not Wire.may_close:
        assert theirs.recv(1) == b""


def test_a_wire_may_not_be_closed_before_its_peer_has_taken_everything(pair: tuple[Wire, Any]) -> None:
    ours, theirs = pair
    small_buffers(ours)
    data = b"x" * 50_000
    ours.send(data, 5)
    assert not ours.may_close()
    ending = gevent.spawn(ours.finish_sending)
    assert exactly(theirs, len(data)) == data
    assert theirs.recv(1) == b""
    ending.get(timeout=5)
    assert ours.may_close()
