"""Pipes that are lent to bytes on their way: byte for byte, and nobody's rest becomes another's beginning."""

from __future__ import annotations

import contextlib
import errno
import gc
import os
from collections.abc import Iterator
from typing import Any

import gevent
import pytest

from smartedge.http import pipes
from smartedge.http.pipes import KEPT, MOST, PIPE_BYTES, Pipe, give_back, receive, send
from smartedge.http.wire import WireClosed, WireStalled, WireTimeout
from tests.peers import wire_pair

pytestmark = pytest.mark.skipif(not hasattr(os, "splice"), reason="this system has no splice(2)")


class Way:
    """A wire that bytes come from, one that they go to, and who is at the other ends."""

    def __init__(self) -> None:
        self.source, self.giver = wire_pair()
        self.sink, self.taker = wire_pair()

    def received(self, data: bytes) -> Pipe:
        self.giver.sendall(data)
        piece = receive(self.source, 5)
        assert isinstance(piece, Pipe)
        assert len(piece) == len(data)
        return piece


@pytest.fixture
def way(monkeypatch: pytest.MonkeyPatch) -> Iterator[Way]:
    monkeypatch.setattr(pipes, "_ready", [])
    gc.collect()
    made = Way()
    with gevent.Timeout(20):
        yield made
    for end in (made.source, made.giver, made.sink, made.taker):
        end.close()


def exactly(sock: Any, size: int) -> bytes:
    data = bytearray()  # bytes would be copied whole for each piece: 12 GB for 40 MB
    while len(data) < size:
        data += sock.recv(size - len(data))
    return bytes(data)


def test_bytes_go_from_one_socket_to_the_other_behind_what_waits_there(way: Way) -> None:
    way.sink._waiting = b"head, "
    piece = way.received(b"body")
    send(way.sink, piece, 5)
    assert not piece
    assert exactly(way.taker, 10) == b"head, body"
    give_back(piece)
    assert way.received(b"next") is piece


def test_more_than_the_socket_takes_goes_on_when_it_takes_more(way: Way) -> None:
    size, taken = 40 * PIPE_BYTES, []
    data = os.urandom(1 << 16) * (size >> 16)
    gevent.spawn(way.giver.sendall, data)

    def carry() -> None:
        left = size
        while left:
            piece = receive(way.source, 5)
            assert isinstance(piece, Pipe)
            left -= len(piece)
            send(way.sink, piece, 5)
            give_back(piece)

    carrier = gevent.spawn(carry)
    gevent.sleep(0.05)
    assert not carrier.ready()  # the taker has not begun
    taken.append(exactly(way.taker, size))
    carrier.get()
    assert taken[0] == data
    assert len(pipes._ready) == 1


def test_who_waits_holds_no_pipe_and_who_leaves_holds_none(way: Way) -> None:
    with pytest.raises(WireTimeout):
        receive(way.source, 0.01)
    way.source.readable = True  # and nothing is there after all
    with pytest.raises(WireTimeout):
        receive(way.source, 0.01)
    assert len(pipes._ready) == 1
    way.giver.close()
    assert receive(way.source, 5) == b""
    way.source.close()
    way.source.readable = True
    with pytest.raises(WireClosed):
        receive(way.source, 5)
    assert len(pipes._ready) == 1


def test_what_a_sink_does_not_take_in_time_or_never_will_is_lent_to_nobody(way: Way) -> None:
    before = Pipe.there
    way.giver.sendall(b"x" * 1000)
    piece = receive(way.source, 5)
    assert isinstance(piece, Pipe)
    with contextlib.suppress(BlockingIOError):
        while True:
            way.sink.sock._sock.send(b"y" * 65536)
    with pytest.raises(WireStalled):
        send(way.sink, piece, 0.01)
    way.sink.close()
    with pytest.raises(WireClosed):
        send(way.sink, piece, 0.01)
    assert piece
    give_back(piece)
    assert not pipes._ready
    del piece
    gevent.sleep(0)  # who raised it has held it
    assert Pipe.there == before


def test_what_is_cut_off_is_given_to_nobody(way: Way) -> None:
    before = Pipe.there
    piece = way.received(b"mine and yours")
    piece.cut(4)
    send(way.sink, piece, 5)
    assert exactly(way.taker, 4) == b"mine"
    give_back(piece)
    del piece
    assert Pipe.there == before
    assert len(way.received(b"new")) == 3


def test_no_more_is_taken_than_is_wanted(way: Way) -> None:
    way.giver.sendall(b"mine and yours")
    assert len(receive(way.source, 5, 4)) == 4
    assert len(receive(way.source, 5, 1 << 70)) == 10


def test_where_no_pipe_is_to_be_had_bytes_go_by_memory(way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipes, "MOST", Pipe.there)
    way.giver.sendall(b"one")
    assert receive(way.source, 5) == b"one"
    monkeypatch.undo()
    monkeypatch.setattr(pipes, "_ready", [])

    def refuse(*_: object) -> None:
        raise OSError(errno.EMFILE, "too many")

    monkeypatch.setattr(os, "pipe2", refuse)
    way.giver.sendall(b"two")
    piece = receive(way.source, 5)
    assert isinstance(piece, memoryview)
    assert piece == b"two"
    give_back(piece)


def test_a_system_that_refuses_is_not_asked_again(way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def refuse(*_: object, **__: object) -> int:
        asked.append(1)
        raise OSError(errno.EINVAL, "no")

    monkeypatch.setattr(pipes, "_refused", False)
    monkeypatch.setattr(os, "splice", refuse)
    monkeypatch.setattr(pipes, "_ready", [])
    for data in (b"one", b"two"):
        way.giver.sendall(data)
        assert receive(way.source, 5) == data
    assert asked == [1]


def test_few_lie_ready(way: Way) -> None:
    before = Pipe.there
    out = [way.received(b"x") for _ in range(KEPT + 2)]
    for piece in out:
        send(way.sink, piece, 5)
        give_back(piece)
    del out, piece
    assert Pipe.there == before + KEPT
    assert len(pipes._ready) == KEPT < MOST
