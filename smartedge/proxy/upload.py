"""A request body on its way to a backend while its client still sends it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from gevent import GreenletExit, get_hub, getcurrent
from gevent.event import Event

from smartedge.balancer.errors import BackendTimeout, EdgeError, OutOfResources
from smartedge.http.chunked import chunk
from smartedge.http.headers import last_chunk
from smartedge.http.pipes import Pipe
from smartedge.http.pipes import send as send_piped
from smartedge.http.request import Body
from smartedge.http.resources import is_own, reason
from smartedge.http.wire import Wire, WireTimeout
from smartedge.server.greenlets import GreenletPool

TOOK_NOTHING: Final = "The backend took no bytes of the request for too long."

_GREENLETS: Final = GreenletPool()
"""Where uploads run: a greenlet made for each takes some 15 µs (docs/performance.md)."""


class Upload:
    """Sends a request body on while the answer is awaited: both directions flow at once; made and ended by its Connection.

    fail: closes the connection with an error, for whoever waits there for an answer.
    """

    __slots__ = ("_abandoned", "_body", "_fail", "_first_byte_s", "_greenlet", "_on_sent", "_send_s", "_stopped", "_wire", "done")

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
        self.done = self._abandoned = False
        self._greenlet: Any = None  # the one that it runs in, while it does
        self._stopped: Event | None = None

    def start(self) -> None:
        """Run soon, in a greenlet of its own."""
        _GREENLETS.spawn(self._run)

    def abandon(self) -> None:
        """Stop reading from the client, and return when that has stopped: the next try, or nobody, has a use for it."""
        self._abandoned = True
        if self._greenlet is not None:
            self._stopped = Event()
            get_hub().loop.run_callback(self._stop)
            self._stopped.wait()

    def _stop(self) -> None:
        if self._greenlet is not None:
            self._greenlet.throw(GreenletExit)

    def _run(self) -> None:
        if self._abandoned:
            return
        self._greenlet = getcurrent()
        try:
            self.run()
        except GreenletExit:
            pass  # abandoned
        finally:
            self._greenlet = None
            if self._stopped is not None:
                self._stopped.set()

    def run(self) -> None:
        """Read from the client and write to the backend until the body ends or one of the two breaks off.

        A client that fails closes the backend's connection, so the request is cut there and never looks complete. A backend
        that takes no more may have answered already: that is for the reader to find out.
        """
        wire, body = self._wire, self._body
        try:
            by_pipe = type(wire) is Wire and body.length is not None
            while piece := body.lend(by_pipe):
                if isinstance(piece, Pipe):
                    send_piped(wire, piece, self._send_s)
                else:
                    wire.send_now(piece if body.length is not None else chunk(piece), self._send_s)
                if self._abandoned:
                    return  # what comes next is for another try
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
        except Exception as error:  # whoever waits must not wait for ever
            if is_own(error):
                self._fail(OutOfResources(f"The edge itself could not send the body on: {reason(error)}.", retry_after_s=1.0))
            else:
                self._fail(EdgeError("The request body could not be sent on."))
            raise
