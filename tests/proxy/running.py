"""An edge that is served in the test's own process, in front of backends that play a script: no probes, no other process."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import gevent
import gevent.socket

from smartedge.app import SmartEdge
from smartedge.config.model import parse
from smartedge.edge.edge import Edge
from smartedge.server.server import EdgeServer


class Running:
    """An edge whose backends are taken for healthy; `logged` holds the exchanges that have ended."""

    def __init__(self, *urls: str, ssl_context: Any = None, token: str | None = None, **settings: Any) -> None:
        self.edge = Edge(parse(json.dumps({"backends": list(urls), **settings})), token=token)
        self.edge.began = True
        for backend in self.edge.pool.backends:
            backend.learned.health.probed(True)
        self.logged: list[Any] = []
        self.edge.forwarder.log = self.logged.append
        self.server = EdgeServer(("127.0.0.1", 0), SmartEdge(self.edge), ssl_context=ssl_context)
        self.server.start()

    def client(self) -> Any:
        sock = gevent.socket.create_connection(("127.0.0.1", self.server.server_port))
        sock.settimeout(10)
        return sock

    def ended(self, count: int = 1) -> list[Any]:
        """The exchanges that have ended, when there are so many."""
        with gevent.Timeout(10):
            while len(self.logged) < count:
                gevent.sleep(0.005)
        return self.logged


@contextlib.contextmanager
def running(*urls: str, **more: Any) -> Iterator[Running]:
    made = Running(*urls, **more)
    try:
        yield made
    finally:
        made.server.stop_gracefully(0)
