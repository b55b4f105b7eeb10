"""What all connections of one server share: the app, what it is asked and told, limits, TLS, and who is connected.

EdgeServer ─── owns ───▶ Front ◀─── reads ─── EdgeHandler, one for each connection
                           │                     │ owns
                           │ open: all of them   ├──▶ RequestReader ──▶ Request, and the body of one that has a body
                           ▼                     ├──▶ AnswerWriter
                        Incoming ◀───────────────┴──  the client's connection, which reader, body and writer share
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final
from uuid import uuid4

from smartedge.balancer.errors import ClientError
from smartedge.http.headers import RequestFields
from smartedge.http.memory import remember
from smartedge.http.request import Request
from smartedge.server.incoming import Incoming


@dataclass(slots=True)
class ServerLimits:
    """What a client may take: seconds and bytes; made at reload (edge/policies.py), taken by each new connection.

    line_bytes, field_bytes: of the request line, and of one header field, which gunicorn has (process/take_over.py); 0 is none.
    """

    head_s: float = 10.0
    keepalive_s: float = 75.0
    idle_s: float = 60.0
    target_bytes: int = 8192
    head_bytes: int = 65536
    headers: int = 200
    body_bytes: int = 0
    line_bytes: int = 0
    field_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class AppHooks:
    """What a server asks of its app and tells it; made by the app, which keeps it in `server_hooks`. The defaults suit any app.

    limits: those for a new connection. next_request_id: makes the id of a request that is refused. on_refused: told of each of
    these, with the client's address, the error and the id. on_stopping: told once, when no more connections are accepted.
    on_handshake: told of each TLS handshake: whether it went on with an earlier session, None if it failed.
    hsts: the field Strict-Transport-Security for answers over TLS, with its CRLF; b"" for none.
    h2c: whether clients without TLS may speak HTTP/2 at once (RFC 9113 section 3.3). on_stream: told of each request of
    HTTP/2, None for one that is refused; on_excess: of what kind of frame a client has sent so many that its connection was
    ended.
    forward: is asked before the app; gives what answers a request that needs nothing of the app, with `answer_to(writer)` and
    `close()` (proxy/exchange.py), or None.
    """

    limits: Callable[[], ServerLimits] = ServerLimits
    next_request_id: Callable[[], str] = lambda: uuid4().hex
    on_refused: Callable[[bytes, ClientError, str], None] = lambda *_: None
    on_stopping: Callable[[], None] = lambda: None
    on_handshake: Callable[[bool | None], None] = lambda _: None
    hsts: Callable[[], bytes] = lambda: b""
    h2c: Callable[[], bool] = lambda: False
    on_stream: Callable[[Request | None], None] = lambda _: None
    on_excess: Callable[[str], None] = lambda _: None
    forward: Callable[[Request], Any] = lambda _: None


KNOWN_BLOCKS: Final = 64
KNOWN_BLOCK_BYTES: Final = 2048
"""So many of the blocks that connections have begun with are known at most, and none that is longer."""


def hooks_of(app: Any) -> AppHooks:
    """Return the hooks of an app; the defaults for one that has none."""
    hooks = getattr(app, "server_hooks", None)
    return hooks if isinstance(hooks, AppHooks) else AppHooks()


class Front:
    """What all connections of a server share; made and kept up by its `EdgeServer`, read by the `EdgeHandler`s.

    tls: gives the SSLContext for a new connection, None for a plain one. environ: what the environs of all requests have in
    common. stopping: each answer is its connection's last. lingers: but connections that wait for a request may still send
    one. open: the connections that are served now. known_blocks: header fields that connections have begun with, by the block
    they came in, and the limits that they were checked by.
    """

    __slots__ = ("app", "environ", "hooks", "known_blocks", "lingers", "open", "stopping", "tls")

    def __init__(self, app: Any, tls: Callable[[], Any]) -> None:
        self.app = app
        self.hooks = hooks_of(app)
        self.tls = tls
        self.environ: dict[str, Any] = {}
        self.stopping = self.lingers = False
        self.open: set[Incoming] = set()
        self.known_blocks: dict[bytes, tuple[ServerLimits, RequestFields]] = {}

    def know(self, block: bytes, limits: ServerLimits, fields: RequestFields) -> None:
        """Keep the fields of a connection's first request: whoever opens one for each sends the same again (docs/performance.md).

        They are looked up by their hash, so nobody can find out by the time it takes how another client's fields begin.
        """
        if len(block) <= KNOWN_BLOCK_BYTES and fields.hosts == 1 and fields.transfer_encoding is None:
            remember(self.known_blocks, block, (limits, fields), KNOWN_BLOCKS)

    def close_idle(self, *, fresh: bool) -> None:
        """Close the connections that have had a request and wait for another; fresh: those too that have had none."""
        for incoming in list(self.open):
            wire = incoming.wire
            if incoming.leave is not None:
                incoming.leave()
            elif incoming.idle and (fresh or not incoming.fresh) and wire.peer_is_quiet():
                if wire.may_close():
                    wire.close()
                else:
                    wire.end_wait()  # the end of its last answer is still on its way

    def say_goodbye(self) -> None:
        """Have those clients open other connections that can be told so without an answer (HTTP/2)."""
        for incoming in list(self.open):
            if incoming.leave is not None:
                incoming.leave()

    def longest_idle(self) -> list[Incoming]:
        """Give the connections that wait for a request, those first that have waited longest."""
        idle = [incoming for incoming in self.open if incoming.idle and not incoming.wire.closed]
        return sorted(idle, key=lambda incoming: (incoming.fresh, incoming.wire.read_deadline))
