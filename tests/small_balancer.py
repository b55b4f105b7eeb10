"""A balancer as the commands see one: it says hello as an edge does, and answers whatever the test has put down."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

from smartedge.admin import hello

__all__ = ["SmallBalancer", "serving"]


class SmallBalancer(HTTPServer):
    """Answers in turn what it was given, the last for ever.

    token: that of its admin pages. says_hello: it is a balancer; else it is somebody else's server, which answers the
    same to everything. asked: method, path and Authorization of each request but the hellos. bodies: the JSON that came
    with them. seen: the header fields of all requests, as text.
    """

    def __init__(self, *answers: tuple[int, Any], token: str | None = None, says_hello: bool = True) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers = list(answers) or [(200, {})]
        self.headers: dict[str, str] = {}
        self.token = token
        self.says_hello = says_hello
        self.asked: list[tuple[str, str, str | None]] = []
        self.bodies: list[Any] = []
        self.seen = ""

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.server_port}"

    def answer(self, status: int, body: object, **headers: str) -> None:
        """Answer this from now on."""
        self.answers, self.headers = [(status, body)], headers


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server: SmallBalancer

    def do_GET(self) -> None:
        server = self.server
        server.seen += str(self.headers)
        length = int(self.headers.get("Content-Length", 0))
        body = json.loads(self.rfile.read(length)) if length else None
        if server.says_hello and self.path == hello.PATH:
            self._send(200, hello.reply(self.headers[hello.FIELD], server.token, "0.1.0"), {})
            return
        server.asked.append((self.command, self.path, self.headers.get("Authorization")))
        server.bodies.append(body)
        status, document = server.answers[0] if len(server.answers) == 1 else server.answers.pop(0)
        self._send(status, document, server.headers)

    do_POST = do_GET  # noqa: N815

    def _send(self, status: int, document: object, headers: dict[str, str]) -> None:
        data = document if isinstance(document, bytes) else json.dumps(document).encode()
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def serving(balancer: SmallBalancer) -> Iterator[SmallBalancer]:
    """Have it answer."""
    thread = threading.Thread(target=balancer.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield balancer
    finally:
        balancer.shutdown()
        thread.join()
        balancer.server_close()
