"""What may befall whoever waits on a wire. What derives from the interpreter's own errors is not compiled (setup.py)."""

from __future__ import annotations


class WireTimeout(Exception):
    """The peer did nothing until the deadline."""


class WireStalled(WireTimeout):
    """The peer took nothing until the deadline."""


class WireClosed(ConnectionError):
    """This side closed the wire while somebody waited on it."""


class NotTls(ConnectionError):
    """What the client sent does not begin a TLS handshake."""
