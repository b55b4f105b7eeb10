"""TLS handshakes with clients, counted in the edge's own row."""

from __future__ import annotations

from collections.abc import Callable

from smartedge.balancer.cells import HANDSHAKES, HANDSHAKES_FAILED, HANDSHAKES_RESUMED
from smartedge.balancer.learned import Learned


def handshake_counter(edge_row: Learned) -> Callable[[bool | None], None]:
    """Return what a server tells of each handshake: whether it went on with an earlier session, None for one that failed."""

    def count(resumed: bool | None) -> None:
        if resumed is None:
            edge_row.add(HANDSHAKES_FAILED)
            return
        edge_row.add(HANDSHAKES)
        edge_row.add(HANDSHAKES_RESUMED, int(resumed))

    return count
