"""One stream of an HTTP/2 connection: what has come on it and waits to be read, and what its writer may still send."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from math import inf
from time import monotonic
from typing import Protocol

from gevent.event import Event

from smartedge.http.wire import WireTimeout
from smartedge.http2.frames import CANCEL, END_STREAM, window_update

Pairs = Sequence[tuple[bytes, bytes]]
"""Fields, pseudo-header fields first."""

USUAL_URGENCY = 3
"""RFC 9218 section 4.1."""


class StreamEnded(ConnectionError):
    """The stream, or its connection, has ended before its time. by_peer: the peer has ended it."""

    def __init__(self, why: str, code: int = CANCEL, *, by_peer: bool = True) -> None:
        super().__init__(why)
        self.code = code
        self.by_peer = by_peer


class StreamLink(Protocol):
    """What a Stream needs of its Link (link.py)."""

    @property
    def half_window_bytes(self) -> int: ...  # noqa: D102
    def say(self, data: bytes) -> None: ...  # noqa: D102
    def returned(self, size: int) -> None: ...  # noqa: D102
    def send_head(self, stream: Stream, block: bytes, data: bytes, *, end: bool, timeout_s: float) -> None: ...  # noqa: D102
    def send_data(self, stream: Stream, data: bytes | memoryview, flags: int, timeout_s: float) -> None: ...  # noqa: D102
    def reset(self, stream: Stream, code: int, why: str) -> None: ...  # noqa: D102


class Stream:
    """One exchange on a Link; made by it, read by one greenlet and written by one.

    pairs: the head that has come last, None before the first. trailers: the fields behind the body. has_ended: the peer sends
    nothing more. is_done: neither do we. failure: what has ended it before its time. on_gone: told of that. on_head: told of a
    head that came after the stream was opened (an answer's, where we are the client). length: what the peer said of its body,
    None for nothing. urgency: 0 goes first, 7 last. sent_at: when a piece of a body went out last, by the monotonic
    clock; 0 before.
    """

    __slots__ = (
        "_arrived",
        "_chunks",
        "_owed",
        "failure",
        "has_ended",
        "id",
        "is_done",
        "length",
        "link",
        "on_gone",
        "on_head",
        "opened",
        "pairs",
        "received_bytes",
        "recv_window",
        "send_window",
        "sent_at",
        "trailers",
        "urgency",
    )

    def __init__(self, link: StreamLink, stream_id: int, send_window: int, recv_window: int) -> None:
        self.link = link
        self.id = stream_id
        self.send_window = send_window
        self.recv_window = recv_window
        self.sent_at = 0.0
        self.pairs: Pairs | None = None
        self.trailers: Pairs = ()
        self.length: int | None = None
        self.received_bytes = 0
        self.has_ended = self.is_done = False
        self.failure: StreamEnded | None = None
        self.on_gone: Callable[[], None] | None = None
        self.on_head: Callable[[Pairs], None] | None = None
        self.urgency = USUAL_URGENCY
        self._chunks: deque[bytes] = deque()
        self._owed = 0  # read, and not yet given back to the peer's window
        self._arrived: Event | None = None
        self.opened: Event | None = None  # set when the window is open again

    # ---- reading ----

    @property
    def at_hand(self) -> bool:
        """Whether `read` would give something, or the end, without waiting."""
        return bool(self._chunks) or self.has_ended or self.failure is not None

    def read(self, timeout_s: float) -> bytes:
        """Wait for the next piece of the body; b"" at its end. Raises StreamEnded when it is cut, WireTimeout when it stalls.

        It has stalled when nothing has gone either way for so long: whoever listens to a body may be silent on its own.
        """
        left_s = timeout_s
        while not self._chunks:
            if self.failure is not None:
                raise self.failure
            if self.has_ended:
                return b""
            try:
                self.wait_for_news(left_s)
            except WireTimeout:
                left_s = self.silence_left_s(timeout_s)
                if left_s <= 0.0:
                    raise
        if len(self._chunks) == 1:
            data = self._chunks.popleft()
        else:
            data = b"".join(self._chunks)
            self._chunks.clear()
        self.link.returned(len(data))
        self.owe(len(data))
        return data

    def silence_left_s(self, idle_s: float) -> float:
        """How much longer the peer may be silent, who has been for idle_s: it may have listened meanwhile."""
        return self.sent_at + idle_s - monotonic()

    def owe(self, size: int) -> None:
        """Let the peer send as much again as has been read, once it is half of the window."""
        self._owed += size
        link = self.link
        if self._owed >= link.half_window_bytes and not self.has_ended:
            owed, self._owed = self._owed, 0
            self.recv_window += owed
            link.say(window_update(self.id, owed))

    @property
    def is_read(self) -> bool:
        """Whether the body has come to its end, and all of it has been read."""
        return self.has_ended and not self._chunks

    def wait_for_news(self, timeout_s: float) -> None:
        """Wait until something comes, or the stream ends; raises WireTimeout."""
        self._arrived = Event()
        if not self._arrived.wait(None if timeout_s == inf else timeout_s):
            raise WireTimeout("nothing was received in time")

    # ---- what its Link has for it ----

    def feed(self, data: bytes) -> None:
        """Take a piece of the body."""
        if data:
            self._chunks.append(data)
            self.received_bytes += len(data)
        self.wake()

    def end(self) -> None:
        """The peer has finished."""
        self.has_ended = True
        self.wake()

    def fail(self, failure: StreamEnded) -> None:
        """End before its time; what has come is of no use then."""
        if self.failure is not None:
            return
        self.failure = failure
        self.drop()
        self.wake()
        if self.opened is not None:
            self.opened.set()
        if self.on_gone is not None:
            self.on_gone()

    def stop(self) -> None:
        """The peer wants no more of what we send; what it has said itself stays."""
        if self.opened is not None:
            self.opened.set()

    def drop(self) -> None:
        """Throw away what nobody reads any more: the window of the connection is for others."""
        self.link.returned(sum(map(len, self._chunks)))
        self._chunks.clear()

    def wake(self) -> None:
        """Have whoever waits for news look again."""
        if self._arrived is not None:
            self._arrived.set()

    # ---- writing ----

    def send_head(self, block: bytes, timeout_s: float, data: bytes = b"", *, end: bool = False) -> None:
        """Send an encoded header block, and the first piece of the body; raises StreamEnded, OSError or WireTimeout."""
        self.link.send_head(self, block, data, end=end, timeout_s=timeout_s)

    def send(self, data: bytes | memoryview, timeout_s: float, *, end: bool = False) -> None:
        """Send a piece of the body, as fast as the windows allow it; raises StreamEnded, OSError or WireTimeout."""
        self.link.send_data(self, data, END_STREAM if end else 0, timeout_s)

    def reset(self, code: int = CANCEL, why: str = "ended by this side") -> None:
        """End it at once, both ways; nothing when it is over."""
        self.link.reset(self, code, why)
