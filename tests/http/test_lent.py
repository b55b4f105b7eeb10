"""Buffers that are lent to bytes on their way: taken when bytes are there, the warmest first, never too many."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gevent
import pytest

from smartedge.http import lent
from smartedge.http.lent import KEPT, LENT_BYTES, MOST, give_back, receive
from smartedge.http.wire import Wire, WireTimeout
from tests.peers import wire_pair


@pytest.fixture
def pair(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Wire, Any]]:
    monkeypatch.setattr(lent, "_ready", [])
    ours, theirs = wire_pair()
    with gevent.Timeout(20):
        yield ours, theirs
    ours.close()
    theirs.close()


def received(pair: tuple[Wire, Any], data: bytes) -> memoryview:
    pair[1].sendall(data)
    piece = receive(pair[0], 5)
    assert piece == data
    assert isinstance(piece, memoryview)
    return piece


def test_the_buffer_that_came_back_last_is_lent_next(pair: tuple[Wire, Any]) -> None:
    first, second = received(pair, b"one"), received(pair, b"two")
    assert first.obj is not second.obj
    assert first == b"one"
    give_back(first)
    give_back(second)
    assert received(pair, b"three").obj is second.obj


def test_who_waits_holds_no_buffer(pair: tuple[Wire, Any]) -> None:
    before = lent._Buffer.there
    with pytest.raises(WireTimeout):
        receive(pair[0], 0.01)
    assert lent._Buffer.there == before
    pair[0].readable = True  # and nothing is there after all
    with pytest.raises(WireTimeout):
        receive(pair[0], 0.01)
    assert len(lent._ready) == 1


def test_no_more_are_out_than_may_be(pair: tuple[Wire, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    out = [received(pair, b"x") for _ in range(2)]
    monkeypatch.setattr(lent, "MOST", lent._Buffer.there)
    pair[1].sendall(b"y" * 10)
    assert type(piece := receive(pair[0], 5, 4)) is bytes
    assert piece == b"yyyy"
    give_back(out.pop())
    assert receive(pair[0], 5) == b"yyyyyy"


def test_few_lie_ready_and_a_lost_one_is_not_counted(pair: tuple[Wire, Any]) -> None:
    before = lent._Buffer.there
    out = [received(pair, b"x") for _ in range(KEPT + 3)]
    assert lent._Buffer.there == before + KEPT + 3
    del out[0]  # lost: nobody gives it back
    for piece in out:
        give_back(piece)
    del out, piece
    assert lent._Buffer.there == before + KEPT
    assert len(lent._ready) == KEPT < MOST


def test_no_more_is_taken_than_is_wanted_and_an_end_takes_nothing(pair: tuple[Wire, Any]) -> None:
    pair[1].sendall(b"mine and yours")
    assert receive(pair[0], 5, 4) == b"mine"
    assert receive(pair[0], 5, LENT_BYTES * 2) == b" and yours"
    pair[1].close()
    before = lent._Buffer.there
    assert receive(pair[0], 5) == b""
    assert lent._Buffer.there - before == len(lent._ready)
