"""An answer on its way to a client of HTTP/2: its head goes out together with the first bytes of its body."""

from __future__ import annotations

from smartedge.http.headers import without_length
from smartedge.http2.fields import encode_lines, encode_status, encode_trailers
from smartedge.http2.frames import INTERNAL_ERROR
from smartedge.http2.stream import Stream
from smartedge.server.answer import AnswerWriter
from smartedge.server.front import Front
from smartedge.server.incoming import Incoming


class StreamWriter(AnswerWriter):
    """Writes the answer to the request of one stream; owned by its `StreamHandler`, called as an AnswerWriter is.

    incoming: the stream's own, for the request alone. The end of a stream says what HTTP/1.1 says with lengths and chunks.
    """

    __slots__ = ("_stream",)

    def __init__(self, stream: Stream, incoming: Incoming, front: Front, idle_s: float) -> None:
        super().__init__(incoming, front, idle_s)
        self._stream = stream

    @property
    def takes_pipes(self) -> bool:
        """Whether `write` takes Pipes: a stream is made of frames."""
        return False

    def begin_answer(
        self,
        status: int,
        status_line: bytes,
        block: bytes,
        length: int | None,
        dated: bool,
        body: bytes | memoryview | None = None,
        added: bytes = b"",
    ) -> None:
        """Make an answer's head, which goes out with the first bytes of its body; see `AnswerWriter`."""
        request = self._incoming.request
        assert request is not None
        self._left = 0 if request.method == b"HEAD" or status in (204, 304) else length
        self.head = encode_status(status) + encode_lines(block + added + self._missing(block, dated))
        if body is not None:
            self._give_whole(body)

    def send_interim(self, status: int, status_line: bytes, block: bytes) -> None:
        """Pass a 1xx on (RFC 9113 section 8.1); never a 101, which HTTP/2 has not."""
        if status != 101 and self._takes_interim(status):
            self._stream.send_head(encode_status(status) + encode_lines(without_length(block)), self._idle_s)

    def finish_answer(self) -> None:
        """Send what is still missing of a complete answer, its trailers or its end; less than was promised is cut off."""
        if self._left:
            self.cut_answer()
        elif self.head is not None:
            head, self.head, self.head_sent = self.head, None, True
            self._stream.send_head(head, self._idle_s, end=not self.trailers)
            self._end()
        else:
            self._end()

    def _end(self) -> None:
        if self._stream.is_done:
            return
        block = encode_trailers(self.trailers) if self.trailers else b""
        if block:
            self._stream.send_head(block, self._idle_s, end=True)
        else:
            self._stream.send(b"", self._idle_s, end=True)

    def cut_answer(self) -> None:
        """End an answer that can't be completed so that the client can tell."""
        self._stream.reset(INTERNAL_ERROR, "the answer was cut")

    def _send(self, data: bytes | memoryview) -> None:
        """Send bytes as they are, the head before the first."""
        head, ends = self.head, self._left == 0 and not self.trailers
        if head is not None:
            self.head, self.head_sent = None, True
            self._stream.send_head(head, self._idle_s, bytes(data), end=ends)
        else:
            self._stream.send(data, self._idle_s, end=ends)
