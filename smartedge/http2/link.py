"""One HTTP/2 connection, at either end (RFC 9113): streams side by side on a wire, each as fast as its two ends are.

    wire ──recv──▶ Receiver.run ──▶ Stream: body, trailers ──▶ its greenlet
    wire ◀──send── Link, by the greenlet whose turn it is, with what all have to say meanwhile

One greenlet reads (receive.py). Whoever has something to send writes it itself while nobody else does; else it waits for its
turn, TURN_BYTES at a time, those of more urgent streams first (RFC 9218) and the others one after the other. What is held of a
stream is bounded by its window, and of all together by the connection's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf
from time import monotonic
from typing import Any, Final

import gevent
from gevent.event import Event

from smartedge.http.wire import Wire, WireTimeout
from smartedge.http2 import frames as h2
from smartedge.http2.calm import Calm
from smartedge.http2.stream import Stream, StreamEnded
from smartedge.http2.turns import MOST_URGENT, StreamTurns

TURN_BYTES: Final = 65536
"""How much one stream may send while others wait."""

MOST_UNSENT_BYTES: Final = 262144
"""Of frames that wait to be sent to a peer who takes nothing: it is not read either, until it does."""

LAST_WORD_S: Final = 1.0
"""How long the end of a connection waits for the socket to take why."""

RESETS_KEPT: Final = 1000
"""Of so many streams that we have ended, the peer may not have heard yet, and go on sending."""


@dataclass(frozen=True, slots=True)
class LinkLimits:
    """What a peer may have us hold and do. streams: open at once. window_bytes: of a body that nobody has read yet, of a stream;
    link_window_bytes: of all together. head_bytes: of a head, as its fields are counted in HTTP/1.1. headers: fields of a head,
    0 for any number. silence_s: between two requests. head_s: until a head is complete.
    """

    streams: int = 100
    window_bytes: int = 262144
    link_window_bytes: int = 1048576
    head_bytes: int = 65536
    headers: int = 0
    head_s: float = 10.0
    silence_s: float = 75.0
    settings: dict[int, int] = field(default_factory=dict)


class Link:
    """One connection; made by its owner, the server's `Http2Connection` or the way to a backend, and run by a `Receiver`.

    is_server: the peer is the client. on_stream: told of a stream that the peer has opened, with its head (servers alone).
    on_excess: told of what kind of frame there were too many. on_end: told when the connection has ended.

    streams: those that are open. running: so many are worked on; the owner counts. highest: the last that was opened. going:
    the peer wants no more of ours. closing: we take no more of its. peer_streams: so many may be open, says the peer;
    peer_settled: it has said so. failure: what streams are told at the end.
    """

    def __init__(
        self,
        wire: Wire,
        limits: LinkLimits,
        *,
        is_server: bool,
        on_stream: Callable[[Stream], None] = lambda _: None,
        on_excess: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.wire = wire
        self.limits = limits
        self.is_server = is_server
        self.streams: dict[int, Stream] = {}
        self.running = 0
        self.highest = 0
        self.last: int | None = None  # of the peer's that is taken, once it has been told
        self.going = self.closing = self.closed = False
        self.failure: StreamEnded | None = None
        self.send_window = 65535
        self.recv_window = limits.link_window_bytes
        self.first_window = 65535
        self.frame_bytes = h2.FRAME_BYTES
        self.peer_streams = inf
        self.peer_settled = Event()
        self.on_end: Callable[[], None] = lambda: None
        self.on_stream = on_stream
        self.calm = Calm(monotonic(), on_excess, is_lenient=not is_server)
        self.resets: dict[int, None] = {}
        self._owed = 0
        self._pending: list[bytes] = []
        self._turns = StreamTurns()
        self._is_first_head = True
        self._flusher: Any = None
        self._room = Event()
        self._opened_at = 0.0  # when the peer last opened the connection's window

    # ---- the connection ----

    def start(self) -> None:
        """Say our settings, behind the preface where we are the client."""
        limits = self.limits
        said = {h2.INITIAL_WINDOW_SIZE: limits.window_bytes, h2.MAX_HEADER_LIST_SIZE: limits.head_bytes, **limits.settings}
        if self.is_server:
            said[h2.MAX_CONCURRENT_STREAMS] = limits.streams
        else:
            said[h2.ENABLE_PUSH] = 0
        preface = b"" if self.is_server else h2.PREFACE
        more = limits.link_window_bytes - 65535
        self.say(preface + h2.settings(said) + h2.window_update(0, more))

    def lose(self, failure: StreamEnded) -> None:
        """End the connection and all its streams."""
        if self.closed:
            return
        self.closed = True
        self.failure = failure
        for stream in list(self.streams.values()):
            stream.fail(self.failure)
        self.streams.clear()
        self.peer_settled.set()
        self._turns.end()
        self.on_end()

    def say_last(self, data: bytes) -> None:
        """Say why the connection ends, if the socket takes it soon."""
        try:
            if self._turns.are_taken:
                self._turns.wait(MOST_URGENT, LAST_WORD_S)
            self.wire.send_now(b"".join([*self._pending, data]), LAST_WORD_S)
        except (OSError, WireTimeout):
            pass
        self._pending.clear()

    # ---- streams ----

    @property
    def last_taken(self) -> int:
        """What a GOAWAY says: it may never be more than an earlier one said (RFC 9113 section 6.8)."""
        return self.highest if self.last is None else self.last

    @property
    def is_over(self) -> bool:
        """Whether one side wants no more streams, and the last has ended: nothing is left to wait for."""
        return (self.going or self.closing) and not self.running and not self.streams

    @property
    def half_window_bytes(self) -> int:
        """How much of a stream's body is read before the peer is told to go on."""
        return self.limits.window_bytes // 2

    def add(self, stream_id: int) -> Stream:
        """Make a stream; of the peer's, or of ours."""
        stream = self.streams[stream_id] = Stream(self, stream_id, self.first_window, self.limits.window_bytes)
        return stream

    @property
    def has_room(self) -> bool:
        """Whether one more stream of ours may be opened (clients alone)."""
        return (
            not (self.going or self.closed)
            and len(self.streams) < min(self.peer_streams, self.limits.streams)
            and self.highest < h2.MOST_WINDOW - 1
        )

    def open_stream(self) -> Stream:
        """Make a stream of ours. Its head has to be sent before anything waits: they open in order. Raises StreamEnded."""
        self._check_open()
        self.highest += 2 if self.highest else 1
        return self.add(self.highest)

    def reset(self, stream: Stream, code: int, why: str) -> None:
        """End a stream with RST_STREAM, which the peer may not have heard of for a while."""
        if self.streams.pop(stream.id, None) is None:
            return
        self.note_reset(stream.id)
        stream.is_done = True
        self.say(h2.rst_stream(stream.id, code))
        stream.fail(StreamEnded(why, code, by_peer=False))

    def reset_by_peer(self, stream: Stream, code: int) -> None:
        """End a stream as the peer has; raises LinkError where it has done so too often."""
        del self.streams[stream.id]
        self.note_reset(stream.id)
        was_done, stream.is_done = stream.is_done, True
        if stream.has_ended and not self.is_server:
            stream.stop()  # its answer is whole, and it wants no more of the request (RFC 9113 section 8.1)
            return
        stream.fail(StreamEnded(f"The peer has ended the stream ({h2.name_of(code)}).", code))
        if not was_done:
            self.taken_back()

    def note_reset(self, stream_id: int) -> None:
        """Remember that frames of a stream may still come, and mean nothing."""
        self.resets[stream_id] = None
        if len(self.resets) > RESETS_KEPT:
            del self.resets[next(iter(self.resets))]

    def end_if_done(self, stream: Stream) -> None:
        """Forget a stream on which both sides have said all."""
        if stream.is_done and self.streams.get(stream.id) is stream:
            if stream.has_ended:
                del self.streams[stream.id]
                if self.is_server:
                    stream.drop()  # where we are the client, somebody is about to read it
                self.calm.answered()
            elif self.is_server:
                stream.on_gone = None  # it has its answer: nobody has left
                self.reset(stream, h2.NO_ERROR, "answered before the request was complete")  # RFC 9113 section 8.1

    def go(self, last: int) -> None:
        """The peer looks at no stream of ours behind this one, and ends when the others are over (RFC 9113 section 6.8)."""
        self.going = True
        if not self.is_server:
            for stream in [one for one in self.streams.values() if one.id > last]:
                del self.streams[stream.id]
                stream.fail(StreamEnded("The server has not looked at it.", h2.REFUSED_STREAM))

    def taken_back(self) -> None:
        """Count a stream that has ended before its answer; raises LinkError where these are too many."""
        self.calm.take_back(monotonic())

    def returned(self, size: int) -> None:
        """Let the peer send as much again, over all streams, as has been read or thrown away."""
        self._owed += size
        if self._owed * 4 >= self.limits.link_window_bytes:
            owed, self._owed = self._owed, 0
            self.recv_window += owed
            self.say(h2.window_update(0, owed))

    # ---- sending ----

    def say(self, data: bytes) -> None:
        """Send frames that need no window, soon: waits for nothing."""
        if self.closed:
            return
        self._pending.append(data)
        self._flush_soon()

    def _flush_soon(self) -> None:
        if self._pending and not self._turns.are_taken and self._flusher is None:
            self._flusher = gevent.spawn(self._flush_now)

    def _flush_now(self) -> None:
        self._flusher = None
        if self._pending and not self._turns.are_taken and not self.closed:
            self._turns.are_taken = True
            try:
                self._flush(self.limits.silence_s)
            except (OSError, WireTimeout):
                pass  # the link is lost, which whoever reads finds out

    def send_head(self, stream: Stream, block: bytes, data: bytes, *, end: bool, timeout_s: float) -> None:
        """Send a head, and the first piece of the body in one write with it; end: nothing comes behind."""
        self._check(stream)
        if self._is_first_head:
            self._is_first_head = False
            block = h2.NO_TABLE + block
        whole = not data
        self._pending.append(h2.header_frames(stream.id, block, self.frame_bytes, end=end and whole))
        if end and whole:
            stream.is_done = True
            self.end_if_done(stream)
        if data and stream.send_window > 0 and self.send_window > 0:
            self.send_data(stream, data, h2.END_STREAM if end else 0, timeout_s)
            return
        if not self._turns.are_taken:
            self._turns.are_taken = True
            self._flush(timeout_s)
        if data:
            self.send_data(stream, data, h2.END_STREAM if end else 0, timeout_s)

    def send_data(self, stream: Stream, data: bytes | memoryview, flags: int, timeout_s: float) -> None:
        """Send a piece of a body; flags: END_STREAM behind the last. Raises StreamEnded, OSError or WireTimeout."""
        left = memoryview(data)
        while True:
            self._check(stream)
            if left:
                self._wait_for_window(stream, timeout_s)
            if self._turns.are_taken:
                self._turns.wait(stream.urgency)
                self._check_open()
                if stream.failure is not None or (left and min(stream.send_window, self.send_window) <= 0):
                    self._flush(timeout_s)  # what others have to say, and then it is the next one's turn
                    continue
            self._turns.are_taken = True
            left = self._put(stream, left, flags)
            self._flush(timeout_s, stream)
            if not left:
                return

    def _put(self, stream: Stream, left: memoryview, flags: int) -> memoryview:
        """Make frames of as much as one turn and the windows allow; return what is left."""
        size = min(len(left), stream.send_window, self.send_window, TURN_BYTES) if left else 0
        stream.send_window -= size
        self.send_window -= size
        stream.sent_at = monotonic()
        pending, most = self._pending, self.frame_bytes
        at = 0
        while True:
            part = min(most, size - at)
            is_last = at + part == len(left)
            pending.append(h2.frame_head(h2.DATA, flags if is_last else 0, stream.id, part))
            if part:
                pending.append(left[at : at + part])  # type: ignore[arg-type]
                self.calm.worked()
            at += part
            if at >= size:
                break
        left = left[size:]
        if flags and not left:
            stream.is_done = True
            self.end_if_done(stream)
        return left

    def _check(self, stream: Stream) -> None:
        if stream.failure is not None:
            raise stream.failure
        if stream.is_done:
            raise StreamEnded("The peer wants no more of it.", h2.NO_ERROR)
        self._check_open()

    def _check_open(self) -> None:
        if self.closed:
            raise self.failure or StreamEnded("The connection has ended.")

    def _wait_for_window(self, stream: Stream, timeout_s: float) -> None:
        until = 0.0
        while stream.send_window <= 0 or self.send_window <= 0:
            now = monotonic()
            until = until or now + timeout_s
            if stream.send_window > 0 and self._opened_at:
                until = max(until, self._opened_at + timeout_s)  # the peer takes what others send meanwhile
            stream.opened = Event()
            if not stream.opened.wait(None if until == inf else max(0.0, until - now)):
                raise WireTimeout("the peer has not opened its window in time")
            stream.opened = None
            self._check(stream)

    def window_opened(self) -> None:
        """Wake those that wait for the connection's window: the urgent first, else in the order in which they began to wait."""
        self._opened_at = monotonic()
        waiting = [stream for stream in self.streams.values() if stream.opened is not None]
        for stream in sorted(waiting, key=lambda one: one.urgency):
            assert stream.opened is not None
            stream.opened.set()

    def wait_for_room(self) -> None:
        """Wait as long as the peer takes nothing, and too much waits to be sent (called by whoever reads)."""
        while self._turns.are_taken and not self.closed and sum(map(len, self._pending)) > MOST_UNSENT_BYTES:
            self._room.clear()
            self._room.wait()

    def _flush(self, timeout_s: float, stream: Stream | None = None) -> None:
        """Send all that waits, and hand the turn on; called by whoever has it, for this stream."""
        try:
            while pending := self._pending:
                data = b"".join(pending)
                pending.clear()
                self.wire.send(data, timeout_s)
                self._room.set()
        except BaseException as error:
            self._turns.are_taken = False
            if self.is_server or not isinstance(error, ConnectionError):
                self.wire.close()  # whoever reads ends the rest
            # else a backend has closed, and may have said before what it has not looked at: that is read first, and then the end
            self._room.set()
            raise
        self._turns.hand_on(stream)
