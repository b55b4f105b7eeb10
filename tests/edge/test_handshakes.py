from __future__ import annotations

from smartedge.balancer.cells import HANDSHAKES, HANDSHAKES_FAILED, HANDSHAKES_RESUMED
from smartedge.balancer.learned import Learned
from smartedge.edge.handshakes import handshake_counter


def test_handshakes_are_counted_by_how_they_ended() -> None:
    row = Learned()
    count = handshake_counter(row)
    for resumed in (False, True, True, None):
        count(resumed)
    assert [row.cells[cell] for cell in (HANDSHAKES, HANDSHAKES_RESUMED, HANDSHAKES_FAILED)] == [3, 2, 1]
