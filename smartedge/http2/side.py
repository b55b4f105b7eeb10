"""A stream as a tunnel's end: WebSocket over HTTP/2 (RFC 8441)."""

from __future__ import annotations

from smartedge.http2.frames import CANCEL
from smartedge.http2.stream import Stream, StreamEnded


class StreamSide:
    """Gives a tunnel the bytes of a stream, and the stream the tunnel's; made by the `StreamHandler`. See http.Side."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._has_finished = False

    def recv(self, timeout_s: float, _size: int = 0) -> bytes:
        """Wait for bytes; b"" at the end. Raises StreamEnded, which is a ConnectionError, and WireTimeout."""
        try:
            return self._stream.read(timeout_s)
        except StreamEnded:
            if self._has_finished:
                return b""  # our end ended the stream, and nothing broke
            raise

    def send_now(self, data: bytes, timeout_s: float) -> None:
        """Send all of it, as the client's windows allow; raises as `recv` does."""
        self._stream.send(data, timeout_s)

    def finish_sending(self) -> None:
        """Say that nothing more comes, which ends the stream: what the client still says is for nobody."""
        self._has_finished = True
        try:
            self._stream.send(b"", GOODBYE_S, end=True)
        except OSError:
            pass  # it is gone, which says the same

    def break_off(self) -> None:
        """Have the client see that something is missing."""
        self._stream.reset(CANCEL, "the tunnel broke")

    def close(self) -> None:
        """End both directions."""
        self._stream.reset(CANCEL, "the tunnel has ended")


GOODBYE_S = 5.0
