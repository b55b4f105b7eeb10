"""Closing a client's connection without destroying what is on its way to it (RFC 9112 section 9.6).

A close over bytes that nobody has read, or that come later, resets the connection, and with it goes what the client has not
received yet: of an answer of 3 MB it got 113 kB. So our side ends first, and what still comes is read for a while.
"""

from __future__ import annotations

from time import monotonic

from smartedge.http.side import Side
from smartedge.http.wire import WireTimeout

QUIET_S = 1.0
"""How long the client may say nothing before it is taken for done, in seconds."""

LINGER_S = 30.0
"""How long it may go on sending, in seconds: nginx's `lingering_time`."""

LINGER_BYTES = 1 << 26
"""And how much, in bytes."""


def linger(side: Side) -> None:
    """End our side and read on until the client has ended its own, within the bounds; closing is the caller's."""
    until, left = monotonic() + LINGER_S, LINGER_BYTES
    try:
        side.finish_sending()
        while left > 0 and (rest_s := until - monotonic()) > 0:
            data = side.recv(min(QUIET_S, rest_s))
            if not data:
                return
            left -= len(data)
    except (OSError, WireTimeout):
        pass  # It has gone, or has no more to say.
