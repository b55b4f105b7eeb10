"""A server that speaks HTTP/2 to an app which says what it was asked, and how a case of a conformance table is run against it.

`through` has a whole edge, and a backend, in its place.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import gevent

from smartedge.server.front import AppHooks, ServerLimits
from smartedge.server.server import EdgeServer
from tests.house import Served, running
from tests.http2.client import GET, Client, client
from tests.peers import backend, edge_server

LIMITS = ServerLimits(head_s=5, keepalive_s=5, idle_s=5, target_bytes=200, head_bytes=4000, headers=30, body_bytes=100_000)


class EchoApp:
    """Says what it was asked, as JSON; `/bytes/N` gives N bytes, `/status/N` that status, `/wide/N` a head of so
    many bytes, `/held` waits for `go_on`."""

    def __init__(self, limits: ServerLimits = LIMITS) -> None:
        self.refused: list[tuple[int, str]] = []
        self.excess: list[str] = []
        self.asked = 0
        self.go_on = gevent.event.Event()
        self.server_hooks = AppHooks(
            limits=lambda: limits,
            on_refused=lambda _peer, error, _id: self.refused.append((error.status, str(error))),
            on_excess=self.excess.append,
            h2c=lambda: True,
        )

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        self.asked += 1
        path = environ["PATH_INFO"]
        what, _, number = path[1:].partition("/")
        if what == "bytes":
            start_response("200 OK", [("Content-Length", number)])
            return (b"x" * min(16384, left) for left in range(int(number), 0, -16384))
        if what == "wide":
            start_response("204 No Content", [("X-Wide", "x" * int(number))])
            return []
        if what == "status":
            start_response(f"{number} Said", [])
            return []
        if what == "early":
            start_response("200 OK", [("Content-Length", "5")])
            return [b"early"]
        if what == "short":
            start_response("200 OK", [("Content-Length", "10")])
            return [b"short"]
        if what == "held":
            self.go_on.wait()
        body = environ["wsgi.input"].read()
        said = {
            "method": environ["REQUEST_METHOD"],
            "path": path,
            "body": body.decode("latin-1"),
            "fields": {name[5:]: value for name, value in environ.items() if name.startswith("HTTP_")},
            "length": environ.get("CONTENT_LENGTH"),
        }
        whole = json.dumps(said).encode()
        start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(whole)))])
        return [whole]


@contextlib.contextmanager
def serving(app: EchoApp | None = None) -> Iterator[EdgeServer]:
    """Such a server on a free port."""
    with edge_server(app or EchoApp()) as server:
        yield server


@contextlib.contextmanager
def through(play: Callable[[Any, int], None], **settings: Any) -> Iterator[tuple[Served, Client]]:
    """An edge in front of a backend that plays this, and a client of its."""
    with backend(play) as url, running(url, h2c=True, **settings) as edge, client(edge.server.server_port) as one:
        yield edge, one


@dataclass(frozen=True)
class Case:
    """What a client sends, and what must come of it.

    section: of RFC 9113, or another one's. sends: frames behind the preface and the settings, a piece each. comes:

    - `200`, or another status: stream 1 is answered so, and a later stream, too
    - `RST code`: stream 1 is ended so, and a later stream is answered
    - `GOAWAY code`: the connection is ended so
    - `nothing`: no stream hears anything, and a later one is answered
    - `closed`: the connection ends, and it need not be said why

    says: settings of the client. has: of what the app says it was asked.
    """

    section: str
    what: str
    sends: tuple[bytes, ...]
    comes: str
    says: tuple[tuple[int, int], ...] = ()
    has: dict[str, Any] = field(default_factory=dict)
    raw: bool = False

    def __str__(self) -> str:
        return f"{self.section} {self.what}"

    def play(self, port: int) -> None:
        """Run it against a server."""
        with client(port, *self.says, raw=self.raw) as one:
            one.send(*self.sends)
            kind, _, code = self.comes.partition(" ")
            if kind in ("GOAWAY", "closed"):
                found = one.end()
                assert kind == "closed" or found == code, one
                return
            if kind == "nothing":
                one.synced()
                assert not any(got.status or got.reset for got in one.streams.values()), one
            else:
                self._check(one, kind, code)
            assert one.ask(99).status == 200, "the connection does not go on"
            assert not one.goaways, one

    def _check(self, one: Client, kind: str, code: str) -> None:
        got = one.answer(1)
        if kind == "RST":
            assert (got.reset, got.status) == (code, 0), one
            return
        assert (str(got.status), got.reset or "NO_ERROR") == (kind, "NO_ERROR"), one
        assert got.ended
        if self.has:
            said = json.loads(got.body)
            said |= said.pop("fields")
            assert {name: said.get(name) for name in self.has} == self.has


__all__ = ["GET", "LIMITS", "Case", "EchoApp", "serving", "through"]
