from __future__ import annotations

from smartedge.balancer.cells import (
    EXCESS_PING,
    EXCESS_UNKNOWN,
    HANDSHAKES,
    HANDSHAKES_FAILED,
    HANDSHAKES_RESUMED,
    HTTP2_REQUESTS,
)
from smartedge.balancer.learned import Learned
from smartedge.edge.client_counters import excess_counter, handshake_counter, stream_counter


def test_handshakes_are_counted_by_how_they_ended() -> None:
    row = Learned()
    count = handshake_counter(row)
    for resumed in (False, True, True, None):
        count(resumed)
    assert [row.cells[cell] for cell in (HANDSHAKES, HANDSHAKES_RESUMED, HANDSHAKES_FAILED)] == [3, 2, 1]


def test_requests_by_http2_and_what_there_was_too_much_of_are_counted() -> None:
    row = Learned()
    stream_counter(row)()
    for kind in ("ping", "ping", "something new"):
        excess_counter(row)(kind)
    assert [row.cells[cell] for cell in (HTTP2_REQUESTS, EXCESS_PING, EXCESS_UNKNOWN)] == [1, 2, 1]
