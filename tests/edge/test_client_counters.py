from __future__ import annotations

import re
from pathlib import Path

from smartedge.balancer.cells import (
    EXCESS_PING,
    EXCESS_UNKNOWN,
    HANDSHAKES,
    HANDSHAKES_FAILED,
    HANDSHAKES_RESUMED,
    HTTP2_REQUESTS,
)
from smartedge.balancer.learned import Learned
from smartedge.edge.client_counters import EXCESS_CELLS, excess_counter, handshake_counter, stream_counter
from tests.house import request

ROOT = Path(__file__).resolve().parent.parent.parent


def test_handshakes_are_counted_by_how_they_ended() -> None:
    row = Learned()
    count = handshake_counter(row)
    for resumed in (False, True, True, None):
        count(resumed)
    assert [row.cells[cell] for cell in (HANDSHAKES, HANDSHAKES_RESUMED, HANDSHAKES_FAILED)] == [3, 2, 1]


def test_requests_by_http2_and_what_there_was_too_much_of_are_counted() -> None:
    row = Learned()
    count = stream_counter(row, lambda request: request.target == b"/metrics")
    count(request(target=b"/metrics"))
    for one in (request(), None):
        count(one)
    for kind in ("ping", "ping", "something new"):
        excess_counter(row)(kind)
    assert [row.cells[cell] for cell in (HTTP2_REQUESTS, EXCESS_PING, EXCESS_UNKNOWN)] == [2, 2, 1]


def test_every_kind_that_a_connection_may_be_ended_for_has_a_cell() -> None:
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "smartedge" / "http2").glob("*.py"))
    kinds = set(re.findall(r'calm\.(?:take|exceeded)\("([a-z_]+)"', source)) | set(re.findall(r'exceeded\("([a-z_]+)"', source))
    assert kinds == set(EXCESS_CELLS)
