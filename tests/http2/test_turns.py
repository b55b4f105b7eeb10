"""Whose turn it is to send, when several streams have something to say: RFC 9218, and fair between those that are equal."""

from __future__ import annotations

from collections.abc import Callable

import gevent

from smartedge.http2.link import TURN_BYTES
from smartedge.http2.turns import StreamTurns
from tests.house import until
from tests.http2.client import GET, Client, client, data, frame, having, headers, plus, window
from tests.http2.house import EchoApp, serving

SIZE = 12_000_000
LARGE = having(GET, path=b"/bytes/%d" % SIZE)
"""More than all sockets and turns between the two hold."""


def first_to_end(*asks: bytes, then: Callable[[Client], None] = lambda _: None) -> dict[int, int]:
    """How much of each stream has come when the first one has ended, to a client that has read nothing before all had begun."""
    app = EchoApp()
    with serving(app) as server, client(server.server_port, (4, 1 << 30), opens=False, recv_bytes=65536) as one:
        one.send(window(0, 1 << 30), *asks)
        (incoming,) = server.front.open
        link = incoming.leave.__self__.link  # type: ignore[union-attr]
        until(lambda: len(link._turns) == len(asks) - 1)
        then(one)
        one.until(lambda: any(got.ended for got in one.streams.values()), 20)
        return {at: len(got.body) for at, got in one.streams.items()}


def test_streams_of_one_urgency_take_turns() -> None:
    came = first_to_end(headers(1, LARGE), headers(3, LARGE), headers(5, LARGE))
    assert max(came.values()) == SIZE
    assert min(came.values()) > SIZE - 4 * TURN_BYTES - 300_000


def test_the_most_urgent_goes_first() -> None:
    """RFC 9218 section 4.1: u=0 before the usual 3, which is before 7; who sends at the moment ends its turn."""
    urgent, patient = plus((b"priority", b"u=0, i"), of=LARGE), plus((b"priority", b"i, u=7"), of=LARGE)
    came = first_to_end(headers(1, patient), headers(3, LARGE), headers(5, urgent))
    assert came[5] == SIZE
    assert came[1] + came[3] < SIZE / 2


def test_an_urgency_that_changes_counts_from_the_next_turn_on() -> None:
    """RFC 9218 section 7.1."""

    def hurry(one: Client) -> None:
        one.send(frame(16, 0, 0, b"\x00\x00\x00\x05u=0"))
        one.send(frame(16, 0, 0, b"\x00\x00\x00\x03u=7"))

    came = first_to_end(headers(1, LARGE), headers(3, LARGE), headers(5, LARGE), then=hurry)
    assert came[5] == SIZE
    assert came[3] < SIZE / 2
    assert came[1] < SIZE / 2 + TURN_BYTES


def test_the_end_of_a_connection_is_told_beside_a_download() -> None:
    """Somebody is in the middle of a write: it comes behind that."""
    app = EchoApp()
    with serving(app) as server, client(server.server_port, (4, 1 << 30), opens=False) as one:
        one.send(window(0, 1 << 30), headers(1, having(GET, path=b"/bytes/100000000")))
        one.until(lambda: len(one.of(1).body) > 1 << 20)
        one.send(data(0, b"x"))
        assert one.end() == "PROTOCOL_ERROR"


def test_who_is_killed_in_the_moment_of_its_turn_hands_it_on() -> None:
    """Else nobody on the connection sends a byte any more."""
    turns = StreamTurns()
    turns.are_taken = True
    first, second = (gevent.spawn(turns.wait, 3) for _ in range(2))
    until(lambda: len(turns) == 2)
    first.kill(block=False)
    turns.hand_on()
    second.get(timeout=5)
    assert (turns.are_taken, len(turns)) == (True, 0)
