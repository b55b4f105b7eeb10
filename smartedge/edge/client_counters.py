"""What clients do on their connections, counted in the edge's own row: TLS handshakes, and HTTP/2."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from smartedge.balancer.cells import (
    EXCESS_CLOSED_STREAM,
    EXCESS_CONTINUATION,
    EXCESS_EMPTY_DATA,
    EXCESS_GOAWAY,
    EXCESS_HEADER_LIST,
    EXCESS_PING,
    EXCESS_PRIORITY,
    EXCESS_REFUSED,
    EXCESS_RESET,
    EXCESS_SETTINGS,
    EXCESS_SLOW_HEAD,
    EXCESS_UNKNOWN,
    EXCESS_WINDOW_UPDATE,
    HANDSHAKES,
    HANDSHAKES_FAILED,
    HANDSHAKES_RESUMED,
    HTTP2_REQUESTS,
)
from smartedge.balancer.learned import Learned
from smartedge.http.request import Request

EXCESS_CELLS: Final = {
    "reset": EXCESS_RESET,
    "refused": EXCESS_REFUSED,
    "ping": EXCESS_PING,
    "settings": EXCESS_SETTINGS,
    "priority": EXCESS_PRIORITY,
    "window_update": EXCESS_WINDOW_UPDATE,
    "empty_data": EXCESS_EMPTY_DATA,
    "continuation": EXCESS_CONTINUATION,
    "header_list": EXCESS_HEADER_LIST,
    "slow_head": EXCESS_SLOW_HEAD,
    "closed_stream": EXCESS_CLOSED_STREAM,
    "goaway": EXCESS_GOAWAY,
    "unknown": EXCESS_UNKNOWN,
}
"""By the kind of which there were too many, as `http2.calm` names them; a kind without a cell counts as unknown."""


def handshake_counter(edge_row: Learned) -> Callable[[bool | None], None]:
    """Return what a server tells of each handshake: whether it went on with an earlier session, None for one that failed."""

    def count(resumed: bool | None) -> None:
        if resumed is None:
            edge_row.add(HANDSHAKES_FAILED)
            return
        edge_row.add(HANDSHAKES)
        edge_row.add(HANDSHAKES_RESUMED, int(resumed))

    return count


def stream_counter(edge_row: Learned, is_ours: Callable[[Request], bool]) -> Callable[[Request | None], None]:
    """Return what a server tells of each request that came by HTTP/2, None for one that is refused.

    is_ours: whether it is for the admin pages, which no other counter of requests counts.
    """

    def count(request: Request | None) -> None:
        if request is None or not is_ours(request):
            edge_row.add(HTTP2_REQUESTS)

    return count


def excess_counter(edge_row: Learned) -> Callable[[str], None]:
    """Return what a server tells of each connection of HTTP/2 that was ended, with what there was too much of."""
    return lambda kind: edge_row.add(EXCESS_CELLS.get(kind, EXCESS_UNKNOWN))
