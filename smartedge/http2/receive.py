"""What a peer's frames mean (RFC 9113 sections 5 and 6): its streams and windows, and where it breaks a rule.

A rule of one stream that is broken ends that stream, one of the connection the connection: a front that many clients share is not
cut off from all because of one of them.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from smartedge.http.wire import WireTimeout
from smartedge.http2 import frames as h2
from smartedge.http2.blocks import HeaderBlocks
from smartedge.http2.control import control_frames, set_urgency
from smartedge.http2.fields import check_trailers
from smartedge.http2.frames import LinkError, StreamError
from smartedge.http2.link import Link
from smartedge.http2.stream import Stream, StreamEnded


class Receiver:
    """Reads the frames of one Link; made and run by the link's owner."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._rest = b""
        self._preface = h2.PREFACE if link.is_server else b""
        self._blocks = HeaderBlocks(link.limits.head_bytes, link.limits.headers, link.calm)
        self._head_until = monotonic() + link.limits.head_s  # the preface and the first settings are like a head
        self._is_first = True
        self._on: dict[int, Callable[[int, int, bytes], None]] = {
            h2.DATA: self._on_data,
            h2.HEADERS: self._on_headers,
            h2.RST_STREAM: self._on_rst_stream,
            h2.PUSH_PROMISE: self._on_push_promise,
            h2.WINDOW_UPDATE: self._on_window_update,
            h2.CONTINUATION: self._on_continuation,
            **control_frames(link),
        }

    def run(self, early: bytes = b"") -> None:
        """Read until the connection ends; all its streams have ended then. early: what has been read of the wire already."""
        link = self._link
        end = StreamEnded("The connection has ended.")
        try:
            link.start()
            data = early
            while not link.closed:
                if data:
                    self.receive(data)
                    link.wait_for_room()
                try:
                    data = link.wire.recv(self.patience_s(monotonic()))
                except WireTimeout:
                    if not self.on_silence():
                        break
                    data = b""
                    continue
                if not data:
                    break
        except LinkError as error:
            link.say_last(h2.goaway(link.last_taken if link.is_server else 0, error.code, str(error)))
            end = StreamEnded(str(error), error.code, by_peer=False)
        except OSError:
            pass  # the peer is gone
        finally:
            link.lose(end)

    # ---- time ----

    def patience_s(self, now: float) -> float:
        """How long to wait for the next bytes, in seconds."""
        if self._head_until:
            return max(0.001, self._head_until - now)
        if self._link.is_over:
            return 0.001
        return self._link.limits.silence_s

    def on_silence(self) -> bool:
        """Nothing has come for so long: whether to wait on. Raises LinkError for a head that is not complete in time."""
        link = self._link
        if self._head_until:
            if self._is_first and link.is_server:
                return False  # it has not even begun
            link.calm.exceeded("slow_head")
        if link.streams or link.running:
            link.wire.probe_peer()  # the kernel asks whether there is still somebody
            return True
        link.going = True
        link.say_last(h2.goaway(link.last_taken if link.is_server else 0, h2.NO_ERROR, "idle"))
        return False

    # ---- frames ----

    def receive(self, data: bytes) -> None:
        """Take what has come; raises LinkError."""
        if self._rest:
            data = self._rest + data
        at, size = 0, len(data)
        if self._preface:
            length = min(size, len(self._preface))
            if data[:length] != self._preface[:length]:
                raise LinkError(h2.PROTOCOL_ERROR, "this is not HTTP/2")
            if length < len(self._preface):
                self._rest = data
                return
            at, self._preface = length, b""
        before = at
        while size - at >= 9:
            length = data[at] << 16 | data[at + 1] << 8 | data[at + 2]
            if length > h2.FRAME_BYTES:
                is_old = data[at : at + 5] == b"HTTP/"  # what most often answers where "protocol" is wrong
                raise LinkError(h2.FRAME_SIZE_ERROR, "it answers in HTTP/1" if is_old else f"a frame of {length} bytes")
            end = at + 9 + length
            if end > size:
                break
            kind, flags, stream_id = data[at + 3], data[at + 4], h2.number_in(data[at + 5 : at + 9])
            self._take(kind, flags, stream_id, data[at + 9 : end])
            at = end
        self._rest = data[at:]
        if not (self._blocks.begun_of or self._is_first):
            # A head that has begun to come, be it of a frame's own nine bytes, is to be complete in time.
            begun = len(self._rest) >= 4 and self._rest[3] == h2.HEADERS
            if not begun:
                self._head_until = 0.0
            elif at > before or not self._head_until:  # not the one whose beginning came earlier
                self._head_until = monotonic() + self._link.limits.head_s
        if self._head_until and monotonic() > self._head_until:
            self.on_silence()

    def _take(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        if self._is_first:
            if kind != h2.SETTINGS or flags & h2.ACK:
                raise LinkError(h2.PROTOCOL_ERROR, "the first frame is not SETTINGS")
            self._is_first, self._head_until = False, 0.0
        if self._blocks.begun_of and (kind != h2.CONTINUATION or stream_id != self._blocks.begun_of):
            raise LinkError(h2.PROTOCOL_ERROR, "a frame in the middle of a header block")
        handle = self._on.get(kind)
        if handle is None:
            self._link.calm.take("unknown", monotonic())  # section 4.1: of no meaning, and ignored
            return
        try:
            handle(flags, stream_id, payload)
        except StreamError as error:
            self._broken(stream_id, error)

    def _broken(self, stream_id: int, error: StreamError) -> None:
        """End a stream whose peer has broken a rule; that counts like one that was taken back (CVE-2025-8671)."""
        link = self._link
        stream = link.streams.get(stream_id)
        if stream is not None:
            link.reset(stream, error.code, str(error))
        else:
            link.note_reset(stream_id)
            link.say(h2.rst_stream(stream_id, error.code))
        link.taken_back()

    def _stream(self, stream_id: int, what: str) -> Stream | None:
        """Give an open stream; None for one that is over. Raises LinkError for one that never was."""
        link = self._link
        stream = link.streams.get(stream_id)
        if stream is None and (stream_id == 0 or self._is_unused(stream_id)):
            raise LinkError(h2.PROTOCOL_ERROR, f"{what} on stream {stream_id}, which is not open")
        return stream

    def _is_unused(self, stream_id: int) -> bool:
        return stream_id > self._link.highest or stream_id % 2 == 0

    # ---- heads ----

    def _on_headers(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id == 0 or stream_id % 2 == 0:
            raise LinkError(h2.PROTOCOL_ERROR, "HEADERS on a stream that no client may open")
        fragment = h2.without_padding(flags, payload)
        depends_on = -1
        if flags & h2.WITH_PRIORITY:
            if len(fragment) < 5:
                raise LinkError(h2.FRAME_SIZE_ERROR, "HEADERS without the priority that it announces")
            depends_on = h2.number_in(fragment)
            fragment = fragment[5:]
        if flags & h2.END_HEADERS:
            self._on_block(flags, stream_id, fragment)
        else:
            if depends_on == stream_id:
                raise LinkError(h2.PROTOCOL_ERROR, "a stream that depends on itself")
            self._blocks.begin(stream_id, flags, fragment)
            self._head_until = monotonic() + self._link.limits.head_s
        if depends_on == stream_id:
            raise StreamError(h2.PROTOCOL_ERROR, "a stream that depends on itself")

    def _on_continuation(self, flags: int, stream_id: int, payload: bytes) -> None:
        blocks = self._blocks
        if not blocks.begun_of:
            raise LinkError(h2.PROTOCOL_ERROR, "CONTINUATION without HEADERS")
        blocks.go_on(payload)
        if flags & h2.END_HEADERS:
            self._head_until = 0.0
            self._on_block(blocks.flags, stream_id, blocks.take())

    def _on_block(self, flags: int, stream_id: int, block: bytes) -> None:
        link = self._link
        pairs = self._blocks.decode(block)
        stream, ends = link.streams.get(stream_id), bool(flags & h2.END_STREAM)
        if stream is not None:
            if stream.has_ended:
                raise StreamError(h2.STREAM_CLOSED, "HEADERS behind the end of the stream")
            if stream.on_head is not None:
                stream.on_head(pairs)
                if ends:
                    self._end(stream)
                return
            if not ends:
                raise StreamError(h2.PROTOCOL_ERROR, "trailers that are not the end")
            check_trailers(pairs)
            stream.trailers = pairs
            self._end(stream)
            return
        if not link.is_server:
            if self._is_unused(stream_id):
                raise LinkError(h2.PROTOCOL_ERROR, "HEADERS on a stream that was not opened")
            return
        if stream_id <= link.highest:
            if stream_id not in link.resets:
                raise LinkError(h2.STREAM_CLOSED, "HEADERS on a stream that is over")
            link.calm.take("closed_stream", monotonic())
            return
        link.highest = stream_id
        if link.closing or link.running >= link.limits.streams:
            link.note_reset(stream_id)
            link.say(h2.rst_stream(stream_id, h2.REFUSED_STREAM))
            link.calm.take("refused", monotonic())
            return
        stream = link.add(stream_id)
        stream.pairs = pairs
        stream.has_ended = ends
        for name, value in pairs:
            if name == b"priority":
                set_urgency(stream, value)
        link.on_stream(stream)

    def _end(self, stream: Stream) -> None:
        if stream.length is not None and stream.received_bytes != stream.length:
            raise StreamError(h2.PROTOCOL_ERROR, "a body that is not as long as its content-length")
        stream.end()
        self._link.end_if_done(stream)

    # ---- bodies ----

    def _on_data(self, flags: int, stream_id: int, payload: bytes) -> None:
        link, size = self._link, len(payload)
        stream = self._stream(stream_id, "DATA")
        link.recv_window -= size
        if link.recv_window < 0:
            raise LinkError(h2.FLOW_CONTROL_ERROR, "more than the connection's window")
        data = h2.without_padding(flags, payload)
        ends = flags & h2.END_STREAM
        if not data and not ends:
            link.calm.take("empty_data", monotonic())
        if stream is None:
            link.returned(size)
            if stream_id not in link.resets:
                raise LinkError(h2.STREAM_CLOSED, "DATA on a stream that is over")
            link.calm.take("closed_stream", monotonic())
            return
        if stream.has_ended:
            link.returned(size)
            raise StreamError(h2.STREAM_CLOSED, "DATA behind the end of the stream")
        if stream.on_head is not None:
            link.returned(size)
            raise StreamError(h2.PROTOCOL_ERROR, "DATA before the head of the answer")
        stream.recv_window -= size
        if stream.recv_window < 0:
            link.returned(size)
            raise StreamError(h2.FLOW_CONTROL_ERROR, "more than the stream's window")
        if size > len(data):
            link.returned(size - len(data))
            stream.owe(size - len(data))
        if stream.length is not None and stream.received_bytes + len(data) > stream.length:
            link.returned(len(data))
            raise StreamError(h2.PROTOCOL_ERROR, "a body that is longer than its content-length")
        stream.feed(data)
        if ends:
            self._end(stream)

    def _on_window_update(self, _flags: int, stream_id: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise LinkError(h2.FRAME_SIZE_ERROR, "WINDOW_UPDATE has four bytes")
        link, size = self._link, h2.number_in(payload)
        link.calm.take("window_update", monotonic())
        if stream_id == 0:
            if size == 0:
                raise LinkError(h2.PROTOCOL_ERROR, "a window that is opened by nothing")
            link.send_window += size
            if link.send_window > h2.MOST_WINDOW:
                raise LinkError(h2.FLOW_CONTROL_ERROR, "a window of 2 GiB and more")
            link.window_opened()
            return
        stream = self._stream(stream_id, "WINDOW_UPDATE")
        if stream is None:
            return
        if size == 0:
            raise StreamError(h2.PROTOCOL_ERROR, "a window that is opened by nothing")
        stream.send_window += size
        if stream.send_window > h2.MOST_WINDOW:
            raise StreamError(h2.FLOW_CONTROL_ERROR, "a window of 2 GiB and more")
        if stream.opened is not None:
            stream.opened.set()

    # ---- ends ----

    def _on_rst_stream(self, _flags: int, stream_id: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise LinkError(h2.FRAME_SIZE_ERROR, "RST_STREAM has four bytes")
        stream = self._stream(stream_id, "RST_STREAM")
        link = self._link
        if stream is None:
            link.calm.take("reset", monotonic())
            return
        link.reset_by_peer(stream, h2.number_in(payload))

    def _on_push_promise(self, _flags: int, _stream_id: int, _payload: bytes) -> None:
        raise LinkError(h2.PROTOCOL_ERROR, "PUSH_PROMISE, which nobody has allowed")
