"""Stand-ins for what the domain is given from outside."""

from __future__ import annotations

import socket

from flask import Flask
from flask.testing import FlaskClient

from smartedge.http.environ_keys import GUNICORN_SOCKET, SOCKET


class FakeClock:
    """A monotonic clock that stands still until it is moved; call it, or read `now`, for seconds."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> float:
        """Move on, never back; return the new time."""
        assert seconds >= 0
        self.now += seconds
        return self.now


_OURS, _THEIRS = socket.socketpair()
"""A connection whose other end is a process of our own user; both stay open, or nobody could tell whose they are."""


def local_client(app: Flask) -> FlaskClient:
    """Return a test client that the kernel knows: one without a connection could be anybody's, and may administer nothing."""
    client = app.test_client()
    client.environ_base |= {SOCKET: _OURS, GUNICORN_SOCKET: _OURS}
    return client
