"""A request body on its way to a backend while its client still sends it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from smartedge.balancer.errors import BackendTimeout, EdgeError
from smartedge.http.chunked import chunk
from smartedge.http.headers import last_chunk
from smartedge.http.request import Body
from smartedge.http.wire import Wire, WireTimeout

TOOK_NOTHING = "The backend took no bytes of the request for too long."


class Upload:
    """Sends a request body on while the answer is awaited: both directions flow at once; made and ended by its Connection.

    fail: closes the connection with an error, for whoever waits there for an answer.
    """

    __slots__ = ("_body", "_fail", "_first_byte_s", "_on_sent", "_send_s", "_wire", "done", "greenlet")

    def __init__(
        self,
        wire: Wire,
        body: Body,
        send_s: float,
        first_byte_s: float,
        on_sent: Callable[[], None] | None,
        fail: Callable[[EdgeError], None],
    ) -> None:
        self._wire = wire
        self._fail = fail
        self._body = body
        self._send_s = send_s
        self._first_byte_s = first_byte_s
        self._on_sent = on_sent
        self.done = False
        self.greenlet: Any = None

    def abandon(self) -> None:
        """Stop reading from the client: the next try, or the end of the exchange, has no use for it."""
        self.greenlet.kill()

    def run(self) -> None:
        """Read from the client and write to the backend until the body ends or one of the two breaks off.

        A client that fails closes the backend's connection, so the request is cut there and never looks complete. A backend
        that takes no more may have answered already: that is for the reader to find out.
        """
        wire, body = self._wire, self._body
        try:
            while piece := body.lend():
                wire.send_now(piece if body.length is not None else chunk(bytes(piece)), self._send_s)
            if body.length is None:
                wire.send_now(last_chunk(body.trailers), self._send_s)
            self.done = True
            if self._on_sent is not None:
                self._on_sent()
            wire.expect_within(self._first_byte_s)
        except EdgeError as error:
            self._fail(error)
        except WireTimeout:
            self._fail(BackendTimeout(TOOK_NOTHING))
        except OSError:
            wire.expect_within(self._first_byte_s)
        except Exception:
            self._fail(EdgeError("The request body could not be sent on."))  # whoever waits must not wait for ever
            raise
