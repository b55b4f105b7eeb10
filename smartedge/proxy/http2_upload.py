"""A request's body on its way to a backend that speaks HTTP/2, while its answer may come already."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gevent

from smartedge.balancer.errors import BackendTimeout, EdgeError
from smartedge.http.request import Body
from smartedge.http.wire import WireTimeout
from smartedge.http2.fields import encode_trailers
from smartedge.http2.stream import Stream, StreamEnded
from smartedge.proxy.upload import TOOK_NOTHING


class Http2Upload:
    """Sends a body on a stream, in a greenlet of its own; made and ended by its BackendStream.

    whole: the body, where all of it is here. send_s: the longest that the backend may take nothing. on_sent: called when it is
    out. fail: ends the stream with an error, for whoever waits there for an answer. done: all of it has been sent.
    """

    __slots__ = (
        "_body",
        "_fail",
        "_greenlet",
        "_is_abandoned",
        "_is_reading",
        "_on_sent",
        "_send_s",
        "_stream",
        "_whole",
        "done",
    )

    def __init__(
        self,
        stream: Stream,
        body: Body,
        whole: bytes | None,
        send_s: float,
        on_sent: Callable[[], None] | None,
        fail: Callable[[EdgeError], None],
    ) -> None:
        self._stream = stream
        self._body = body
        self._whole = whole
        self._send_s = send_s
        self._on_sent = on_sent
        self._fail = fail
        self._is_reading = True  # or has not begun, which comes to the same: to end it harms nobody
        self.done = self._is_abandoned = False
        self._greenlet: Any = gevent.spawn(self._run)

    def abandon(self) -> None:
        """Read no more from the client. In the middle of a write the stream's end stops it: the connection is others', too."""
        self._is_abandoned = True
        if self._is_reading:
            self._greenlet.kill(block=False)

    def _run(self) -> None:
        stream, body = self._stream, self._body
        self._is_reading = False
        try:
            piece = self._read() if self._whole is None else self._whole
            while piece:
                is_last = body.complete and not body.trailers
                stream.send(piece, self._send_s, end=is_last)
                piece = b"" if is_last else self._read()
            self._end()
            self.done = True
            if self._on_sent is not None:
                self._on_sent()
        except EdgeError as error:
            self._fail(error)
        except WireTimeout:
            self._fail(BackendTimeout(TOOK_NOTHING))
        except OSError:
            pass  # StreamEnded among them: that is for the reader to find out, who may have an answer already
        except Exception:
            self._fail(EdgeError("The request body could not be sent on."))  # whoever waits must not wait for ever
            raise
        finally:
            stream.wake()

    def _read(self) -> bytes:
        if self._whole is not None:
            return b""
        if self._is_abandoned:
            raise StreamEnded("What comes next is for another try.")
        self._is_reading = True
        try:
            return self._body.read()
        finally:
            self._is_reading = False

    def _end(self) -> None:
        stream = self._stream
        if stream.is_done:
            return
        block = encode_trailers(self._body.trailers)
        if block:
            stream.send_head(block, self._send_s, end=True)
        else:
            stream.send(b"", self._send_s, end=True)
